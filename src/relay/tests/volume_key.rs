//! The volume key's replacement: nothing that was left behind opens with a key that is still alive.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use marketrelay_keyring::{DestroyAt, Keyring, RecordKind, RecordRef, Sealed};

use crate::common::{
    Bytes, DATABASE_KEY, Delivery, Destination, LIMITS, order, remains, with_volume, without_volume,
};

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Header, nonce, key and tag.
const WRAP: usize = 1 + 12 + 32 + 16;

/// An order's envelope as its row has it.
struct Stored {
    record: RecordRef,
    sealed: Sealed,
}

async fn stored(delivery: &Delivery) -> Vec<Stored> {
    let read = |connection: &rusqlite::Connection| {
        let mut statement = connection.prepare(
            "SELECT revision, destroy_at, pii, pii_key, volume_generation FROM orders ORDER BY id",
        )?;
        let rows = statement.query_map([], |row| {
            let record = RecordRef {
                kind: RecordKind::Order,
                revision: row.get(0)?,
                destroy_at: DestroyAt::from_second(row.get(1)?),
            };
            let sealed =
                Sealed { body: row.get(2)?, wrapped_key: row.get(3)?, volume_generation: row.get(4)? };
            Ok(Stored { record, sealed })
        })?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    };
    delivery.store.read(read).await.expect("envelopes")
}

fn keyring(delivery: &Delivery) -> Keyring {
    Keyring::clone(&delivery.keyring.borrow().clone().expect("a keyring"))
}

fn mount(delivery: &Delivery, keyring: &Keyring) {
    drop(delivery.keyring.send_replace(Ok(Arc::new(keyring.clone()))));
}

async fn oldest(delivery: &Delivery) -> Option<u32> {
    delivery.counts().await.oldest_generation
}

/// Every wrapped key in the bytes that opens with one of the keyring's keys, for one of the first revisions.
fn opening(bytes: &Bytes, keyring: &Keyring) -> BTreeSet<Vec<u8>> {
    let records: Vec<_> = keyring
        .live(Timestamp::MIN)
        .flat_map(|destroy_at| (1..=2).map(move |revision| (destroy_at, revision)))
        .map(|(destroy_at, revision)| RecordRef { kind: RecordKind::Order, revision, destroy_at })
        .collect();
    let candidates = bytes.pages.iter().flat_map(|page| page.windows(WRAP)).filter(|bytes| bytes[0] == 1);
    let candidates: BTreeSet<_> = candidates.collect();
    let opens = |wrap: &&[u8]| {
        records.iter().any(|record| {
            (1..=keyring.volume_generation()).any(|of| keyring.rewrap(*record, wrap, of).is_ok())
        })
    };
    candidates.into_iter().filter(opens).map(<[u8]>::to_vec).collect()
}

#[tokio::test]
async fn what_resealing_and_anonymising_left_behind_opens_with_no_key_that_is_alive() {
    let delivery = Delivery::to(&Destination::start().await);
    let numbers: Vec<_> = (0..6).map(|number| format!("A{number}")).collect();
    delivery.ingest(numbers.iter().map(|number| order(number)).collect()).await;
    let (old, mut keeper) = (keyring(&delivery), delivery.keeper(LIMITS));
    keeper.look().await.expect("a look");
    // The volume as a snapshot keeps it, and free blocks.
    let mut left_behind = remains(delivery.folder(), DATABASE_KEY).pages;
    assert_eq!(opening(&remains(delivery.folder(), DATABASE_KEY), &old).len(), 6, "the search finds wraps");
    let mut shipped = order("A1");
    (shipped.first_shipped_at, shipped.updated_at) = (Some(delivery.now() - DAY * 10), delivery.now());
    delivery.ingest(vec![shipped]).await;
    left_behind.extend(remains(delivery.folder(), DATABASE_KEY).pages);
    let left_behind = Bytes { pages: left_behind };
    assert_eq!(opening(&left_behind, &old).len(), 7, "the wrap under the later key is still there");
    let new = with_volume(&old, 2);
    mount(&delivery, &new);
    let before = stored(&delivery).await;
    keeper.look().await.expect("a look");
    assert_eq!(oldest(&delivery).await, Some(2));
    let alive = without_volume(&new, 1);
    let after = stored(&delivery).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.record, &before.sealed.body), (after.record, &after.sealed.body));
        alive.open(after.record, &after.sealed).expect("it opens under the new key");
    }
    let live: BTreeSet<_> = after.iter().map(|stored| stored.sealed.wrapped_key.clone()).collect();
    assert_eq!(opening(&remains(delivery.folder(), DATABASE_KEY), &alive), live);
    assert!(opening(&left_behind, &alive).is_empty());
}

/// A look of somebody else at the database that takes its time.
fn reader(delivery: &Delivery) -> rusqlite::Connection {
    let reader = rusqlite::Connection::open(delivery.folder().join("marketrelay.db")).expect("a database");
    let key: String = DATABASE_KEY.iter().map(|byte| format!("{byte:02x}")).collect();
    let look = format!("PRAGMA key = \"x'{key}'\"; BEGIN; SELECT count(*) FROM orders;");
    reader.execute_batch(&look).expect("it reads");
    reader
}

#[tokio::test]
async fn a_replacement_is_confirmed_only_when_the_log_is_empty() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest((0..300).map(|number| order(&format!("A{number}"))).collect()).await;
    let mut keeper = delivery.keeper(LIMITS);
    keeper.look().await.expect("a look");
    assert_eq!(oldest(&delivery).await, Some(1));
    mount(&delivery, &with_volume(&keyring(&delivery), 2));
    let reader = reader(&delivery);
    let next = keeper.look().await.expect("a look");
    assert!(next.is_some_and(|next| next <= delivery.now() + SignedDuration::from_secs(1)), "soon again");
    assert!(stored(&delivery).await.iter().all(|stored| stored.sealed.volume_generation == 2));
    assert_eq!(oldest(&delivery).await, Some(1));
    drop(reader);
    keeper.look().await.expect("a look");
    assert_eq!(oldest(&delivery).await, Some(2));
}

#[tokio::test]
async fn while_a_record_needs_the_older_key_nothing_is_confirmed() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![order("A1")]).await;
    let (old, mut keeper) = (keyring(&delivery), delivery.keeper(LIMITS));
    keeper.look().await.expect("a look");
    let new = with_volume(&old, 2);
    mount(&delivery, &without_volume(&new, 1));
    keeper.look().await.expect("a look");
    assert_eq!(oldest(&delivery).await, Some(1));
    assert_eq!(keeper.reporter.get().reason.as_deref(), Some("KeyringInvalid"));
    mount(&delivery, &new);
    keeper.look().await.expect("a look");
    assert_eq!((oldest(&delivery).await, keeper.reporter.get().reason), (Some(2), None));
}
