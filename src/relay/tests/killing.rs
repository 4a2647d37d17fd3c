//! SIGKILL at any moment: nothing is lost, nothing is stored twice, no id changes.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use jiff::Timestamp;
use marketrelay_keyring::Digest;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::common::{CLIENT, Control, ID, Mounts, Process, bol, ebay, sandbox_with};

const KILLS: u32 = 18;
const ORDERS: u32 = 240;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ebay_every_order_survives_kills_at_random_moments() {
    killed("ebay", "client-ebay").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_bol_every_order_survives_kills_at_random_moments() {
    killed("bol", CLIENT).await;
}

async fn killed(marketplace: &str, client: &str) {
    let seed = std::env::var("SEED").map_or_else(|_| rand::random(), |text| text.parse().expect("SEED"));
    println!("to repeat: SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let bol_orders = if marketplace == "bol" { ORDERS } else { 0 };
    let sandbox = sandbox_with([0, ORDERS, bol_orders]).await;
    let control = Control::new(&sandbox);
    let mounts = Mounts::new(&sandbox, if marketplace == "bol" { bol() } else { ebay() });
    for _ in 0..KILLS {
        load(&control, marketplace, client, &mut rng).await;
        let target = if rng.random() { "customer/acme" } else { marketplace };
        let calls = control.calls(target).await + rng.random_range(0..3);
        let relay = mounts.spawn();
        if rng.random() {
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..2_500))).await;
        } else {
            busy(&control, target, calls).await;
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..30))).await;
        }
        relay.kill().await;
    }
    control.post("faults", json!({"target": "customer/acme"})).await;
    control.post("faults", json!({"target": marketplace})).await;
    let relay = mounts.spawn();
    settled(&control, client, &relay).await;
    assert!(relay.terminate(Duration::from_secs(25)).await.success());
    destination_is_right(&control).await;
    database_is_right(&control, &mounts, marketplace, client).await;
}

/// Waits for a moment at which there is something to interrupt; not for long, it needn't come.
async fn busy(control: &Control, target: &str, calls: u64) {
    let start = Instant::now();
    while control.calls(target).await <= calls && start.elapsed() < Duration::from_secs(4) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// More orders, changed orders, and trouble on both sides.
async fn load(control: &Control, marketplace: &str, client: &str, rng: &mut StdRng) {
    control.post(&format!("accounts/{client}/orders"), json!({"count": rng.random_range(1..12)})).await;
    let orders = control.orders(client).await;
    // Bol.com tells returns elsewhere, and parts of a line not at all.
    let states = ["shipped", "cancelled", "partiallyShipped", "refunded"];
    let known = if marketplace == "bol" { 2 } else { 4 };
    for _ in 0..rng.random_range(1..6) {
        let order = &orders[rng.random_range(0..orders.len())];
        let state = states[rng.random_range(0..known)];
        let number = order["number"].as_str().expect("a number");
        control.post(&format!("accounts/{client}/orders/{number}"), json!({"state": state})).await;
    }
    let soon = |status| json!({"kind": "status", "status": status, "retryAfter": 1});
    let faults = [
        soon(500),
        soon(429),
        soon(503),
        json!({"kind": "timeout", "seconds": 1}),
        json!({"kind": "halfBody"}),
    ];
    for target in ["customer/acme", marketplace] {
        let fault = &faults[rng.random_range(0..faults.len())];
        // Half a body is a marketplace's fault: a destination's isn't read.
        let calls = rng.random_range(0..3);
        if calls > 0 && (target == marketplace || fault["kind"] == "status") {
            control.post("faults", json!({"target": target, "fault": fault, "calls": calls})).await;
        }
    }
}

/// Waits until the customer has every order as the marketplace has it.
async fn settled(control: &Control, client: &str, relay: &Process) {
    let start = Instant::now();
    loop {
        let received = control.received().await;
        let mut missing = Vec::new();
        for order in control.orders(client).await {
            let number = order["number"].as_str().expect("a number");
            let newest = received.get(number);
            if newest.is_none_or(|(_, status)| status != told(&order)) {
                missing.push(format!("{number}: {} here, {newest:?} there", order["state"]));
            }
        }
        if missing.is_empty() {
            return;
        }
        if start.elapsed() > Duration::from_mins(2) {
            let (summary, log) = (control.get("customers/acme").await, relay.log());
            let troubles: Vec<_> = log.lines().filter(|line| line.contains("\"level\":\"WARN\"")).collect();
            panic!("{missing:#?} {summary} {troubles:#?}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What our customer reads for the sandbox's state.
fn told(order: &Value) -> &str {
    match order["state"].as_str().expect("a state") {
        "new" => "unshipped",
        state => state,
    }
}

async fn destination_is_right(control: &Control) {
    let summary = control.get("customers/acme").await;
    for wrong in ["badSignatures", "unreadable", "revisionsOutOfOrder"] {
        assert_eq!(summary[wrong], 0, "{summary}");
    }
    let mut ids = HashMap::new();
    for event in control.events().await {
        let of = (event["number"].to_string(), event["revision"].as_u64().expect("a revision"));
        let other = ids.insert(of.clone(), event["id"].clone());
        assert_eq!(other, None, "two ids of {of:?}");
    }
}

async fn database_is_right(control: &Control, mounts: &Mounts, marketplace: &str, client: &str) {
    let (store, key) = (mounts.store(), mounts.digest_key());
    let (stored, whole): (BTreeMap<[u8; 32], u64>, String) = store
        .read(|connection| {
            let mut rows = connection.prepare("SELECT number_digest, revision FROM orders")?;
            let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let count = rows.len();
            let rows: BTreeMap<_, _> = rows.into_iter().collect();
            assert_eq!(rows.len(), count, "an order is there twice");
            let whole = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
            Ok((rows, whole))
        })
        .await
        .expect("orders");
    store.close().await.expect("closed");
    assert_eq!(whole, "ok");
    let numbers = control.numbers(client, Timestamp::MAX).await;
    let digests: BTreeMap<_, _> =
        numbers.iter().map(|number| (number, key.order(marketplace, number))).collect();
    assert_eq!((stored.len(), digests.len()), (numbers.len(), numbers.len()));
    for (number, (revision, _)) in control.received().await {
        let digest = digests[&number];
        assert_eq!(stored.get(digest.as_bytes()), Some(&revision), "{number}");
    }
    for event in control.events().await {
        let digest = digests[&event["number"].as_str().expect("a number").to_owned()];
        let revision = event["revision"].as_u64().expect("a revision");
        assert_eq!(event["id"], documented_id(digest, revision));
    }
}

/// As docs/webhooks.md says.
fn documented_id(order: Digest, revision: u64) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(ID.as_bytes());
    context.update(order.as_bytes());
    context.update(&revision.to_be_bytes());
    let hex = context.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("evt_{hex}")
}
