//! What is done is recorded with it, and a record that is changed, missing or out of place is found.

use std::sync::Arc;

use jiff::SignedDuration;
use marketrelay_api::relay::{RelayStatus, paths};
use marketrelay_audit::{Fields, Kind, Options, Signer, Statement, Summary};
use marketrelay_keyring::Limits;
use marketrelay_relay::{
    audit::{self, Action, Actor, Deed},
    store::erase,
};
use rusqlite::Connection;
use serde_json::Value;
use tokio::process::Command;

use crate::common::{
    Answer, Authority, DATABASE_KEY, Delivery, Destination, LIMITS, Mounts, SOON, audit_exported,
    audit_signer, audit_verify, bol, drained, eventually, order, reason, sandbox, with_volume,
};

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn signer(delivery: &Delivery) -> Signer {
    audit_signer(&delivery.keyring.borrow().clone().expect("a keyring"))
}

/// The log as it is exported.
async fn exported(delivery: &Delivery, after: u64) -> Vec<String> {
    audit_exported(&delivery.store, signer(delivery), after).await
}

async fn verified(delivery: &Delivery) -> Result<Summary, String> {
    let known = Options { public_key: Some(signer(delivery).public_key()), ..Options::default() };
    audit_verify(&exported(delivery, 0).await, known)
}

/// Action, object and count of each record.
async fn records(delivery: &Delivery) -> Vec<(String, String, Option<u64>)> {
    let lines = exported(delivery, 0).await;
    let records = lines.iter().map(|line| serde_json::from_str::<Fields>(line).expect("JSON"));
    let text = |fields: &Fields, name: &str| fields[name].as_str().expect("text").to_owned();
    records
        .filter(|fields| !fields.contains_key("signature"))
        .map(|fields| {
            let count = fields.get("count").and_then(Value::as_u64);
            (text(&fields, "action"), text(&fields, "object"), count)
        })
        .collect()
}

fn of(records: &[(String, String, Option<u64>)], action: Action) -> Vec<(&str, Option<u64>)> {
    let found = records.iter().filter(|(name, ..)| name == action.as_str());
    found.map(|(_, object, count)| (object.as_str(), *count)).collect()
}

/// Does something to the database as who has its key can, the triggers out of the way.
fn tamper(delivery: &Delivery, sql: &str) {
    let connection = Connection::open(delivery.folder().join("marketrelay.db")).expect("a database");
    let key: String = DATABASE_KEY.iter().map(|byte| format!("{byte:02x}")).collect();
    connection.execute_batch(&format!("PRAGMA key = \"x'{key}'\";")).expect("a key");
    connection.execute_batch(sql).expect(sql);
}

const WITHOUT_TRIGGERS: &str =
    "DROP TRIGGER audit_is_never_changed; DROP TRIGGER audit_goes_by_pruning_alone;
    DROP TRIGGER audit_grows_at_its_end; DROP TRIGGER audit_chain_stays;";

/// A log with records of some kinds.
async fn filled() -> Delivery {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest((0..130).map(|number| order(&format!("A{number}"))).collect()).await;
    let short = Limits { delete_after_shipment: DAY * 9, ..LIMITS };
    delivery.keeper(short).look().await.expect("a look");
    delivery.set(delivery.counts().await.next_deadline.expect("a deadline"));
    delivery.keeper(short).look().await.expect("a look");
    delivery
}

#[tokio::test]
async fn anonymising_resealing_keys_and_events_are_recorded_in_batches_and_name_nobody() {
    let delivery = filled().await;
    let records = records(&delivery).await;
    assert_eq!(
        of(&records, Action::OrdersResealed),
        [("DeadlineMoved", Some(100)), ("DeadlineMoved", Some(30))]
    );
    let anonymised = of(&records, Action::OrdersAnonymised);
    assert_eq!(anonymised.iter().filter_map(|(_, count)| *count).sum::<u64>(), 130, "{anonymised:?}");
    assert!(
        anonymised.len() <= 3 && anonymised.iter().all(|(key, _)| key.starts_with("epoch.2")),
        "{anonymised:?}"
    );
    let given_up = of(&records, Action::EventsGivenUp);
    assert_eq!(given_up.iter().filter_map(|(_, count)| *count).sum::<u64>(), 130);
    assert_eq!(of(&records, Action::VolumeKeyTaken), [("volume.1", None)]);
    assert_eq!(of(&records, Action::VolumeKeyConfirmed), [("volume.1", None)]);
    let text = exported(&delivery, 0).await.concat();
    let digest = delivery.digest_key.order("bol", "A1").to_string();
    assert!(!text.contains("A1\"") && !text.contains(&digest), "{text}");
    assert_eq!(verified(&delivery).await.expect("no fault").chains[0].last, records.len() as u64);
    let counts = delivery.store.read(audit::counts).await.expect("counts");
    let count = counts.iter().find(|count| count.action == "OrdersAnonymised").expect("counted");
    assert_eq!((count.records, count.deeds), (anonymised.len() as u64, 130));
}

#[tokio::test]
async fn what_a_failed_transaction_would_have_recorded_is_not_there() {
    let delivery = filled().await;
    let before = records(&delivery).await;
    let now = delivery.now();
    let failed = delivery.store.write(move |connection| {
        audit::append(connection, &Deed::new(Action::AuditExported, Actor::Operator, "x"), now)?;
        Ok(connection.execute("INSERT INTO relay (id) VALUES (7)", [])?)
    });
    failed.await.expect_err("refused");
    assert_eq!(records(&delivery).await, before);
    append(&delivery, Action::AuditExported).await;
    verified(&delivery).await.expect("no fault");
}

#[tokio::test]
async fn an_erasure_a_late_shipment_a_drop_and_a_destination_that_wants_no_more_are_recorded() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    delivery.ingest(vec![order("A1"), order("A2")]).await;
    let mut late = order("A2");
    late.first_shipped_at = Some(delivery.now() - DAY * 31);
    late.updated_at = delivery.now();
    delivery.ingest(vec![late]).await;
    let keyring = delivery.keyring.borrow().clone().expect("a keyring");
    let subject =
        vec![marketrelay_api::SubjectDigest::Order(*delivery.digest_key.order("bol", "A1").as_bytes())];
    for _ in 0..2 {
        let request = erase::Request {
            uid: "4711".to_owned(),
            subject: subject.clone(),
            keyring: keyring.clone(),
            limits: LIMITS,
            now: delivery.now(),
        };
        delivery.store.erase(request).await.expect("erased");
    }
    destination.answer([Answer::Status(410)]);
    delivery.start().await;
    reason(&delivery, "DestinationDisabled").await;
    delivery.url.push_str("?new");
    delivery.start().await;
    drained(&delivery).await;
    delivery.stop().await;
    delivery.keeper(LIMITS).look().await.expect("a look");
    let records = records(&delivery).await;
    assert_eq!(of(&records, Action::OrdersErased), [("4711", Some(1))], "a repeated request is none");
    assert_eq!(of(&records, Action::OrdersAnonymised), [("LateShipment", Some(1))]);
    assert_eq!(of(&records, Action::EventsGivenUp), [("LateShipment", Some(1))]);
    assert_eq!(of(&records, Action::OrdersDropped), [("PastDeadline", Some(1))]);
    for action in [Action::DestinationChanged, Action::DestinationDisabled, Action::DestinationEnabled] {
        assert_eq!(of(&records, action), [("destination", None)], "{action:?}");
    }
    verified(&delivery).await.expect("no fault");
}

#[tokio::test]
async fn keys_that_are_gone_are_recorded_by_name() {
    let delivery = Delivery::to(&Destination::start().await);
    let mut keeper = delivery.keeper(LIMITS);
    keeper.look().await.expect("a look");
    let mut keyring = (*delivery.keyring.borrow().clone().expect("a keyring")).clone();
    let first = keyring.live(delivery.now()).next().expect("a key");
    delivery.pass(DAY);
    assert_eq!(keyring.drop_due(delivery.now()), 1);
    drop(delivery.keyring.send_replace(Ok(Arc::new(with_volume(&keyring, 2)))));
    keeper.look().await.expect("a look");
    let records = records(&delivery).await;
    assert_eq!(of(&records, Action::EpochKeysDropped), [(first.to_string().as_str(), Some(1))]);
    assert_eq!(of(&records, Action::VolumeKeyConfirmed), [("volume.1", None), ("volume.2", None)]);
}

#[tokio::test]
async fn the_database_refuses_to_change_to_remove_or_to_insert_a_record() {
    let delivery = filled().await;
    for sql in [
        "UPDATE audit SET count = 1",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE sequence = 2",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE sequence = 2",
        "INSERT INTO audit SELECT sequence + 50, at, action, actor, object, count, previous, hash FROM audit",
        "UPDATE audit_chain SET chain = 'x'",
        "UPDATE audit_chain SET pruned = -1",
        "DELETE FROM audit_chain",
    ] {
        let refused = delivery.store.write(move |connection| Ok(connection.execute(sql, [])?)).await;
        let refused = refused.expect_err(sql).to_string();
        assert!(refused.contains("audit"), "{sql}: {refused}");
    }
    verified(&delivery).await.expect("no fault");
}

#[tokio::test]
async fn tampering_with_the_database_key_is_found_and_the_record_named() {
    for (sql, fault) in [
        ("UPDATE audit SET count = 1 WHERE sequence = 3", "record 3 (line 3) was changed"),
        ("UPDATE audit SET at = at + 1 WHERE sequence = 1", "record 1 (line 1) was changed"),
        ("DELETE FROM audit WHERE sequence BETWEEN 2 AND 3", "records 2 to 3 are missing"),
        ("DELETE FROM audit WHERE sequence = 1", "begins after record 1"),
        (
            "UPDATE audit SET sequence = 99 WHERE sequence = 3; UPDATE audit SET sequence = 3 WHERE sequence = 4;
             UPDATE audit SET sequence = 4 WHERE sequence = 99",
            "record 3 (line 3) was changed",
        ),
        ("DELETE FROM audit WHERE sequence = 1; UPDATE audit_chain SET pruned = 1", "begins after record 1"),
    ] {
        let delivery = filled().await;
        verified(&delivery).await.expect("no fault before");
        tamper(&delivery, &format!("{WITHOUT_TRIGGERS}{sql}"));
        let found = verified(&delivery).await.expect_err(sql);
        assert!(found.contains(fault), "{sql}: {found}");
    }
}

async fn append(delivery: &Delivery, action: Action) {
    let (deed, now) = (Deed::new(action, Actor::Relay, "1"), delivery.now());
    delivery.store.write(move |connection| audit::append(connection, &deed, now)).await.expect("appended");
}

#[tokio::test]
async fn old_records_go_and_the_rest_is_verified_from_a_signed_checkpoint() {
    let delivery = Delivery::to(&Destination::start().await);
    let (old, begun, retention) = (3, delivery.now(), DAY * 400);
    let prune = async || {
        let (signer, now) = (signer(&delivery), delivery.now());
        let prune = move |connection: &_| audit::prune(connection, &signer, retention, now);
        delivery.store.write(prune).await.expect("pruned")
    };
    for _ in 0..old {
        append(&delivery, Action::RelayStopped).await;
    }
    delivery.set(begun + DAY * 300);
    append(&delivery, Action::RelayStarted).await;
    delivery.set(begun + DAY * 401 - SignedDuration::from_secs(1));
    assert_eq!(prune().await, 0, "a day's slack, so that each day has one record of it at most");
    delivery.set(begun + DAY * 401);
    assert_eq!(prune().await, old);
    let kept = records(&delivery).await;
    let pruned = format!("1 to {old}");
    assert_eq!(
        kept,
        [("RelayStarted".to_owned(), "1".to_owned(), None), ("AuditPruned".to_owned(), pruned, Some(old)),]
    );
    assert_eq!(verified(&delivery).await.expect("no fault").chains[0].after, old);
    let lines = exported(&delivery, 0).await;
    let checkpoint: Statement = serde_json::from_str(&lines[0]).expect("a statement");
    assert_eq!((checkpoint.kind, checkpoint.sequence), (Kind::Checkpoint, old));
    let without = audit_verify(&lines[1..], Options::default()).expect_err("no checkpoint");
    assert!(without.contains("begins after"), "{without}");
    // Everything is old: the chain goes on all the same.
    delivery.set(begun + DAY * 900);
    assert_eq!(prune().await, 2);
    assert_eq!(records(&delivery).await.len(), 1);
    assert_eq!(verified(&delivery).await.expect("no fault").chains[0].last, old + 3);
    let part = exported(&delivery, old + 3).await;
    let after = Options { after: old + 3, ..Options::default() };
    assert_eq!(audit_verify(&part, after).expect("no fault").chains[0].last, old + 3);
}

/// The relay's own program on its mounts.
async fn program(mounts: &Mounts, words: &[&str]) -> (bool, String) {
    let program = env!("CARGO_BIN_EXE_marketrelay-relay");
    let output =
        Command::new(program).arg("--root").arg(mounts.root()).args(words).output().await.expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("text"))
}

#[tokio::test]
async fn the_log_is_exported_beside_the_running_relay_and_by_the_admin_api_and_verified_by_the_program() {
    let sandbox = sandbox(3).await;
    let (authority, mounts) = (Authority::new(), Mounts::new(&sandbox, bol()));
    authority.mount(mounts.folder.path());
    let relay = mounts.spawn();
    let url = format!("https://{}", relay.address().await);
    let operator = authority.http(Some(&authority.client(paths::OPERATOR_ROLE)));
    let head = eventually("a signed head", SOON, || async {
        let status: RelayStatus =
            operator.get(format!("{url}/v1/status")).send().await.ok()?.json().await.ok()?;
        status.audit.filter(|head| head.sequence >= 3)
    })
    .await;
    let metrics = authority.http(Some(&authority.client(paths::METRICS_ROLE)));
    let refused = metrics.get(format!("{url}/v1/audit")).send().await.expect("an answer").status();
    assert_eq!(refused.as_u16(), 403);
    let shown =
        metrics.get(format!("{url}/metrics")).send().await.expect("an answer").text().await.expect("text");
    assert!(shown.contains("marketrelay_relay_audit_records_total{action=\"RelayStarted\"} 1"), "{shown}");
    let answer = operator.get(format!("{url}/v1/audit")).send().await.expect("an answer");
    let read = answer.text().await.expect("lines");
    let beyond = operator.get(format!("{url}/v1/audit?after=9999")).send().await.expect("an answer").status();
    assert_eq!(beyond.as_u16(), 400);
    let (is_exported, export) = program(&mounts, &["audit", "export"]).await;
    assert!(is_exported && export.contains("AuditExported"), "that it was read is a record: {export}");
    let file = mounts.root().join("audit.jsonl");
    for text in [&read, &export] {
        std::fs::write(&file, text).expect("written");
        let path = file.display().to_string();
        let (is_intact, summary) =
            program(&mounts, &["audit", "verify", "--public-key", &head.public_key, &path]).await;
        assert!(is_intact && summary.contains("unbroken") && summary.contains(&head.chain), "{summary}");
    }
    let tampered = export.replacen("RelayStarted", "RelayStopped", 1);
    std::fs::write(&file, tampered).expect("written");
    let (is_intact, fault) = program(&mounts, &["audit", "verify", &file.display().to_string()]).await;
    assert!(!is_intact && fault.contains("record 1 (line 1) was changed"), "{fault}");
    assert!(relay.terminate(SOON).await.success());
    let (_, after) = program(&mounts, &["audit", "export", "--after", "2"]).await;
    assert!(
        after.starts_with("{\"at\"") && after.contains("RelayStopped") && !after.contains("RelayStarted")
    );
}
