//! Many tenants whose backups are all due at the same minute: real controllers, simulated nodes.

mod figures;
#[path = "../installed.rs"]
mod installed;
mod ledger;
mod plane;
mod reports;
mod tenants;

use std::{
    cell::RefCell,
    pin::pin,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::Either};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, Client,
    api::ListParams,
    runtime::watcher::{Config, Event, watcher},
};
use marketrelay_api::{MarketplaceConnection, labels};

use ledger::Ledger;
use plane::Plane;
use reports::Reports;

const TENANTS: usize = 500;
const SITES: usize = 2;
/// Places at each store.
const MOST: usize = 10;
/// Between two ticks of the schedule.
const INTERVAL: Duration = Duration::from_mins(1);
/// Of the places at a store, while Jobs wait for one.
const LEAST_USED: f64 = 0.5;
/// Nothing takes so long that doesn't hang.
const HANGS: Duration = Duration::from_mins(20);

/// What is seen of them.
struct Seen {
    ledger: RefCell<Ledger>,
    reports: RefCell<Reports>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_tenants_every_minute_make_no_storm_none_starves_and_each_is_told_its_own() {
    let plane = Plane::start().await;
    let config = format!(
        "{{relay: {{image: 'registry.example/relay:1'}}, backup: {{image: 'registry.example/backup:1', concurrentRuns: {MOST}, \
         onSite: {{s3: {{endpoint: 'https://s3.site.example:9000', bucket: backups, region: us-east-1}}}}, \
         offSite: {{s3: {{bucket: far, region: eu-central-1}}}}}}}}"
    );
    let operator = plane.operator(&config).await;
    let seen = Seen { ledger: RefCell::new(Ledger::new(MOST)), reports: RefCell::default() };
    let (jobs, pods) = (watch_jobs(&plane.client, &seen), watch_pods(&plane.client, &seen));
    let scenario = async {
        scenario(&plane, &seen).await;
        assert!(!operator.has_ended(), "the operator has ended");
    };
    let watching = pin!(futures::future::join(jobs, pods));
    match futures::future::select(watching, pin!(scenario)).await {
        Either::Left(_) => panic!("the watches have ended"),
        Either::Right(((), _)) => {}
    }
}

async fn scenario(plane: &Plane, seen: &Seen) {
    let began = Instant::now();
    let step = |done: &str| println!("after {:.0} s: {done}", began.elapsed().as_secs_f64());
    let namespaces = tenants::namespaces(TENANTS);
    tenants::make(&plane.client, &namespaces).await;
    step("all tenants are made");
    until(plane, "every connection has CronJobs", async || tenants::built(&plane.client).await == TENANTS)
        .await;
    step("every connection has CronJobs");
    tenants::suspend(&plane.client, &namespaces, false).await;
    let all = async || seen.ledger.borrow().turns.len() == TENANTS * SITES;
    until(plane, "every tenant has Jobs at both sites", all).await;
    step("every tenant has Jobs at both sites");
    until(plane, "every tenant had a turn at both sites", async || {
        let ledger = seen.ledger.borrow();
        let is_done = ledger.turns.values().all(|turns| turns.ended > 0);
        if is_done || ledger.stores.values().any(|store| store.held.len() < MOST) {
            return is_done;
        }
        // Its Job may just have been deleted when its turn comes, and the next one is a tick away.
        let (longest, limit) = (ledger.longest_wait(Instant::now()), ledger.round(TENANTS) + 2 * INTERVAL);
        assert!(
            longest <= limit,
            "a tenant waits for {longest:?} where {limit:?} are enough for all\n{}",
            figures::of(&ledger)
        );
        false
    })
    .await;
    step("every tenant had a turn at both sites");
    tenants::suspend(&plane.client, &namespaces, true).await;
    until(plane, "no Job waits or is at work", async || seen.ledger.borrow().unended() == 0).await;
    step("no Job waits or is at work any more");
    told(plane, seen).await;
    step("every connection tells what its own Jobs reported");
    let ledger = seen.ledger.borrow();
    println!("{}", figures::of(&ledger));
    assert!(ledger.stores.len() == SITES && ledger.stores.values().all(|store| store.highest == MOST));
    assert!(
        ledger.used() >= LEAST_USED,
        "places stay empty while Jobs wait: {:.2} of them are taken",
        ledger.used()
    );
}

/// Every report has arrived, at its own connection.
async fn told(plane: &Plane, seen: &Seen) {
    let (began, limit) = (Instant::now(), Duration::from_mins(1));
    loop {
        let connections = list(&plane.client).await;
        let difference = seen.reports.borrow().difference(&connections);
        // A pod is seen before its Job is.
        let missing = seen.reports.borrow().count().abs_diff(seen.ledger.borrow().succeeded.len());
        if difference.is_none() && missing == 0 {
            return;
        }
        assert!(began.elapsed() < limit, "{missing} Jobs haven't reported; {difference:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn list(client: &Client) -> Vec<MarketplaceConnection> {
    let all = Api::<MarketplaceConnection>::all(client.clone());
    all.list(&ListParams::default()).await.expect("connections").items
}

async fn until(plane: &Plane, what: &str, is_true: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !is_true().await {
        plane.servers.check().expect("servers that run");
        assert!(began.elapsed() < HANGS, "{what}: not within {HANGS:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn watch_jobs(client: &Client, seen: &Seen) {
    let of_backups = Config::default().labels(&format!("{}={}", labels::COMPONENT, labels::BACKUP));
    let mut events = pin!(watcher(Api::<Job>::all(client.clone()), of_backups));
    while let Some(event) = events.next().await {
        let mut ledger = seen.ledger.borrow_mut();
        match event.expect("an unbroken watch") {
            Event::Init | Event::InitDone => {}
            Event::InitApply(job) => panic!("a Job from before, or the watch was broken: {job:?}"),
            Event::Apply(job) => ledger.saw(&job, Instant::now()),
            Event::Delete(job) => ledger.gone(&job, Instant::now()),
        }
    }
}

async fn watch_pods(client: &Client, seen: &Seen) {
    let of_backups = Config::default().labels(&format!("{}={}", labels::COMPONENT, labels::BACKUP));
    let mut events = pin!(watcher(Api::<Pod>::all(client.clone()), of_backups));
    while let Some(event) = events.next().await {
        if let Event::Apply(pod) | Event::InitApply(pod) = event.expect("an unbroken watch") {
            seen.reports.borrow_mut().saw(&pod);
        }
    }
}
