//! The whole relay against the sandbox: what its customer receives.

use crate::common::{CLIENT, Control, Mounts, amazon, bol, ebay, sandbox};
use jiff::{SignedDuration, Timestamp};
use marketrelay_api::relay::paths;
use marketrelay_relay::mounts::at;
use serde_json::json;

#[tokio::test]
async fn every_order_of_bol_arrives_once() {
    let sandbox = sandbox(60).await;
    let control = Control::new(&sandbox);
    let mounts = Mounts::new(&sandbox, bol());
    let relay = mounts.start().await;
    control.all_received(CLIENT, Timestamp::MAX).await;
    let summary = control.get("customers/acme").await;
    assert_eq!(summary["badSignatures"], 0, "{summary}");
    assert_eq!(summary["repeatedEvents"], 0, "{summary}");
    relay.stop().await;
}

#[tokio::test]
async fn what_a_killed_restore_has_begun_takes_no_room_from_the_relay() {
    let sandbox = sandbox(1).await;
    let control = Control::new(&sandbox);
    let mounts = Mounts::new(&sandbox, bol());
    let data = at(&mounts.root(), paths::DATA);
    let begun =
        ["restored.db", "restored.db.restoring", "restored.db.restoring-wal"].map(|name| data.join(name));
    for path in &begun {
        std::fs::write(path, "half of it").expect("written");
    }
    let relay = mounts.start().await;
    control.all_received(CLIENT, Timestamp::MAX).await;
    assert!(!begun.iter().any(|path| path.exists()));
    relay.stop().await;
}

#[tokio::test]
async fn every_order_of_ebay_arrives() {
    let sandbox = sandbox(230).await;
    let control = Control::new(&sandbox);
    let mounts = Mounts::new(&sandbox, ebay());
    let relay = mounts.start().await;
    control.all_received("client-ebay", Timestamp::MAX).await;
    relay.stop().await;
}

#[tokio::test]
async fn every_order_of_amazon_arrives() {
    let sandbox = sandbox(120).await;
    let control = Control::new(&sandbox);
    let mounts = Mounts::new(&sandbox, amazon());
    let relay = mounts.start().await;
    // Amazon tells what is older than two minutes.
    control.all_received("client-amazon", Timestamp::now() - SignedDuration::from_mins(3)).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_restart_repeats_nothing_and_a_change_arrives_as_the_next_revision() {
    let sandbox = sandbox(5).await;
    let control = Control::new(&sandbox);
    let mounts = Mounts::new(&sandbox, ebay());
    let relay = mounts.start().await;
    control.all_received("client-ebay", Timestamp::MAX).await;
    relay.stop().await;
    let before = control.get("customers/acme").await["events"].clone();
    control.post("accounts/client-ebay/orders", json!({"count": 1})).await;
    let relay = mounts.start().await;
    control.all_received("client-ebay", Timestamp::MAX).await;
    let after = control.get("customers/acme").await;
    assert_eq!(after["events"].as_u64(), before.as_u64().map(|n| n + 1), "{after}");
    assert_eq!(after["revisionsOutOfOrder"], 0);
    relay.stop().await;
}
