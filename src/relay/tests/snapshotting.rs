//! Snapshots: consistent, sealed, for whoever may have them, and in nobody's way.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use marketrelay_api::{
    SubjectDigest,
    backup::{Failure, Site, SnapshotRequest, paths::ROLE},
    relay::{HeldSelection, Placed, paths},
};
use marketrelay_keyring::Keyring;
use marketrelay_relay::{
    privacy::Keeper,
    store::{StoreError, erase, snapshot::SnapshotError},
};
use marketrelay_snapshot::CONTENT_TYPE;
use reqwest::{Client, Response};
use tokio::io::AsyncReadExt;

use crate::common::{
    Authority, Delivery, Destination, LIMITS, Mounts, Process, SOON, bol, eventually, identities, order,
    sandbox, take_apart, with_hold, with_recipients, with_volume,
};

const DAY: SignedDuration = SignedDuration::from_hours(24);
const BACKUP: &str = "20261129T003250Z-5f0c1a2b";

fn keyring(delivery: &Delivery) -> Keyring {
    Keyring::clone(&delivery.keyring.borrow().clone().expect("a keyring"))
}

fn mount(delivery: &Delivery, keyring: Keyring) {
    drop(delivery.keyring.send_replace(Ok(Arc::new(keyring))));
}

/// More orders than wait anywhere between a snapshot and who reads it.
async fn many(delivery: &Delivery) {
    delivery.ingest((0..600).map(|number| order(&format!("A{number}"))).collect()).await;
}

async fn query<T: rusqlite::types::FromSql + Send + 'static>(
    delivery: &Delivery,
    sql: &'static str,
) -> Vec<T> {
    let query = |connection: &rusqlite::Connection| {
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    delivery.store.read(query).await.expect("rows")
}

async fn erase(delivery: &Delivery, number: &str) -> Result<u64, StoreError> {
    let digest = *delivery.digest_key.order("bol", number).as_bytes();
    let request = erase::Request {
        uid: "case".to_owned(),
        subject: vec![SubjectDigest::Order(digest)],
        keyring: Arc::new(keyring(delivery)),
        limits: LIMITS,
        now: delivery.now(),
    };
    delivery.store.erase(request).await.map(|answer| answer.erased)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A database with orders that wait, are held, were anonymised and were erased.
async fn lived_in(delivery: &Delivery) {
    mount(delivery, with_hold(&keyring(delivery), "tax", delivery.now() + DAY * 60));
    let mut shipped = order("A2000999");
    shipped.first_shipped_at = Some(delivery.now() - DAY * 29);
    shipped.placed_at = delivery.now() - DAY * 30;
    delivery.ingest(vec![order("A2000100"), order("A2000200"), shipped]).await;
    let placed = Some(Placed { from: delivery.now() - DAY, to: delivery.now() + DAY });
    let holds = vec![HeldSelection { name: "tax".to_owned(), digests: Vec::new(), placed }];
    let mut keeper = Keeper { holds: holds.into(), ..delivery.keeper(LIMITS) };
    keeper.look().await.expect("a look");
    delivery.pass(DAY * 2);
    keeper.look().await.expect("a look");
    assert_eq!(erase(delivery, "A2000200").await.expect("erased"), 1);
    assert_eq!(query::<i64>(delivery, "SELECT anonymised FROM relay").await, [2]);
    assert_eq!(query::<i64>(delivery, "SELECT count(*) FROM held_orders").await, [2]);
}

#[tokio::test]
async fn who_can_decrypt_a_snapshot_finds_nobody_in_it_and_no_key_that_is_used_elsewhere() {
    let delivery = Delivery::to(&Destination::start().await);
    lived_in(&delivery).await;
    let identities = delivery.begin_backups();
    let taken = delivery.snapshot().await.expect("a snapshot");
    let plain = taken.decrypted(&identities);
    assert!(contains(&plain, b"SKU-1") && contains(&plain, b"OrdersErased"), "it is what it should be");
    let texts = ["Zoë", "Müller", "buyer.example", "Königstraße", "5550100", "ring twice", "A2000"];
    for text in texts {
        assert!(!contains(&plain, text.as_bytes()), "{text}");
    }
    let digests = "SELECT number_digest FROM orders UNION SELECT buyer_digest FROM orders
                   UNION SELECT content_digest FROM orders UNION SELECT digest FROM other_buyer_digests
                   UNION SELECT digest FROM held_people
                   UNION SELECT number_digest FROM held_orders
                       WHERE number_digest NOT IN (SELECT number_digest FROM erasure_journal)
                   UNION SELECT digest FROM hold_digests";
    let wraps = "SELECT pii_key FROM orders UNION SELECT pii_key FROM erased_orders
                 UNION SELECT pii_key FROM held_orders";
    for sql in [digests, wraps] {
        let secrets = query::<Option<Vec<u8>>>(&delivery, sql).await;
        let secrets: Vec<_> = secrets.into_iter().flatten().collect();
        assert!(secrets.len() >= 3, "{sql}");
        for secret in secrets {
            let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(!contains(&plain, &secret) && !contains(&plain, hex.as_bytes()), "{hex}");
        }
    }
    for (name, key) in keyring(&delivery).entries() {
        let is_key = !name.starts_with("backup.") && name != "connection-id";
        assert!(!is_key || !contains(&plain, &key), "{name}");
    }
    let journal = query::<Vec<u8>>(&delivery, "SELECT number_digest FROM erasure_journal").await;
    assert!(contains(&plain, &journal[0]), "what was erased stays so after a restore");
}

#[tokio::test]
async fn the_manifest_tells_what_is_in_a_snapshot_and_when_it_is_to_go() {
    let delivery = Delivery::to(&Destination::start().await);
    lived_in(&delivery).await;
    delivery.begin_backups();
    let first = delivery.snapshot().await.expect("a snapshot").manifest;
    let manifest = delivery.snapshot().await.expect("a snapshot").manifest;
    assert_eq!((first.sequence, manifest.sequence), (1, 2));
    let rows = |name: &str| manifest.tables.iter().find(|table| table.name == name).expect("a table").rows;
    assert_eq!((rows("orders"), rows("order_lines"), rows("erased_orders"), rows("outbox")), (1, 2, 1, 2));
    assert_eq!((rows("held_orders"), rows("anonymised_orders"), rows("erasure_journal")), (2, 2, 1));
    assert!(manifest.tables.iter().all(|table| table.name != "held_people"));
    let sealed =
        query::<i64>(&delivery, "SELECT destroy_at FROM orders UNION SELECT destroy_at FROM erased_orders");
    assert_eq!(manifest.keys.len(), sealed.await.len());
    let latest = delivery.now() + DAY * 30;
    assert!(manifest.expires_at <= latest && manifest.expires_at > latest - DAY);
    let audit = "SELECT object FROM audit WHERE action = 'SnapshotTaken'";
    let expected = format!("{BACKUP} on-site");
    assert_eq!(query::<String>(&delivery, audit).await, [expected.clone(), expected]);
    let last = query::<i64>(&delivery, "SELECT max(sequence) FROM audit").await;
    assert_eq!(manifest.audit.sequence, last[0].unsigned_abs(), "its own record is in it");
}

#[tokio::test]
async fn what_is_due_is_in_no_snapshot() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![order("A1")]).await;
    let identities = delivery.begin_backups();
    let pii = query::<Vec<u8>>(&delivery, "SELECT pii FROM orders").await.remove(0);
    let before = delivery.snapshot().await.expect("a snapshot");
    assert!(contains(&before.decrypted(&identities), &pii));
    let due = query::<i64>(&delivery, "SELECT destroy_at FROM orders").await[0];
    let due = jiff::Timestamp::from_second(due).expect("a time");
    // Nobody has reduced it yet.
    let request = delivery.snapshot_request(BACKUP);
    delivery.set(due);
    let after = delivery.take(request).await.expect("a snapshot");
    assert_eq!(after.manifest.keys, Vec::<String>::new());
    assert!(!contains(&after.decrypted(&identities), &pii));
}

#[tokio::test]
async fn a_keyring_that_lacks_a_key_before_its_time_makes_no_snapshot() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![order("A1")]).await;
    delivery.begin_backups();
    let entries = keyring(&delivery).entries();
    let entries = entries.iter().filter(|(name, _)| !name.starts_with("epoch."));
    let without = Keyring::from_entries(entries.map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    mount(&delivery, without.expect("a keyring"));
    let error = delivery.snapshot().await.err().expect("refused");
    assert!(matches!(error, SnapshotError::Keyring { .. }), "{error}");
}

#[tokio::test]
async fn there_is_one_snapshot_at_a_time_and_nobody_waits_for_it() {
    let delivery = Delivery::to(&Destination::start().await);
    many(&delivery).await;
    delivery.begin_backups();
    let mut keeper = delivery.keeper(LIMITS);
    keeper.look().await.expect("a look");
    let mut stalled = delivery.store.snapshot(delivery.snapshot_request(BACKUP)).await.expect("a snapshot");
    stalled.bytes.read_u8().await.expect("it has begun");
    let second = delivery.snapshot().await.err().expect("refused");
    assert!(matches!(second, SnapshotError::Running), "{second}");

    let begun = Instant::now();
    mount(&delivery, with_volume(&keyring(&delivery), 2));
    keeper.look().await.expect("a look");
    let error = erase(&delivery, "A1").await.expect_err("the log still has it");
    assert!(matches!(error, StoreError::LogInUse), "{error}");
    delivery.ingest(vec![order("B1")]).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(delivery.counts().await.oldest_generation, Some(1), "the old key is still needed");

    // Whoever read it has gone.
    drop(stalled.bytes);
    let outcome = stalled.outcome.await.expect("an outcome");
    assert!(
        matches!(outcome, Err(SnapshotError::Frame { .. } | SnapshotError::Sending { .. })),
        "{outcome:?}"
    );
    keeper.look().await.expect("a look");
    assert_eq!(delivery.counts().await.oldest_generation, Some(2));
    assert!(delivery.store.truncate_log().await.expect("emptied"));
    assert_eq!(std::fs::metadata(delivery.folder().join("marketrelay.db-wal")).expect("a log").len(), 0);
    assert_eq!(erase(&delivery, "A1").await.expect("the same answer"), 1);
    delivery.snapshot().await.expect("there is room again");
}

#[tokio::test]
async fn a_snapshot_that_takes_too_long_is_given_up() {
    let delivery = Delivery::to(&Destination::start().await);
    many(&delivery).await;
    delivery.begin_backups();
    let request = delivery.snapshot_request(BACKUP);
    let request =
        marketrelay_relay::store::snapshot::Request { longest: Duration::from_millis(300), ..request };
    let stalled = delivery.store.snapshot(request).await.expect("a snapshot");
    let outcome = tokio::time::timeout(SOON, stalled.outcome).await.expect("its end").expect("an outcome");
    assert!(outcome.expect_err("given up").to_string().contains("timed out"));
    delivery.snapshot().await.expect("there is room again");
}

#[tokio::test]
async fn closing_waits_for_a_snapshot_and_lets_no_other_begin() {
    let delivery = Delivery::to(&Destination::start().await);
    many(&delivery).await;
    delivery.begin_backups();
    let mut stalled = delivery.store.snapshot(delivery.snapshot_request(BACKUP)).await.expect("a snapshot");
    stalled.bytes.read_u8().await.expect("it has begun");
    let closing = tokio::spawn(delivery.store.clone().close());
    let read = async move {
        let mut rest = Vec::new();
        stalled.bytes.read_to_end(&mut rest).await.expect("the rest");
        stalled.outcome.await.expect("an outcome")
    };
    read.await.expect("a whole snapshot");
    closing.await.expect("no panic").expect("closed");
    let error = delivery.snapshot().await.err().expect("refused");
    assert!(matches!(error, SnapshotError::Running | SnapshotError::Store { .. }), "{error}");
}

struct Asked {
    authority: Authority,
    process: Process,
    address: String,
}

async fn ask(asked: &Asked, http: &Client, backup: &str) -> Response {
    let request = SnapshotRequest { backup: backup.to_owned(), site: Site::OffSite, hold: None };
    let request = http.post(format!("https://{}/v1/snapshot", asked.address)).json(&request);
    request.send().await.expect("an answer")
}

async fn started(mounts: &Mounts) -> Asked {
    let authority = Authority::new();
    authority.mount(mounts.folder.path());
    let process = mounts.spawn();
    let address = process.address().await;
    Asked { authority, process, address }
}

async fn refusal(asked: &Asked, http: &Client) -> String {
    let answer = ask(asked, http, BACKUP).await;
    assert_eq!(answer.status(), 409);
    answer.json::<Failure>().await.expect("a refusal").reason
}

#[tokio::test]
async fn a_job_gets_a_snapshot_from_the_admin_api_and_nobody_without_its_role() {
    let sandbox = sandbox(3).await;
    let mut mounts = Mounts::new(&sandbox, bol());
    mounts.config.retention.backup_retention_seconds = Some(30 * 86_400);
    mounts.write_config();
    let identities = identities(jiff::Timestamp::now());
    mounts.mount_keyring(&with_recipients(&mounts.keyring(), &identities));
    let asked = started(&mounts).await;
    let client = |role: &str| asked.authority.http(Some(&asked.authority.client(role)));
    let nobody = asked.authority.http(None);
    for other in [nobody, client(paths::METRICS_ROLE), client(marketrelay_api::notices::ROLE)] {
        assert_eq!(ask(&asked, &other, BACKUP).await.status(), 403);
    }
    let job = client(ROLE);
    assert_eq!(ask(&asked, &job, "Zoë Müller").await.status(), 400);
    let taken = eventually("the orders", SOON, || async {
        let answer = ask(&asked, &job, BACKUP).await;
        // The one before may not have ended yet.
        if answer.status() == 409 {
            return None;
        }
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], CONTENT_TYPE);
        let taken = take_apart(&answer.bytes().await.expect("bytes"));
        let rows = |name: &str| {
            taken.manifest.tables.iter().find(|table| table.name == name).map(|table| table.rows)
        };
        (rows("orders") == Some(3)).then_some(taken)
    })
    .await;
    assert!(!taken.decrypted(&identities).is_empty());
    assert_eq!(taken.manifest.marketplace, "bol");
    let key = marketrelay_audit::Signer::new(mounts.keyring().audit_key().expect("a key").expose());
    assert_eq!(taken.signed.public_key(), key.expect("a key").public_key());
    assert!(asked.process.terminate(SOON).await.success());
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_snapshot_is_told_before_it_begins() {
    let sandbox = sandbox(0).await;
    let mut mounts = Mounts::new(&sandbox, bol());
    let asked = started(&mounts).await;
    let job = asked.authority.http(Some(&asked.authority.client(ROLE)));
    assert_eq!(refusal(&asked, &job).await, "BackupNotConfigured");
    assert!(asked.process.terminate(SOON).await.success());
    mounts.config.retention.backup_retention_seconds = Some(30 * 86_400);
    mounts.write_config();
    let asked = started(&mounts).await;
    let job = asked.authority.http(Some(&asked.authority.client(ROLE)));
    assert_eq!(refusal(&asked, &job).await, "NoBackupKey");
    for hold in ["ab".repeat(32), "Zoë".to_owned()] {
        let request = SnapshotRequest { backup: BACKUP.to_owned(), site: Site::OffSite, hold: Some(hold) };
        let answer = job.post(format!("https://{}/v1/snapshot", asked.address)).json(&request).send().await;
        let refused = answer.expect("an answer").json::<Failure>().await.expect("a refusal");
        assert_eq!(refused.reason, "HoldUnknown");
    }
    mounts.replace(&format!("{}/connection-id", paths::KEYRING), "none");
    eventually("the keyring is read", SOON, || async {
        (refusal(&asked, &job).await == "KeyringUnusable").then_some(())
    })
    .await;
    assert!(asked.process.terminate(SOON).await.success());
}
