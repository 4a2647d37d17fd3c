//! Deadlines don't wait for who collects and delivers.

use std::{fs, time::Duration};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::relay::paths;
use marketrelay_keyring::{ConnectionId, Grid, Keyring};
use serde_json::Value;

use crate::common::{ID, LIMITS, Mounts, Process, bol, eventually, order, sandbox};

const SOON: Duration = Duration::from_mins(1);
/// Reading the clock takes a second at most; this machine may be busy.
const LATE: SignedDuration = SignedDuration::from_secs(5);

/// When the relay logged that it anonymised something.
async fn anonymised(relay: &Process) -> Timestamp {
    eventually("it is anonymised", SOON, || async {
        relay.log().lines().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let said = line["fields"]["message"] == "anonymised";
            said.then(|| line["timestamp"].as_str()?.parse().ok()).flatten()
        })
    })
    .await
}

/// A relay that has one order, which must be gone in twelve seconds; says when.
async fn relay_with_an_order_that_ends_soon(change: impl FnOnce(&mut Mounts)) -> (Mounts, Timestamp) {
    let sandbox = sandbox(0).await;
    let mut mounts = Mounts::new(&sandbox, bol());
    let id: ConnectionId = ID.parse().expect("an id");
    let (now, second) = (Timestamp::now(), SignedDuration::from_secs(1));
    let mut keyring = Keyring::generate(id.clone()).expect("a keyring");
    keyring.extend(Grid::new(&id, second), now, now + SignedDuration::from_mins(1)).expect("keys");
    keyring.extend(Grid::new(&id, LIMITS.key_epoch), now, now + LIMITS.anonymize_after).expect("keys");
    mounts.mount_keyring(&keyring);
    let mut ending = order("A1");
    ending.first_shipped_at = Some(now - LIMITS.delete_after_shipment + SignedDuration::from_secs(12));
    mounts.ingest(vec![ending]).await;
    mounts.config.retention.key_epoch_seconds = 1;
    change(&mut mounts);
    mounts.write_config();
    (mounts, now + SignedDuration::from_secs(12))
}

async fn is_gone_at_its_deadline(mounts: Mounts, deadline: Timestamp) {
    let relay = mounts.spawn();
    let late = anonymised(&relay).await.duration_since(deadline);
    assert!(late > -SignedDuration::from_secs(1) && late < LATE, "{late:?} late");
    assert!(relay.terminate(SOON).await.success());
    let store = mounts.store();
    let counts = store.read(|connection| {
        let sql = "SELECT (SELECT count(*) FROM orders), anonymised, given_up FROM relay";
        Ok(connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?)
    });
    assert_eq!(counts.await.expect("counts"), (0, 1, 1));
    store.close().await.expect("closed");
}

#[tokio::test]
async fn a_suspended_relay_anonymises_at_the_deadline() {
    let (mounts, deadline) = relay_with_an_order_that_ends_soon(|mounts| mounts.config.suspend = true).await;
    is_gone_at_its_deadline(mounts, deadline).await;
}

#[tokio::test]
async fn a_relay_without_credentials_and_destination_anonymises_at_the_deadline() {
    let without = |mounts: &mut Mounts| {
        for path in [paths::CREDENTIALS, paths::SIGNING] {
            fs::remove_dir_all(mounts.root().join(path.trim_start_matches('/'))).expect("removed");
        }
    };
    let (mounts, deadline) = relay_with_an_order_that_ends_soon(without).await;
    is_gone_at_its_deadline(mounts, deadline).await;
}
