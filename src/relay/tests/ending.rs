//! The end: within the pod's grace period, whoever hangs.

use std::time::{Duration, Instant};

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
