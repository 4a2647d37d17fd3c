//! A backup becomes the database that it was taken of, without whatever has died since.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::{
    SubjectDigest,
    relay::{HeldSelection, Placed},
};
use marketrelay_keyring::{BackupIdentities, DestroyAt, Keyring, SecretKey};
use marketrelay_marketplace::{Marketplace, Order, OrderStatus};
use marketrelay_relay::{
    privacy::Keeper,
    store::{
        Store, erase,
        import::{Backup, ImportError, Imported, Keys, Since, import},
        journal,
        snapshot::Request,
    },
};
use proptest::{collection::vec, prelude::*};
use rusqlite::types::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::common::{
    DATABASE_KEY, Delivery, Destination, ID, LIMITS, Taken, any_order, audit_exported, audit_signer,
    audit_verify, drained, order, with_hold, with_volume, without_volume,
};

const DAY: SignedDuration = SignedDuration::from_hours(24);
pub(crate) const NOTHING_SINCE: Since<'_> =
    Since { journal: &[], requests: &[], limits: LIMITS, snapshots: 0 };
pub(crate) const BACKUP: &str = "20261129T003250Z-5f0c1a2b";

pub(crate) fn keyring(delivery: &Delivery) -> Keyring {
    Keyring::clone(&delivery.keyring.borrow().clone().expect("a keyring"))
}

pub(crate) fn mount(delivery: &Delivery, keyring: Keyring) {
    drop(delivery.keyring.send_replace(Ok(Arc::new(keyring))));
}

fn millisecond(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).expect("in range")
}

/// As marketplaces tell times.
pub(crate) fn told(order: Order) -> Order {
    Order { placed_at: millisecond(order.placed_at), updated_at: millisecond(order.updated_at), ..order }
}

async fn erase(delivery: &Delivery, marketplace: Marketplace, number: &str) {
    let digest = *delivery.digest_key.order(marketplace.as_str(), number).as_bytes();
    let request = erase::Request {
        uid: format!("case-{number}"),
        subject: vec![SubjectDigest::Order(digest)],
        keyring: Arc::new(keyring(delivery)),
        limits: LIMITS,
        now: delivery.now(),
    };
    assert_eq!(delivery.store.erase(request).await.expect("an answer").erased, 1);
}

pub(crate) async fn taken(delivery: &Delivery, marketplace: Marketplace) -> Taken {
    let mut request: Request = delivery.snapshot_request(BACKUP);
    request.connection.marketplace = marketplace.as_str();
    delivery.take(request).await.expect("a snapshot")
}

/// A database that was restored.
struct Restored {
    store: Store,
    imported: Imported,
    _folder: TempDir,
}

pub(crate) fn restore_to(
    path: &Path,
    taken: &Taken,
    delivery: &Delivery,
    identities: &BackupIdentities,
    journal: &[journal::Erased],
) -> Result<Imported, ImportError> {
    let identity = identities.identity(taken.manifest.identity.parse().expect("a name")).expect("alive");
    let backup = Backup { manifest: &taken.signed, data: &taken.data[..], identity };
    let (keyring, database) = (keyring(delivery), SecretKey::from(DATABASE_KEY));
    let keys = Keys { keyring: &keyring, digest: &delivery.digest_key, database: &database };
    let since = Since { journal, ..NOTHING_SINCE };
    import(path, backup, keys, since, delivery.now(), &CancellationToken::new())
}

fn restore(
    taken: &Taken,
    delivery: &Delivery,
    identities: &BackupIdentities,
    journal: &[journal::Erased],
) -> Restored {
    let folder = TempDir::new().expect("a folder");
    let path: PathBuf = folder.path().join("marketrelay.db");
    let imported = restore_to(&path, taken, delivery, identities, journal).expect("imported");
    let names: Vec<_> =
        folder.path().read_dir().expect("a folder").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(names, ["marketrelay.db"]);
    let store = Store::open(folder.path(), &SecretKey::from(DATABASE_KEY), &ID.parse().expect("an id"));
    Restored { store: store.expect("a database"), imported, _folder: folder }
}

/// What must be as it was, whatever keys there are.
const EQUAL: [(&str, &str); 16] = [
    (
        "relay",
        "connection_id, digest_check, cursor, known_until, begun_at, dropped_past_deadline, dropped_recorded, anonymised, given_up, snapshots",
    ),
    ("delivery", "*"),
    (
        "orders",
        "id, number_digest, buyer_digest, content_digest, revision, marketplace, status, marketplace_status, fulfilment,
         sales_channel, country, placed_at, updated_at, first_shipped_at, total_minor, total_currency, tax_minor,
         tax_currency, deadline, destroy_at, pii",
    ),
    ("order_lines", "*"),
    ("other_buyer_digests", "*"),
    ("erasures", "*"),
    ("erasure_journal", "*"),
    ("erased_orders", "id, number_digest, revision, destroy_at, pii"),
    ("outbox", "*"),
    ("anonymised_orders", "*"),
    ("anonymised_lines", "*"),
    // What archives are told apart by is later than ever.
    ("holds", "id, key_id, name, until, placed_from, placed_to, complete, seen_generation, seen_last_epoch"),
    ("held_orders", "id, hold_id, number_digest, revision, pii"),
    ("held_people", "*"),
    ("audit_chain", "*"),
    ("audit", "*"),
];

async fn rows(store: &Store, sql: String) -> Vec<Vec<Value>> {
    let query = move |connection: &rusqlite::Connection| {
        let mut statement = connection.prepare(&sql)?;
        let columns = statement.column_count();
        let rows = statement
            .query_map([], |row| (0..columns).map(|index| row.get(index)).collect::<Result<Vec<_>, _>>())?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    store.read(query).await.expect("rows")
}

async fn dump(store: &Store, audited: u64) -> BTreeMap<&'static str, Vec<Vec<Value>>> {
    let mut dump = BTreeMap::new();
    for (table, columns) in EQUAL {
        let which = if table == "audit" { format!("WHERE sequence <= {audited}") } else { String::new() };
        dump.insert(table, rows(store, format!("SELECT {columns} FROM {table} {which} ORDER BY 1, 2")).await);
    }
    dump
}

async fn count(store: &Store, sql: &str) -> i64 {
    match rows(store, sql.to_owned()).await[0][0] {
        Value::Integer(count) => count,
        ref other => panic!("{other:?}"),
    }
}

/// Which of the first orders are erased, and which days ago they shipped.
type Lives = Vec<(Order, u8, Option<i32>)>;

/// Orders that wait, were delivered, shipped, anonymised, erased, and are held.
async fn live(delivery: &mut Delivery, marketplace: Marketplace, lives: Lives) {
    let now = delivery.now();
    let placed_at = millisecond(now - DAY * 40);
    delivery.store.claim_digest_key(&delivery.digest_key).await.expect("the first one");
    mount(delivery, with_hold(&keyring(delivery), "tax", now + DAY * 60));
    let mut erased = Vec::new();
    let mut orders = Vec::new();
    for (index, (order, kind, shipped)) in lives.into_iter().enumerate() {
        let mut pii = order.pii.expose().clone();
        pii.number = format!("{index} {}", pii.number);
        if kind % 4 == 0 {
            erased.push(pii.number.clone());
        }
        let first_shipped_at = shipped.map(|days| millisecond(now - DAY * days));
        let pii = marketrelay_keyring::Pii::new(pii);
        orders.push(Order { marketplace, pii, placed_at, updated_at: placed_at, first_shipped_at, ..order });
    }
    delivery.told(orders, Some(now)).await.expect("stored");
    let placed = Some(Placed { from: placed_at, to: placed_at + SignedDuration::from_millis(1) });
    let holds = vec![HeldSelection { name: "tax".to_owned(), digests: Vec::new(), placed }];
    let mut keeper = Keeper { holds: holds.into(), ..delivery.keeper(LIMITS) };
    keeper.look().await.expect("a look");
    for number in erased {
        erase(delivery, marketplace, &number).await;
    }
    // Those that shipped long enough ago are anonymised.
    delivery.pass(DAY * 3);
    keeper.look().await.expect("a look");
    let mut last = told(order("last"));
    (last.marketplace, last.updated_at) = (marketplace, millisecond(delivery.now()));
    delivery.ingest(vec![last]).await;
}

fn any_lives() -> impl Strategy<Value = Lives> {
    vec((any_order(), any::<u8>(), proptest::option::of(0..29)), 1..12)
}

fn any_marketplace() -> impl Strategy<Value = Marketplace> {
    prop::sample::select(vec![Marketplace::Amazon, Marketplace::Ebay, Marketplace::Bol])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn whatever_a_database_holds_comes_back_as_it_was(lives in any_lives(), marketplace in any_marketplace()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut delivery = Delivery::to(&Destination::start().await);
            live(&mut delivery, marketplace, lives).await;
            let identities = delivery.begin_backups();
            let taken = taken(&delivery, marketplace).await;
            // By the time of the restore the volume key is another one.
            mount(&delivery, without_volume(&with_volume(&keyring(&delivery), 2), 1));
            let restored = restore(&taken, &delivery, &identities, &[]);
            let audited = taken.manifest.audit.sequence;
            let (before, after) = (dump(&delivery.store, audited).await, dump(&restored.store, audited).await);
            for (table, _) in EQUAL {
                assert_eq!(before[table], after[table], "{table}");
            }
            let orders = count(&delivery.store, "SELECT count(*) FROM orders").await;
            assert_eq!(i64::try_from(restored.imported.orders), Ok(orders));
            assert_eq!((restored.imported.anonymised, restored.imported.erased), (0, 0));
            let wraps = "SELECT count(*) FROM orders WHERE volume_generation <> 2";
            assert_eq!(count(&restored.store, wraps).await, 0);
        });
    }
}

#[tokio::test]
async fn a_restored_database_goes_on_where_the_backup_was() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    delivery.ingest(vec![told(order("A1")), told(order("A2"))]).await;
    let identities = delivery.begin_backups();
    let backup = taken(&delivery, Marketplace::Bol).await;
    let restored = restore(&backup, &delivery, &identities, &[]);
    // Nothing that is told again is new.
    delivery.store = restored.store;
    let again = delivery.told(vec![told(order("A3"))], None).await.expect("stored");
    assert_eq!(again.new, 1);
    delivery.start().await;
    drained(&delivery).await;
    delivery.stop().await;
    let mut numbers: Vec<_> = destination
        .requests()
        .iter()
        .flat_map(crate::common::Request::events)
        .map(|event| event["order"]["number"].as_str().expect("a number").to_owned())
        .collect();
    numbers.sort();
    assert_eq!(numbers, ["A1", "A2", "A3"]);
    assert_eq!(taken(&delivery, Marketplace::Bol).await.manifest.sequence, backup.manifest.sequence + 1);
    let mut keeper = delivery.keeper(LIMITS);
    keeper.look().await.expect("a look");
    assert_eq!(keeper.reporter.get().reason, None);
    assert_eq!(delivery.counts().await.oldest_generation, Some(1), "the volume key's replacement goes on");
}

#[tokio::test]
async fn what_was_stored_is_recognised_when_it_is_told_again_after_a_restore() {
    let mut delivery = Delivery::to(&Destination::start().await);
    let orders = vec![told(order("A1")), told(order("A2"))];
    delivery.ingest(orders.clone()).await;
    let identities = delivery.begin_backups();
    let backup = taken(&delivery, Marketplace::Bol).await;
    let restored = restore(&backup, &delivery, &identities, &[]);
    delivery.store = restored.store;
    let again = delivery.told(orders, None).await.expect("stored");
    assert_eq!((again.new, again.changed, again.unchanged), (0, 0, 2));
}

#[tokio::test]
async fn no_revision_after_a_restore_is_one_that_the_destination_may_know_already() {
    let mut delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![told(order("A1"))]).await;
    let identities = delivery.begin_backups();
    let backup = taken(&delivery, Marketplace::Bol).await;
    let later = |number: &str, status| {
        let order = told(order(number));
        Order { status, updated_at: order.updated_at + SignedDuration::from_mins(1), ..order }
    };
    delivery.ingest(vec![later("A1", OrderStatus::Shipped), told(order("A2"))]).await;
    let known = count(&delivery.store, "SELECT max(revision) FROM outbox").await;
    let restored = restore(&backup, &delivery, &identities, &[]);
    delivery.store = restored.store;
    delivery.ingest(vec![later("A1", OrderStatus::Cancelled), told(order("A2"))]).await;
    let next = count(&delivery.store, "SELECT min(revision) FROM outbox").await;
    assert!(next > known + 900, "{next} after {known}");
}

/// The order as the marketplace tells it now.
fn changed(number: &str, status: OrderStatus, delivery: &Delivery) -> Order {
    Order { status, updated_at: millisecond(delivery.now()), ..told(order(number)) }
}

/// Delivers all that waits.
async fn deliver(delivery: &mut Delivery) {
    delivery.start().await;
    drained(delivery).await;
    delivery.stop().await;
}

/// Revisions only grow, and an id says one thing.
fn assert_in_order(destination: &Destination) {
    let (mut newest, mut known) = (BTreeMap::new(), BTreeMap::new());
    for event in destination.requests().iter().flat_map(crate::common::Request::events) {
        let (number, id) = (event["order"]["number"].to_string(), event["id"].to_string());
        let revision = event["revision"].as_u64().expect("a revision");
        let before = newest.insert(number, revision);
        assert!(before.is_none_or(|before| before < revision), "{revision} after {before:?}");
        let other = known.insert(id, event["order"].clone());
        assert!(other.is_none_or(|other| other == event["order"]), "{event}");
    }
}

#[tokio::test]
async fn no_restore_of_the_same_or_an_older_backup_uses_a_revision_of_an_earlier_restore() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    let identities = delivery.begin_backups();
    let mut backups = vec![taken(&delivery, Marketplace::Bol).await];
    delivery.ingest(vec![told(order("A1"))]).await;
    deliver(&mut delivery).await;
    backups.push(taken(&delivery, Marketplace::Bol).await);
    let mut restores = Vec::new();
    for backup in [1, 1, 0, 1, 0] {
        let made = restore(&backups[backup], &delivery, &identities, &[]);
        delivery.store = made.store.clone();
        restores.push(made);
        for status in [OrderStatus::PartiallyShipped, OrderStatus::Shipped, OrderStatus::Cancelled] {
            // Every other one has fewer changes.
            if restores.len() % 2 == 0 && status == OrderStatus::Cancelled {
                break;
            }
            delivery.pass(SignedDuration::from_mins(1));
            delivery.ingest(vec![changed("A1", status, &delivery), changed("A2", status, &delivery)]).await;
            deliver(&mut delivery).await;
        }
    }
    assert_in_order(&destination);
}

#[tokio::test]
async fn revisions_go_on_above_the_backups_though_the_clock_went_back() {
    let mut delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![told(order("A1"))]).await;
    let identities = delivery.begin_backups();
    let backup = taken(&delivery, Marketplace::Bol).await;
    let first = restore(&backup, &delivery, &identities, &[]);
    delivery.store = first.store;
    delivery.ingest(vec![changed("A1", OrderStatus::Shipped, &delivery)]).await;
    let known = count(&delivery.store, "SELECT max(revision) FROM orders").await;
    assert!(known >= delivery.now().as_second(), "{known}");
    let backup = taken(&delivery, Marketplace::Bol).await;
    delivery.set(delivery.now() - SignedDuration::from_hours(5));
    let second = restore(&backup, &delivery, &identities, &[]);
    delivery.store = second.store;
    delivery.ingest(vec![changed("A2", OrderStatus::Shipped, &delivery)]).await;
    let next = count(&delivery.store, "SELECT max(revision) FROM orders").await;
    assert!(next > known + 900, "{next} after {known}");
}

#[tokio::test]
async fn the_audit_log_goes_on_with_the_record_of_the_restore() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![told(order("A1"))]).await;
    delivery.keeper(LIMITS).look().await.expect("a look");
    let identities = delivery.begin_backups();
    let backup = taken(&delivery, Marketplace::Bol).await;
    let restored = restore(&backup, &delivery, &identities, &[]);
    let signer = || audit_signer(&keyring(&delivery));
    let lines = audit_exported(&restored.store, signer(), 0).await;
    audit_verify(&lines, marketrelay_audit::Options::default()).expect("an unbroken chain");
    let next = backup.manifest.audit.sequence + 1;
    let record = lines.iter().find(|line| line.contains(&format!("\"sequence\":{next}"))).expect("a record");
    assert!(record.contains("\"action\":\"Restored\"") && record.contains(BACKUP), "{record}");
    assert!(
        record.contains(&backup.manifest.audit.hash),
        "it follows the head that the manifest signed: {record}"
    );
    let counts = "SELECT records FROM audit_counts WHERE action = 'SnapshotTaken'";
    assert_eq!(count(&restored.store, counts).await, 1);
}

#[tokio::test]
async fn what_died_after_the_backup_comes_back_without_anybody_in_it() {
    let mut delivery = Delivery::to(&Destination::start().await);
    live(&mut delivery, Marketplace::Bol, vec![]).await;
    erase_new(&delivery).await;
    let identities = delivery.begin_backups();
    let backup = taken(&delivery, Marketplace::Bol).await;
    assert_eq!(count(&delivery.store, "SELECT count(*) FROM outbox").await, 3);
    delivery.pass(DAY * 35);
    let mut alive = keyring(&delivery);
    alive.drop_due(delivery.now());
    mount(&delivery, alive);
    let restored = restore(&backup, &delivery, &identities, &[]);
    let Imported { orders, anonymised, held, .. } = restored.imported;
    assert_eq!((orders, anonymised, held), (0, 2, 0));
    for table in ["orders", "order_lines", "erased_orders", "outbox", "other_buyer_digests"] {
        assert_eq!(count(&restored.store, &format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    let relay = rows(&restored.store, "SELECT anonymised, given_up FROM relay".to_owned()).await;
    assert_eq!(relay, [[Value::Integer(3), Value::Integer(3)]]);
    assert_eq!(count(&restored.store, "SELECT count(*) FROM anonymised_lines").await, 6);
}

async fn erase_new(delivery: &Delivery) {
    delivery.ingest(vec![told(order("B1")), told(order("B2"))]).await;
    erase(delivery, Marketplace::Bol, "B2").await;
}

#[tokio::test]
async fn what_a_hold_keeps_comes_back_though_its_order_has_died_and_goes_with_the_holds_key() {
    let mut delivery = Delivery::to(&Destination::start().await);
    let mut lived = told(order("H1"));
    lived.updated_at = lived.placed_at;
    live(&mut delivery, Marketplace::Bol, vec![(lived, 1, Some(1))]).await;
    let identities = delivery.begin_backups();
    let backup = taken(&delivery, Marketplace::Bol).await;
    for (days, held) in [(50, 1), (20, 0)] {
        delivery.pass(DAY * days);
        let mut alive = keyring(&delivery);
        alive.drop_due(delivery.now());
        mount(&delivery, alive);
        let restored = restore(&backup, &delivery, &identities, &[]);
        assert_eq!((restored.imported.orders, restored.imported.held), (0, held), "after {days} days");
        let people = count(&restored.store, "SELECT count(*) FROM held_people").await;
        assert_eq!(
            (people > 0, count(&restored.store, "SELECT count(*) FROM holds").await),
            (held > 0, i64::try_from(held).expect("few"))
        );
    }
}

#[tokio::test]
async fn a_hold_that_was_prolonged_after_the_backup_keeps_what_is_in_it() {
    let mut delivery = Delivery::to(&Destination::start().await);
    live(&mut delivery, Marketplace::Bol, vec![(told(order("H1")), 1, Some(1))]).await;
    let identities = delivery.begin_backups();
    let backup = taken(&delivery, Marketplace::Bol).await;
    let mut later = keyring(&delivery);
    let hold = later.holds().next().expect("a hold").0.clone();
    let until = DestroyAt::from_second((delivery.now() + DAY * 90).as_second());
    later.move_hold(&hold, until);
    delivery.pass(DAY * 70);
    later.drop_due(delivery.now());
    mount(&delivery, later);
    let restored = restore(&backup, &delivery, &identities, &[]);
    assert_eq!(restored.imported.held, 1);
    assert_eq!(count(&restored.store, "SELECT until FROM holds").await, until.as_second());
}

#[tokio::test]
async fn who_was_erased_after_the_backup_stays_erased() {
    let mut delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![told(order("A1")), told(order("A2"))]).await;
    let identities = delivery.begin_backups();
    let backup = taken(&delivery, Marketplace::Bol).await;
    erase(&delivery, Marketplace::Bol, "A1").await;
    let journal = delivery.store.read(journal::journal).await.expect("a journal");
    let restored = restore(&backup, &delivery, &identities, &journal);
    assert_eq!((restored.imported.orders, restored.imported.erased), (1, 1));
    assert_eq!(count(&restored.store, "SELECT count(*) FROM outbox WHERE erased_id IS NOT NULL").await, 1);
    delivery.store = restored.store;
    let again = delivery.told(vec![told(order("A1"))], None).await.expect("stored");
    assert_eq!((again.erased, again.new), (1, 0));
}

#[tokio::test]
async fn who_was_erased_before_the_backup_stays_erased() {
    let mut delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![told(order("A1"))]).await;
    erase(&delivery, Marketplace::Bol, "A1").await;
    let identities = delivery.begin_backups();
    let backup = taken(&delivery, Marketplace::Bol).await;
    let restored = restore(&backup, &delivery, &identities, &[]);
    delivery.store = restored.store;
    let again = delivery.told(vec![told(order("A1"))], None).await.expect("stored");
    assert_eq!((again.erased, again.new), (1, 0));
    let answer = "SELECT count(*) FROM erasures WHERE uid = 'case-A1'";
    assert_eq!(count(&delivery.store, answer).await, 1, "the same answer to who asks again");
}
