//! The end: within the pod's grace period, whoever hangs.

use std::{
    fs,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use marketrelay_api::relay::paths;
use marketrelay_relay::mounts::at;
use serde_json::json;

use crate::common::{Control, Mounts, ebay, eventually, sandbox};

/// The pod's is 30 s; the kubelet's own steps take some of it.
const GRACE: Duration = Duration::from_secs(25);

async fn hangs(target: &str) {
    let sandbox = sandbox(20).await;
    let control = Control::new(&sandbox);
    let mounts = Mounts::new(&sandbox, ebay());
    control.post("faults", json!({"target": target, "fault": {"kind": "timeout", "seconds": 300}})).await;
    let relay = mounts.spawn();
    let called = || async { (control.calls(target).await > 0).then_some(()) };
    eventually("a call that hangs", Duration::from_mins(1), called).await;
    let start = Instant::now();
    let status = relay.terminate(GRACE).await;
    assert_eq!(status.code(), Some(0), "after {:?}", start.elapsed());
    // Nothing was lost.
    control.post("faults", json!({"target": target})).await;
    mounts.store().close().await.expect("a whole database");
}

#[tokio::test]
async fn it_ends_cleanly_while_the_marketplace_hangs() {
    hangs("ebay").await;
}

#[tokio::test]
async fn it_ends_cleanly_while_the_destination_hangs() {
    hangs("customer/acme").await;
}

#[tokio::test]
async fn it_ends_when_its_database_is_taken_away_and_does_not_begin_another_one() {
    let sandbox = sandbox(3).await;
    let control = Control::new(&sandbox);
    let mounts = Mounts::new(&sandbox, ebay());
    let relay = mounts.spawn();
    control.all_received("client-ebay", Timestamp::MAX).await;
    let data = at(&mounts.root(), paths::DATA);
    for entry in fs::read_dir(&data).expect("a folder") {
        fs::remove_file(entry.expect("a file").path()).expect("removed");
    }
    assert_eq!(relay.ended(GRACE).await.code(), Some(0), "the kubelet starts it again");
    let known = at(&mounts.root(), paths::KNOWN_DATABASE);
    fs::write(known, "chain: 3f6c\n").expect("written");
    assert_eq!(mounts.spawn().ended(GRACE).await.code(), Some(66));
    assert_eq!(fs::read_dir(&data).expect("a folder").count(), 0);
}
