//! SIGKILL while keys are wrapped anew, while orders are held and while they are anonymised: it goes on where it was.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::relay::{HeldSelection, Placed};
use marketrelay_audit::{Fields, Options};
use marketrelay_keyring::{DestroyAt, RecordKind, RecordRef, Sealed};
use rusqlite::Connection;

use crate::common::{
    Mounts, audit_exported, audit_signer, audit_verify, bol, order, sandbox, with_hold, with_volume,
    without_volume,
};

const ORDERS: u32 = 1_500;
const LINES: u32 = 2;

/// A suspended relay with orders: it keeps their deadlines alone.
async fn mounts() -> Mounts {
    let sandbox = sandbox(0).await;
    let mut mounts = Mounts::new(&sandbox, bol());
    mounts.config.suspend = true;
    mounts.write_config();
    mounts.ingest((0..ORDERS).map(|number| order(&format!("A{number}"))).collect()).await;
    mounts
}

async fn read<T: Send + 'static>(
    mounts: &Mounts,
    job: impl FnOnce(&Connection) -> marketrelay_relay::store::Result<T> + Send + 'static,
) -> T {
    let store = mounts.store();
    let value = store.read(job).await.expect("read");
    store.close().await.expect("closed");
    value
}

fn count(connection: &Connection, sql: &str) -> marketrelay_relay::store::Result<u32> {
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// Kills the relay again and again, a little later each time until it gets to work, until it is done. `left` says how
/// much there is to do. Says how often it was interrupted in the middle.
async fn killed_until_done(mounts: &Mounts, mut left: impl AsyncFnMut() -> u32) -> u32 {
    let (mut delay, mut before, mut interrupted) = (Duration::ZERO, left().await, 0);
    while before > 0 {
        let relay = mounts.spawn();
        tokio::time::sleep(delay).await;
        relay.kill().await;
        let after = left().await;
        interrupted += u32::from(after > 0 && after < before);
        if after == before {
            delay = delay.mul_f64(1.1) + Duration::from_millis(5);
        }
        assert!(delay < Duration::from_secs(30), "it does nothing");
        before = after;
    }
    interrupted
}

#[tokio::test]
async fn wrapping_anew_survives_kills_and_leaves_nothing_under_the_older_key() {
    let mounts = mounts().await;
    let (mut generation, mut interrupted) = (1, 0);
    while interrupted == 0 {
        generation += 1;
        assert!(generation < 10, "never in the middle of it");
        let both = with_volume(&mounts.keyring(), generation);
        mounts.mount_keyring(&both);
        interrupted = killed_until_done(&mounts, async || {
            read(&mounts, move |connection| {
                let older = format!("SELECT count(*) FROM orders WHERE volume_generation < {generation}");
                let unconfirmed = format!("SELECT coalesce(oldest_generation, 0) < {generation} FROM relay");
                Ok(count(connection, &older)? + count(connection, &unconfirmed)?)
            })
            .await
        })
        .await;
        let alive = without_volume(&both, generation - 1);
        mounts.mount_keyring(&alive);
        let opened = read(&mounts, move |connection| {
            let mut statement = connection
                .prepare("SELECT revision, destroy_at, pii, pii_key, volume_generation FROM orders")?;
            let mut rows = statement.query([])?;
            let mut opened = 0;
            while let Some(row) = rows.next()? {
                let destroy_at = DestroyAt::from_second(row.get(1)?);
                let record = RecordRef { kind: RecordKind::Order, revision: row.get(0)?, destroy_at };
                let sealed =
                    Sealed { body: row.get(2)?, wrapped_key: row.get(3)?, volume_generation: row.get(4)? };
                alive.open(record, &sealed).expect("it opens");
                opened += 1;
            }
            Ok(opened)
        });
        assert_eq!(opened.await, ORDERS);
    }
}

#[tokio::test]
async fn holding_survives_kills_and_keeps_every_order() {
    let mut mounts = mounts().await;
    let now = Timestamp::now();
    let day = SignedDuration::from_hours(24);
    mounts.mount_keyring(&with_hold(&mounts.keyring(), "tax", now + day * 400));
    let placed = Some(Placed { from: now - day, to: now });
    mounts.config.holds = vec![HeldSelection { name: "tax".to_owned(), digests: Vec::new(), placed }];
    mounts.write_config();
    let interrupted = killed_until_done(&mounts, async || {
        read(&mounts, |connection| {
            let held = count(connection, "SELECT count(*) FROM held_orders")?;
            let people = count(connection, "SELECT count(DISTINCT held_id) FROM held_people")?;
            assert_eq!(held, people, "each with who is in it");
            Ok(ORDERS - held)
        })
        .await
    });
    assert!(interrupted.await > 0, "never in the middle of it");
}

#[tokio::test]
async fn anonymising_survives_kills_and_counts_each_order_once() {
    let mut mounts = mounts().await;
    // Every order's new deadline has passed.
    mounts.config.retention.delete_after_shipment_seconds = 1;
    mounts.config.retention.key_epoch_seconds = 1;
    mounts.write_config();
    let interrupted = killed_until_done(&mounts, async || {
        read(&mounts, |connection| {
            let left = count(connection, "SELECT count(*) FROM orders")?;
            let done = count(connection, "SELECT anonymised FROM relay")?;
            assert_eq!(left + done, ORDERS);
            for (sql, expected) in [
                ("SELECT count(*) FROM anonymised_orders", done),
                ("SELECT count(*) FROM anonymised_lines", done * LINES),
                ("SELECT given_up FROM relay", done),
                ("SELECT count(*) FROM outbox", left),
                ("SELECT count(*) FROM order_lines", left * LINES),
            ] {
                assert_eq!(count(connection, sql)?, expected, "{sql}");
            }
            Ok(left)
        })
        .await
    });
    assert!(interrupted.await > 0, "never in the middle of it");
    let (store, signer) = (mounts.store(), audit_signer(&mounts.keyring()));
    let lines = audit_exported(&store, signer, 0).await;
    store.close().await.expect("closed");
    audit_verify(&lines, Options::default()).expect("the chain is unbroken");
    let records = lines.iter().map(|line| serde_json::from_str::<Fields>(line).expect("JSON"));
    let anonymised =
        records.filter(|record| record.get("action").is_some_and(|action| action == "OrdersAnonymised"));
    let counted: u64 = anonymised.filter_map(|record| record["count"].as_u64()).sum();
    assert_eq!(counted, u64::from(ORDERS), "each order is in one record");
}
