//! Secrets that change while the relay runs: it takes them without a restart and loses nothing.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::relay::paths;
use marketrelay_keyring::{BackupIdentities, ConnectionId, Grid, Keyring};
use serde_json::json;

use crate::common::{Control, ID, Mounts, SECRET, ebay, eventually, sandbox, write};

const ACCOUNT: &str = "client-ebay";
const SOON: Duration = Duration::from_mins(1);
const NEW_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

async fn add(control: &Control, count: u32) {
    control.post(&format!("accounts/{ACCOUNT}/orders"), json!({"count": count})).await;
}

#[tokio::test]
async fn rotated_credentials_are_taken_from_the_mount_and_no_order_is_lost() {
    let sandbox = sandbox(10).await;
    let control = Control::new(&sandbox);
    let mounts = Mounts::new(&sandbox, ebay());
    let relay = mounts.start().await;
    control.all_received(ACCOUNT, Timestamp::MAX).await;
    for round in 1..=2 {
        let (secret, token) = (format!("secret-{round}"), format!("refresh-{round}"));
        let new = json!({"clientSecret": secret, "refreshToken": token});
        control.post(&format!("accounts/{ACCOUNT}/credentials"), new).await;
        add(&control, 5).await;
        // The old ones are refused for a while, as the mount lags.
        let calls = control.calls("ebay").await;
        let refused = || async { (control.calls("ebay").await > calls + 1).then_some(()) };
        eventually("calls with the old credentials", SOON, refused).await;
        mounts.replace(&format!("{}/clientSecret", paths::CREDENTIALS), &secret);
        mounts.replace(&format!("{}/refreshToken", paths::CREDENTIALS), &token);
        control.all_received(ACCOUNT, Timestamp::MAX).await;
    }
    assert_eq!(control.received().await.len(), 20);
    relay.stop().await;
}

#[tokio::test]
async fn a_changed_configuration_ends_the_relay_so_that_it_starts_with_the_new_one() {
    let sandbox = sandbox(3).await;
    let control = Control::new(&sandbox);
    let mut mounts = Mounts::new(&sandbox, ebay());
    let relay = mounts.spawn();
    control.all_received(ACCOUNT, Timestamp::MAX).await;
    mounts.config.poll_interval_seconds = 2;
    mounts.replace(paths::CONFIG, serde_yaml::to_string(&mounts.config).expect("YAML"));
    assert!(relay.ended(SOON).await.success());
    let relay = mounts.spawn();
    add(&control, 2).await;
    control.all_received(ACCOUNT, Timestamp::MAX).await;
    assert!(relay.terminate(SOON).await.success());
}

#[tokio::test]
async fn a_rotated_signing_secret_never_makes_a_bad_signature_and_no_order_is_lost() {
    let sandbox = sandbox(10).await;
    let control = Control::new(&sandbox);
    let mounts = Mounts::new(&sandbox, ebay());
    let entry = |name: &str| format!("{}/{name}", paths::SIGNING);
    let relay = mounts.spawn();
    let taken = async |times: usize| {
        let taken = || async { (relay.log().matches("\"replaced\"").count() == times).then_some(()) };
        eventually("the mount is read again", SOON, taken).await;
    };
    control.all_received(ACCOUNT, Timestamp::MAX).await;
    mounts.replace(&entry("previousSigningSecret"), SECRET);
    taken(1).await;
    mounts.replace(&entry("signingSecret"), NEW_SECRET);
    add(&control, 5).await;
    control.all_received(ACCOUNT, Timestamp::MAX).await;
    taken(2).await;
    // Messages carry both signatures: the customer may change over at any time now.
    control.post("customers/acme/secrets", json!([NEW_SECRET])).await;
    add(&control, 5).await;
    control.all_received(ACCOUNT, Timestamp::MAX).await;
    let previous = mounts.folder.path().join(entry("previousSigningSecret").trim_start_matches('/'));
    std::fs::remove_file(previous).expect("removed");
    taken(3).await;
    add(&control, 5).await;
    control.all_received(ACCOUNT, Timestamp::MAX).await;
    let summary = control.get("customers/acme").await;
    assert_eq!((&summary["badSignatures"], &summary["orders"]), (&json!(0), &json!(25)), "{summary}");
    assert!(relay.terminate(SOON).await.success());
}

#[tokio::test]
async fn a_keyring_that_is_extended_on_disk_is_taken_with_recipients_of_backups_in_it() {
    let sandbox = sandbox(10).await;
    let control = Control::new(&sandbox);
    let mounts = Mounts::new(&sandbox, ebay());
    // Its keys end in ten days, the orders' deadlines are in thirty.
    let id: ConnectionId = ID.parse().expect("an id");
    let day = SignedDuration::from_hours(24);
    let (grid, now) = (Grid::new(&id, day), Timestamp::now());
    let mut identities = BackupIdentities::new(id.clone());
    identities.extend(grid, now, now + day * 30);
    let mut keyring = Keyring::generate(id).expect("a keyring");
    keyring.extend(grid, now, now + day * 10).expect("keys");
    let folder = mounts.folder.path().join(paths::KEYRING.trim_start_matches('/'));
    std::fs::remove_dir_all(&folder).expect("removed");
    let mount = |keyring: &Keyring| {
        for (name, bytes) in keyring.entries() {
            write(mounts.folder.path(), &format!("{}/{name}", paths::KEYRING), bytes);
        }
    };
    mount(&keyring);
    let relay = mounts.start().await;
    let tried = || async { (control.calls("ebay").await >= 3).then_some(()) };
    eventually("a second try", SOON, tried).await;
    assert!(control.received().await.is_empty());
    keyring.extend(grid, now, now + day * 91).expect("keys");
    keyring.set_recipients(identities.recipients());
    mount(&keyring);
    control.all_received(ACCOUNT, Timestamp::MAX).await;
    relay.stop().await;
}
