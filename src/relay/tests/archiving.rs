//! A hold's archive has what the hold keeps and nothing else, and brings it into whichever database.

use std::{io::Read, path::PathBuf};

use jiff::SignedDuration;
use marketrelay_api::relay::{HeldSelection, HoldUse, Placed};
use marketrelay_audit::Signer;
use marketrelay_keyring::{BackupIdentities, HoldId, HoldKey, Keyring, SecretKey};
use marketrelay_marketplace::{Order, OrderStatus};
use marketrelay_relay::{
    privacy::Keeper,
    store::{
        Store, erase, hold,
        import::{Archive, ImportError, Keys, add},
        snapshot::{Request, Scope, SnapshotError},
    },
};
use marketrelay_snapshot::{Manifest, SignedManifest, decompress};
use tempfile::TempDir;

use crate::{
    common::{
        DATABASE_KEY, Delivery, Destination, ID, LIMITS, Taken, audit_exported, audit_signer, audit_verify,
        order, with_hold, with_volume, without_hold, without_volume,
    },
    restoring::{BACKUP, keyring, mount, restore_to, told},
};

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn key_of(keyring: &Keyring, name: &str) -> (HoldKey, HoldId) {
    let (key, id) = keyring.holds().find(|(key, _)| key.name() == name).expect("the hold's key");
    (key.clone(), id)
}

fn make(delivery: &Delivery, name: &str) {
    mount(delivery, with_hold(&keyring(delivery), name, delivery.now() + DAY * 60));
}

/// The relay starts with holds of these days' orders, and looks.
async fn look(delivery: &Delivery, names: &[&str]) {
    let placed = Some(Placed { from: delivery.now() - DAY * 10, to: delivery.now() + DAY * 10 });
    let selection = |name: &&str| HeldSelection { name: (*name).to_owned(), digests: Vec::new(), placed };
    let holds: Vec<_> = names.iter().map(selection).collect();
    let mut keeper = Keeper { holds: holds.into(), ..delivery.keeper(LIMITS) };
    keeper.look().await.expect("a look");
    assert_eq!(keeper.reporter.get().reason, None);
}

fn request(delivery: &Delivery, name: &str) -> Request {
    let (key, id) = key_of(&keyring(delivery), name);
    let recipient = keyring(delivery).archive_recipient(id).expect("a recipient").1;
    Request { scope: Scope::Hold(key, id), recipient, ..delivery.snapshot_request(BACKUP) }
}

async fn archive(delivery: &Delivery, name: &str) -> Taken {
    delivery.take(request(delivery, name)).await.expect("an archive")
}

async fn told_of(delivery: &Delivery, name: &str) -> HoldUse {
    let holds = delivery.counts().await.holds;
    holds.into_iter().find(|hold| hold.name == name).expect("the hold")
}

fn later(order: Order, status: OrderStatus) -> Order {
    Order { status, updated_at: order.updated_at + SignedDuration::from_mins(1), ..order }
}

/// With a backup that is older than its hold.
struct Case {
    delivery: Delivery,
    identities: BackupIdentities,
    backup: Taken,
    folder: TempDir,
}

impl Case {
    async fn start() -> Self {
        let delivery = Delivery::to(&Destination::start().await);
        delivery.ingest(vec![told(order("A1"))]).await;
        let identities = delivery.begin_backups();
        let backup = delivery.snapshot().await.expect("a backup");
        delivery.ingest(vec![told(order("A2"))]).await;
        make(&delivery, "tax");
        look(&delivery, &["tax"]).await;
        Self { delivery, identities, backup, folder: TempDir::new().expect("a folder") }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("marketrelay.db")
    }

    fn restore(&self) {
        let imported = restore_to(&self.path(), &self.backup, &self.delivery, &self.identities, &[]);
        assert_eq!(imported.expect("imported").held, 0);
    }

    fn add(&self, signed: &SignedManifest, data: &[u8]) -> Result<u64, ImportError> {
        let (keyring, database) = (keyring(&self.delivery), SecretKey::from(DATABASE_KEY));
        let keys = Keys { keyring: &keyring, digest: &self.delivery.digest_key, database: &database };
        let archive = Archive { hold: key_of(&keyring, "tax").1, manifest: signed, data };
        add(&self.path(), archive, keys, self.delivery.now())
    }

    /// The restored database.
    fn store(&self) -> Store {
        let id = ID.parse().expect("an id");
        Store::open(self.folder.path(), &SecretKey::from(DATABASE_KEY), &id).expect("a database")
    }

    /// What it keeps: number and status of each.
    async fn held(&self) -> Vec<(String, String)> {
        let (store, keyring) = (self.store(), keyring(&self.delivery));
        let page = store.read(move |connection| hold::page(connection, &keyring, "tax", 0, 100)).await;
        store.close().await.expect("closed");
        let json = page.expect("a page").into_iter().map(|(_, order)| order.expect("it opens"));
        let json = json.map(|json| serde_json::from_slice::<serde_json::Value>(&json).expect("JSON"));
        let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
        let mut held: Vec<_> = json.map(|order| (text(&order["number"]), text(&order["status"]))).collect();
        held.sort();
        held
    }

    fn signed(&self, taken: &Taken, change: impl FnOnce(&mut Manifest)) -> SignedManifest {
        let mut manifest = taken.manifest.clone();
        change(&mut manifest);
        SignedManifest::sign(&manifest, &audit_signer(&keyring(&self.delivery))).expect("signed")
    }
}

fn opened(taken: &Taken, identity: &age::x25519::Identity) -> Option<Vec<u8>> {
    let decryptor = age::Decryptor::new_buffered(&taken.data[..]).expect("age");
    let decrypted = decryptor.decrypt(std::iter::once(identity as &dyn age::Identity)).ok()?;
    let mut plain = Vec::new();
    decompress(std::io::BufReader::new(decrypted)).expect("zstd").read_to_end(&mut plain).expect("whole");
    Some(plain)
}

#[tokio::test]
async fn an_archive_has_what_its_hold_keeps_and_opens_with_that_holds_key_alone() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![told(order("A1")), told(order("A2"))]).await;
    delivery.begin_backups();
    for name in ["court", "tax"] {
        make(&delivery, name);
    }
    look(&delivery, &["tax"]).await;
    delivery.ingest(vec![told(order("A3"))]).await;
    let taken = archive(&delivery, "tax").await;
    let (keyring, manifest) = (keyring(&delivery), &taken.manifest);
    let (key, id) = key_of(&keyring, "tax");
    let tables: Vec<_> = manifest.tables.iter().map(|table| (table.name.as_str(), table.rows)).collect();
    assert_eq!(tables, [("holds", 1), ("held_orders", 3)]);
    let of = manifest.hold.as_ref().expect("whose it is");
    assert_eq!((&of.id, of.revision), (&id.to_string(), told_of(&delivery, "tax").await.revision));
    assert_eq!((&manifest.identity, manifest.keys.len()), (&key.to_string(), 0));
    assert_eq!(manifest.expires_at.as_second(), key.destroy_at().as_second());
    let plain = opened(&taken, &keyring.archive_identity(id).expect("a key")).expect("it opens");
    for text in ["Zoë", "Müller", "buyer.example", "SKU-1"] {
        assert!(!plain.windows(text.len()).any(|part| part == text.as_bytes()), "{text}");
    }
    let other = key_of(&keyring, "court").1;
    assert_eq!(opened(&taken, &keyring.archive_identity(other).expect("a key")), None);
    let backup = delivery.snapshot().await.expect("a backup").manifest;
    assert_eq!((backup.hold, backup.sequence), (None, manifest.sequence + 1));
}

#[tokio::test]
async fn a_hold_that_the_relay_does_not_know_has_no_archive() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.begin_backups();
    make(&delivery, "tax");
    let error = delivery.take(request(&delivery, "tax")).await.err().expect("refused");
    assert!(matches!(error, SnapshotError::NoHold), "{error}");
    // A key that is missing for a moment leaves no archive without its orders.
    delivery.ingest(vec![told(order("A1"))]).await;
    look(&delivery, &["tax"]).await;
    let request = request(&delivery, "tax");
    mount(&delivery, without_hold(&keyring(&delivery), "tax"));
    let error = delivery.take(request).await.err().expect("refused");
    assert!(matches!(error, SnapshotError::Keyring { .. }), "{error}");
}

#[tokio::test]
async fn what_is_told_of_a_hold_shows_whether_an_archive_has_everything() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![told(order("A1"))]).await;
    make(&delivery, "tax");
    look(&delivery, &["tax"]).await;
    let first = told_of(&delivery, "tax").await;
    assert_eq!((first.orders, first.selected_revision), (1, first.revision));
    assert_eq!(first.id, key_of(&keyring(&delivery), "tax").1.to_string());
    look(&delivery, &["tax"]).await;
    assert_eq!(told_of(&delivery, "tax").await, first, "nothing is new");
    delivery.ingest(vec![told(order("A2"))]).await;
    let second = told_of(&delivery, "tax").await;
    assert!(second.revision > first.revision, "{second:?}");
    assert_eq!(second.selected_revision, first.selected_revision, "it came by itself");
    delivery.ingest(vec![later(told(order("A2")), OrderStatus::Shipped)]).await;
    assert!(told_of(&delivery, "tax").await.revision > second.revision, "a newer state counts");
}

#[tokio::test]
async fn an_archive_brings_what_a_backup_that_is_older_than_its_hold_does_not_have() {
    let mut case = Case::start().await;
    let archive = archive(&case.delivery, "tax").await;
    let known = archive.manifest.hold.as_ref().expect("whose it is").revision;
    // By the time of the restore the orders' deadlines have passed, and the volume key is another one.
    case.delivery.pass(DAY * 35);
    let mut alive = without_volume(&with_volume(&keyring(&case.delivery), 2), 1);
    alive.drop_due(case.delivery.now());
    mount(&case.delivery, alive);
    case.restore();
    assert_eq!(case.add(&archive.signed, &archive.data).expect("added"), 2);
    assert_eq!(case.add(&archive.signed, &archive.data).expect("added"), 0, "it is there already");
    let numbers: Vec<_> = case.held().await.into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, ["A1", "A2"]);
    let lines = audit_exported(&case.store(), audit_signer(&keyring(&case.delivery)), 0).await;
    audit_verify(&lines, marketrelay_audit::Options::default()).expect("an unbroken chain");
    assert_eq!(lines.iter().filter(|line| line.contains("OrdersHeld")).count(), 1, "{lines:?}");
    case.delivery.store = case.store();
    assert!(told_of(&case.delivery, "tax").await.revision > known, "no older archive has all of it");
    let digest = *case.delivery.digest_key.order("bol", "A2").as_bytes();
    let request = erase::Request {
        uid: "case".to_owned(),
        subject: vec![marketrelay_api::SubjectDigest::Order(digest)],
        keyring: std::sync::Arc::new(keyring(&case.delivery)),
        limits: LIMITS,
        now: case.delivery.now(),
    };
    let answer = case.delivery.store.erase(request).await.expect("an answer");
    assert_eq!((answer.matched, answer.held), (1, 1), "it is found by who is in it");
}

#[tokio::test]
async fn the_newest_revision_of_an_order_stays_whichever_archive_comes_last() {
    let case = Case::start().await;
    let older = archive(&case.delivery, "tax").await;
    case.delivery.ingest(vec![later(told(order("A1")), OrderStatus::Shipped)]).await;
    let newer = archive(&case.delivery, "tax").await;
    case.restore();
    for (archive, added) in [(&older, 2), (&newer, 0), (&older, 0)] {
        assert_eq!(case.add(&archive.signed, &archive.data).expect("added"), added);
    }
    let held = case.held().await;
    assert_eq!(held[0].0, "A1");
    assert_eq!(held[0].1.to_lowercase(), "shipped");
    assert_ne!(held[1].1, held[0].1);
}

#[tokio::test]
async fn an_archive_that_is_not_what_it_should_be_is_refused_and_adds_nothing() {
    let case = Case::start().await;
    make(&case.delivery, "court");
    look(&case.delivery, &["tax", "court"]).await;
    let (good, others) = (archive(&case.delivery, "tax").await, archive(&case.delivery, "court").await);
    case.restore();
    let mut altered = good.data.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 4;
    let stranger =
        SignedManifest::sign(&good.manifest, &Signer::new(&[9; 32]).expect("a key")).expect("signed");
    let other_tenant = case.signed(&good, |manifest| manifest.connection_id = ID.replace('3', "4"));
    let renamed = case.signed(&others, |manifest| manifest.hold.clone_from(&good.manifest.hold));
    let fewer = case.signed(&good, |manifest| manifest.tables[1].rows = 1);
    let newer = case.signed(&good, |manifest| manifest.schema += 1);
    for (what, signed, data) in [
        ("altered data", &good.signed, &altered[..]),
        ("cut data", &good.signed, &good.data[..good.data.len() - 1]),
        ("data of another hold", &good.signed, &others.data[..]),
        ("another hold's", &others.signed, &others.data[..]),
        ("another hold's under its name", &renamed, &others.data[..]),
        ("signed by another key", &stranger, &good.data[..]),
        ("of another connection", &other_tenant, &good.data[..]),
        ("with other counts", &fewer, &good.data[..]),
        ("of a newer schema", &newer, &good.data[..]),
        ("a backup", &case.backup.signed, &case.backup.data[..]),
    ] {
        assert!(case.add(signed, data).is_err(), "{what}");
        assert_eq!(case.held().await, [], "{what}");
    }
    assert_eq!(case.add(&good.signed, &good.data).expect("added"), 2, "the good one is still taken");
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("marketrelay.db");
    let archive = Taken { manifest: case.backup.manifest.clone(), ..good };
    let error = restore_to(&path, &archive, &case.delivery, &case.identities, &[]).expect_err("no backup");
    assert!(matches!(error, ImportError::NoBackup), "{error}");
}
