//! What is on the volume stays as it is unless everything went well, whenever the Job ends.

use std::{fs, time::Duration};

use jiff::Timestamp;
use marketrelay_api::backup::Site;
use marketrelay_relay::audit::{self, Action, Actor, Deed};

use crate::{
    proxy::{Half, Proxy},
    tenant::Tenant,
    world::eventually,
};

/// Longer than it takes to end when that is asked.
const PROMPT: Duration = Duration::from_secs(10);

/// As the relay does when it begins.
pub async fn begin_relay(tenant: &Tenant) {
    let store = tenant.store();
    let deed = Deed::new(Action::RelayStarted, Actor::Relay, "0.1.0");
    store
        .write(move |connection| audit::append(connection, &deed, Timestamp::now()))
        .await
        .expect("recorded");
    store.close().await.expect("closed");
}

#[tokio::test]
async fn a_database_that_is_there_stays_as_it_is() {
    let tenant = Tenant::start().await;
    tenant.collect(&["A1"]).await;
    tenant.back_up(Site::OnSite).await;
    let before = tenant.files();
    let (reason, message) = tenant.refused().await;
    assert_eq!(reason, "VolumeInUse");
    assert!(message.contains("marketrelay.db"), "{message}");
    assert_eq!(tenant.files().get("marketrelay.db"), before.get("marketrelay.db"));
    fs::write(tenant.file("marketrelay.db"), "no database").expect("written");
    assert_eq!(tenant.refused().await.0, "VolumeInUse");
    assert_eq!(fs::read(tenant.file("marketrelay.db")).expect("a file"), b"no database");
}

#[tokio::test]
async fn a_pod_that_is_replaced_after_its_success_reports_it_again() {
    let tenant = Tenant::start().await;
    tenant.collect(&["A1", "A2"]).await;
    tenant.back_up(Site::OnSite).await;
    tenant.lose_volume();
    let restored = tenant.restore().await;
    let before = tenant.files();
    assert_eq!(tenant.restore().await, restored);
    assert_eq!(tenant.files().get("marketrelay.db"), before.get("marketrelay.db"));
    begin_relay(&tenant).await;
    assert_eq!(tenant.restore().await, restored, "it is none that is in the way");
}

#[tokio::test]
async fn what_a_killed_job_has_left_is_in_nobodys_way() {
    let tenant = Tenant::start().await;
    tenant.collect(&["A1"]).await;
    tenant.back_up(Site::OnSite).await;
    tenant.lose_volume();
    for name in ["restored.db", "restored.db.restoring", "restored.db.restoring-wal", "marketrelay.db-wal"] {
        fs::write(tenant.file(name), "half of it").expect("written");
    }
    assert_eq!(tenant.restore().await.orders, 1);
    assert_eq!(tenant.names(), ["marketrelay.db"]);
    assert!(tenant.has("A1").await);
}

#[tokio::test]
async fn asked_to_end_it_ends_and_leaves_nothing() {
    let mut tenant = Tenant::start().await;
    let numbers: Vec<_> = (0..2000).map(|number| format!("A{number}")).collect();
    tenant.collect(&numbers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    tenant.back_up(Site::OnSite).await;
    tenant.lose_volume();
    let proxy = Proxy::start(&mut tenant.world).await;
    tenant.config.sites[0].store.endpoint.clone_from(&tenant.world.config.store.endpoint);
    proxy.halves("/data", Half::Stalls);
    let running = tenant.spawn();
    let begun = tenant.file("restored.db.restoring");
    eventually("it imports", || async { begun.exists().then_some(()) }).await;
    running.terminate();
    let failure = running.ended(PROMPT).await.failure.expect("a failure");
    assert_eq!(failure.reason, "Interrupted");
    assert!(tenant.names().is_empty());
}

#[tokio::test]
async fn asked_to_end_while_it_lists_it_ends() {
    let mut tenant = Tenant::start().await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    tenant.config.sites[1].store.endpoint = format!("https://localhost:{port}").parse().ok();
    let running = tenant.spawn();
    silent.accept().expect("it asks");
    running.terminate();
    assert_eq!(running.ended(PROMPT).await.failure.expect("a failure").reason, "Interrupted");
}
