//! Many tenants whose backups are all due at the same minute: real controllers, simulated nodes.

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
    runtime::watcher::{Config, Event, watcher},
};
use marketrelay_api::labels;

use ledger::Ledger;
use plane::Plane;
use reports::Reports;

const TENANTS: usize = 500;
const SITES: usize = 2;
/// Places at each store.
const MOST: usize = 10;
/// Between two ticks of the schedule.
const INTERVAL: Duration = Duration::from_secs(60);

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
    let namespaces = tenants::namespaces(TENANTS);
    tenants::make(&plane.client, &namespaces).await;
    println!("{TENANTS} tenants made in {:.0} s", began.elapsed().as_secs_f64());
    let all_had_turns = || {
        let turns = &seen.ledger.borrow().turns;
        turns.len() == TENANTS * SITES && turns.values().all(|turns| turns.ended > 0)
    };
    let limit = Duration::from_secs(300);
    let is_done = wait(plane, seen, limit, all_had_turns).await;
    println!("{:.0} s", began.elapsed().as_secs_f64());
    show(&seen.ledger.borrow());
    assert!(is_done);
    tenants::suspend(&plane.client, &namespaces).await;
    assert!(wait(plane, seen, 2 * INTERVAL, || seen.ledger.borrow().unended() == 0).await, "all end");
    println!("{:.0} s", began.elapsed().as_secs_f64());
    let settling = Instant::now();
    while let Some(difference) = { let reports = seen.reports.borrow(); reports.difference(&plane.client).await } {
        assert!(settling.elapsed() < Duration::from_secs(30), "{difference}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(seen.reports.borrow().count(), seen.ledger.borrow().succeeded.len());
    show(&seen.ledger.borrow());
}

/// Whether it came true within the limit.
async fn wait(plane: &Plane, seen: &Seen, limit: Duration, is_true: impl Fn() -> bool) -> bool {
    let (began, mut shown) = (Instant::now(), Instant::now());
    while began.elapsed() < limit {
        if is_true() {
            return true;
        }
        plane.servers.check().expect("servers that run");
        if shown.elapsed() > Duration::from_secs(15) {
            shown = Instant::now();
            show(&seen.ledger.borrow());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    is_true()
}

fn show(ledger: &Ledger) {
    let without = ledger.turns.values().filter(|turns| turns.ended == 0).count();
    let mut turns: Vec<_> = ledger.turns.values().map(|turns| turns.ended).collect();
    turns.sort_unstable();
    println!(
        "places {}, without a turn {without}, turns {:?}..{:?}, dropped {}, most waiting {}, used {:.2}",
        ledger.turns.len(), turns.first(), turns.last(), ledger.dropped, ledger.most_waiting, ledger.used()
    );
    for (address, store) in &ledger.stores {
        let mut held: Vec<_> = store.held.iter().map(Duration::as_secs_f64).collect();
        held.sort_by(f64::total_cmp);
        let span = store.released.first().map_or(0.0, |first| first.elapsed().as_secs_f64());
        println!("  {address}: released {} in {span:.0} s, highest {}, held {:?} {:?} {:?}", store.released.len(), store.highest,
            held.first(), held.get(held.len() / 2), held.last());
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
