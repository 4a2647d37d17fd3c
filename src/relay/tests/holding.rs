//! Holds: what they keep outlives its deadline, is gone at their end, and can be read meanwhile.

use std::{collections::BTreeSet, fs, process::Stdio, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::{
    SubjectDigest,
    relay::{ErasureAnswer, HeldSelection, HoldUse, Placed, paths},
};
use marketrelay_keyring::Keyring;
use marketrelay_marketplace::{Order, OrderStatus};
use marketrelay_relay::{
    privacy::Keeper,
    store::{erase::Request, hold},
};
use serde_json::Value;
use tokio::process::Command;

use crate::common::{
    DATABASE_KEY, Delivery, Destination, LIMITS, Mounts, SOON, bol, eventually, order, remains, sandbox,
    with_hold, with_later_epoch, with_volume, without_hold, without_volume,
};

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn keyring(delivery: &Delivery) -> Keyring {
    Keyring::clone(&delivery.keyring.borrow().clone().expect("a keyring"))
}

fn mount(delivery: &Delivery, keyring: Keyring) {
    drop(delivery.keyring.send_replace(Ok(Arc::new(keyring))));
}

/// The time passes, and keys die.
fn pass(delivery: &Delivery, time: SignedDuration) {
    delivery.pass(time);
    let mut alive = keyring(delivery);
    if alive.drop_due(delivery.now()) > 0 {
        mount(delivery, alive);
    }
}

/// The operator makes the key of a hold that lasts so long.
fn key(delivery: &Delivery, name: &str, lasts: SignedDuration) {
    mount(delivery, with_hold(&keyring(delivery), name, delivery.now() + lasts));
}

/// Orders of the last day.
fn recent(delivery: &Delivery, name: &str) -> HeldSelection {
    let placed = Some(Placed { from: delivery.now() - DAY, to: delivery.now() + DAY });
    HeldSelection { name: name.to_owned(), digests: Vec::new(), placed }
}

fn of(name: &str, digests: Vec<SubjectDigest>) -> HeldSelection {
    HeldSelection { name: name.to_owned(), digests, placed: None }
}

fn keeper(delivery: &Delivery, holds: Vec<HeldSelection>) -> Keeper {
    Keeper { holds: holds.into(), ..delivery.keeper(LIMITS) }
}

/// As a relay that starts with these holds.
async fn look(delivery: &Delivery, holds: Vec<HeldSelection>) {
    let mut keeper = keeper(delivery, holds);
    keeper.look().await.expect("a look");
    assert_eq!(keeper.reporter.get().reason, None);
}

fn aged(number: &str, days: i32) -> Order {
    let mut order = order(number);
    order.placed_at -= DAY * days;
    order
}

async fn held(delivery: &Delivery, name: &'static str) -> Vec<Value> {
    let keyring = keyring(delivery);
    let page = move |connection: &rusqlite::Connection| hold::page(connection, &keyring, name, 0, 1_000);
    let page = delivery.store.read(page).await.expect("a page");
    let orders = page.into_iter().filter_map(|(_, order)| order.ok());
    orders.map(|order| serde_json::from_slice(&order).expect("JSON")).collect()
}

async fn numbers(delivery: &Delivery, name: &'static str) -> Vec<String> {
    let orders = held(delivery, name).await;
    let numbers: BTreeSet<_> = orders.iter().map(|order| order["number"].as_str().expect("text")).collect();
    numbers.into_iter().map(str::to_owned).collect()
}

async fn count(delivery: &Delivery, sql: &'static str) -> u64 {
    let count = |connection: &rusqlite::Connection| Ok(connection.query_row(sql, [], |row| row.get(0))?);
    delivery.store.read(count).await.expect("a count")
}

async fn told(delivery: &Delivery) -> Vec<(String, u64, bool)> {
    let told = |HoldUse { name, orders, complete, .. }| (name, orders, complete);
    delivery.counts().await.holds.into_iter().map(told).collect()
}

async fn rows(delivery: &Delivery) -> u64 {
    count(
        delivery,
        "SELECT (SELECT count(*) FROM holds) + (SELECT count(*) FROM hold_digests)
         + (SELECT count(*) FROM held_orders) + (SELECT count(*) FROM held_people)",
    )
    .await
}

#[tokio::test]
async fn what_is_held_outlives_its_deadline_and_is_gone_at_the_holds_end() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![order("A1"), aged("A2", 3)]).await;
    key(&delivery, "tax", DAY * 60);
    let holds = || vec![recent(&delivery, "tax")];
    let selection = holds();
    look(&delivery, selection.clone()).await;
    assert_eq!(told(&delivery).await, [("tax".to_owned(), 1, true)]);
    pass(&delivery, DAY * 31);
    look(&delivery, selection.clone()).await;
    let counts = delivery.counts().await;
    assert_eq!((counts.with_pii, counts.anonymised), (0, 2), "the deadline is kept all the same");
    let kept = held(&delivery, "tax").await;
    assert_eq!((kept.len(), &kept[0]["number"]), (1, &Value::from("A1")));
    assert_eq!(kept[0]["shipTo"]["city"], "Berlin");
    assert_eq!(kept[0]["lines"][0]["sku"], order("A1").lines[0].sku.as_str());
    let piece = |connection: &rusqlite::Connection| {
        Ok(connection
            .query_row("SELECT substr(pii, 20, 32) FROM held_orders", [], |row| row.get::<_, Vec<u8>>(0))?)
    };
    let piece = delivery.store.read(piece).await.expect("a piece");
    assert!(remains(delivery.folder(), DATABASE_KEY).contain(&piece), "the search finds it");
    pass(&delivery, DAY * 29 - SignedDuration::from_secs(1));
    look(&delivery, selection.clone()).await;
    assert_eq!(numbers(&delivery, "tax").await, ["A1"], "until the last second");
    let mut last = keeper(&delivery, selection);
    let next = last.look().await.expect("a look").expect("a time");
    assert_eq!(next.as_second(), (delivery.now() + SignedDuration::from_secs(1)).as_second());
    pass(&delivery, SignedDuration::from_secs(1));
    last.look().await.expect("a look");
    assert_eq!((rows(&delivery).await, told(&delivery).await), (0, vec![]));
    assert!(!remains(delivery.folder(), DATABASE_KEY).contain(&piece), "no page and no log has it");
    let recorded = "SELECT group_concat(action || ' ' || count, ', ') FROM audit WHERE action LIKE '%Held%'";
    let recorded =
        move |connection: &rusqlite::Connection| Ok(connection.query_row(recorded, [], |row| row.get(0))?);
    let recorded: String = delivery.store.read(recorded).await.expect("records");
    assert_eq!(recorded, "OrdersHeld 1, HeldOrdersDestroyed 1");
}

#[tokio::test]
async fn overlapping_holds_are_independent() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![order("A1"), order("A2")]).await;
    key(&delivery, "tax", DAY * 90);
    key(&delivery, "court", DAY * 40);
    let number = SubjectDigest::Order(*delivery.digest_key.order("bol", "A1").as_bytes());
    let selection = vec![recent(&delivery, "tax"), of("court", vec![number])];
    look(&delivery, selection.clone()).await;
    for (days, tax, court) in [(0, 2, 1), (31, 2, 1), (9, 2, 0), (50, 0, 0)] {
        pass(&delivery, DAY * days);
        look(&delivery, selection.clone()).await;
        let kept = (held(&delivery, "tax").await.len(), held(&delivery, "court").await.len());
        assert_eq!(kept, (tax, court), "{days} days later");
    }
    assert_eq!(rows(&delivery).await, 0);
}

#[tokio::test]
async fn orders_that_come_or_change_later_are_held_as_they_come() {
    let delivery = Delivery::to(&Destination::start().await);
    key(&delivery, "tax", DAY * 60);
    let selection = vec![recent(&delivery, "tax")];
    look(&delivery, selection.clone()).await;
    assert_eq!(told(&delivery).await, [("tax".to_owned(), 0, true)]);
    delivery.ingest(vec![order("A1"), aged("A2", 3)]).await;
    assert_eq!(numbers(&delivery, "tax").await, ["A1"]);
    let mut changed = order("A1");
    (changed.status, changed.updated_at) = (OrderStatus::Shipped, delivery.now());
    delivery.ingest(vec![changed.clone()]).await;
    let kept = held(&delivery, "tax").await;
    assert_eq!((kept.len(), &kept[0]["status"]), (1, &Value::from("shipped")), "the newest state alone");
    // The policy doesn't ask for it any more; what it has, it keeps in its newest state.
    look(&delivery, vec![]).await;
    (changed.status, changed.updated_at) = (OrderStatus::Refunded, delivery.now());
    delivery.ingest(vec![changed, order("A3")]).await;
    let kept = held(&delivery, "tax").await;
    assert_eq!((kept.len(), &kept[0]["status"]), (1, &Value::from("refunded")));
}

#[tokio::test]
async fn a_buyer_is_held_by_any_address_and_an_order_by_its_number() {
    let delivery = Delivery::to(&Destination::start().await);
    let mut other = order("A2");
    let mut pii = other.pii.expose().clone();
    "max@buyer.example".clone_into(&mut pii.buyer.email);
    (pii.ship_to, pii.bill_to) = (None, None);
    other.pii = marketrelay_keyring::Pii::new(pii.clone());
    let mut to_zoe = order("A3");
    pii.ship_to.clone_from(&order("A3").pii.expose().ship_to);
    "A3".clone_into(&mut pii.number);
    to_zoe.pii = marketrelay_keyring::Pii::new(pii);
    delivery.ingest(vec![order("A1"), other, to_zoe]).await;
    let buyer = |email| SubjectDigest::Buyer(*delivery.digest_key.buyer("bol", email).as_bytes());
    let number = SubjectDigest::Order(*delivery.digest_key.order("bol", "A2").as_bytes());
    for name in ["zoe", "max", "number"] {
        key(&delivery, name, DAY);
    }
    let zoe = of("zoe", vec![buyer("ZOE@buyer.example")]);
    look(&delivery, vec![zoe, of("max", vec![buyer("max@buyer.example")]), of("number", vec![number])]).await;
    assert_eq!(numbers(&delivery, "zoe").await, ["A1", "A3"]);
    assert_eq!(numbers(&delivery, "max").await, ["A2", "A3"]);
    assert_eq!(numbers(&delivery, "number").await, ["A2"]);
}

#[tokio::test]
async fn a_hold_that_comes_after_the_deadline_holds_nothing_and_says_so() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![order("A1")]).await;
    let selection = vec![recent(&delivery, "tax")];
    pass(&delivery, DAY * 31);
    key(&delivery, "tax", DAY * 60);
    look(&delivery, selection).await;
    assert_eq!(told(&delivery).await, [("tax".to_owned(), 0, true)]);
    assert_eq!(delivery.counts().await.anonymised, 1);
}

#[tokio::test]
async fn a_hold_comes_before_a_retention_that_was_shortened_with_it() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![order("A1")]).await;
    key(&delivery, "tax", DAY * 60);
    let limits = marketrelay_keyring::Limits { anonymize_after: SignedDuration::from_mins(1), ..LIMITS };
    let mut keeper = Keeper { limits, ..keeper(&delivery, vec![recent(&delivery, "tax")]) };
    keeper.look().await.expect("a look");
    assert_eq!((delivery.counts().await.with_pii, numbers(&delivery, "tax").await.len()), (0, 1));
}

#[tokio::test]
async fn what_is_held_survives_the_volume_keys_replacement_and_needs_the_new_one_alone() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![order("A1"), order("A2")]).await;
    key(&delivery, "tax", DAY * 60);
    let selection = vec![recent(&delivery, "tax")];
    look(&delivery, selection.clone()).await;
    pass(&delivery, DAY * 31);
    look(&delivery, selection.clone()).await;
    let new = with_volume(&keyring(&delivery), 2);
    mount(&delivery, new.clone());
    look(&delivery, selection).await;
    assert_eq!(delivery.counts().await.oldest_generation, Some(2));
    mount(&delivery, without_volume(&new, 1));
    assert_eq!(numbers(&delivery, "tax").await, ["A1", "A2"]);
}

#[tokio::test]
async fn a_hold_ends_when_its_key_is_gone_and_nobody_asks_for_it_and_waits_for_a_key_that_is_not_mounted() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![order("A1")]).await;
    let without = keyring(&delivery);
    key(&delivery, "tax", DAY * 60);
    let with = keyring(&delivery);
    let selection = vec![recent(&delivery, "tax")];
    look(&delivery, selection.clone()).await;
    mount(&delivery, without);
    look(&delivery, selection.clone()).await;
    mount(&delivery, with.clone());
    look(&delivery, vec![]).await;
    assert_eq!(numbers(&delivery, "tax").await, ["A1"], "its key is there, though nobody asks for it");
    mount(&delivery, without_hold(&with, "tax"));
    look(&delivery, vec![]).await;
    assert_eq!(rows(&delivery).await, 0);
    // A later hold of the same name is another one.
    mount(&delivery, with.clone());
    look(&delivery, selection.clone()).await;
    mount(&delivery, with_hold(&without_hold(&with, "tax"), "tax", delivery.now() + DAY * 90));
    look(&delivery, selection).await;
    assert_eq!((numbers(&delivery, "tax").await.len(), told(&delivery).await.len()), (1, 1));
}

#[tokio::test]
async fn a_hold_whose_key_a_later_keyring_lacks_is_over_though_the_configuration_still_names_it() {
    let later: [fn(&Keyring) -> Keyring; 2] = [|keyring| with_volume(keyring, 2), with_later_epoch];
    for later in later {
        let delivery = Delivery::to(&Destination::start().await);
        delivery.ingest(vec![order("A1")]).await;
        let earlier = keyring(&delivery);
        key(&delivery, "tax", DAY * 60);
        let with = keyring(&delivery);
        let selection = vec![recent(&delivery, "tax")];
        look(&delivery, selection.clone()).await;
        // The kubelet of another node hasn't seen the key yet.
        mount(&delivery, earlier);
        look(&delivery, selection.clone()).await;
        mount(&delivery, with.clone());
        look(&delivery, selection.clone()).await;
        assert_eq!(numbers(&delivery, "tax").await, ["A1"]);
        let newest = later(&without_hold(&with, "tax"));
        mount(&delivery, newest.clone());
        look(&delivery, selection).await;
        assert_eq!((rows(&delivery).await, told(&delivery).await), (0, vec![]));
        let oldest = delivery.counts().await.oldest_generation;
        assert_eq!(oldest, Some(newest.volume_generation()), "the volume key's replacement goes on");
    }
}

#[tokio::test]
async fn a_holds_end_that_moves_leaves_what_it_keeps() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![order("A1")]).await;
    key(&delivery, "tax", DAY * 40);
    let selection = vec![recent(&delivery, "tax")];
    look(&delivery, selection.clone()).await;
    let mut later = keyring(&delivery);
    let hold = later.holds().next().expect("a hold").0.clone();
    let until = (delivery.now() + DAY * 80).as_second();
    later.move_hold(&hold, marketrelay_keyring::DestroyAt::from_second(until));
    mount(&delivery, later);
    look(&delivery, selection.clone()).await;
    for (days, kept) in [(41, 1), (38, 1), (2, 0)] {
        pass(&delivery, DAY * days);
        look(&delivery, selection.clone()).await;
        assert_eq!(held(&delivery, "tax").await.len(), kept);
    }
}

async fn erase(delivery: &Delivery, uid: &str) -> ErasureAnswer {
    let subject =
        vec![SubjectDigest::Buyer(*delivery.digest_key.buyer("bol", "zoe@buyer.example").as_bytes())];
    let keyring = Arc::new(keyring(delivery));
    let request = Request { uid: uid.to_owned(), subject, keyring, limits: LIMITS, now: delivery.now() };
    delivery.store.erase(request).await.expect("an answer")
}

#[tokio::test]
async fn an_erasure_removes_the_order_and_tells_what_stays_held() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![order("A1"), aged("A2", 3)]).await;
    key(&delivery, "tax", DAY * 60);
    key(&delivery, "court", DAY * 50);
    let until = delivery.now() + DAY * 60;
    look(&delivery, vec![recent(&delivery, "tax"), recent(&delivery, "court")]).await;
    let first = erase(&delivery, "one").await;
    assert_eq!((first.matched, first.erased, first.held), (2, 2, 1), "held twice, one order");
    assert_eq!(first.sealed_until.map(Timestamp::as_second), Some(until.as_second()));
    assert_eq!(erase(&delivery, "one").await, first, "the same answer");
    assert_eq!(count(&delivery, "SELECT count(*) FROM orders").await, 0);
    let again = erase(&delivery, "two").await;
    assert_eq!((again.matched, again.erased, again.held), (1, 0, 1), "what is held is told");
    delivery.ingest(vec![order("A1")]).await;
    assert_eq!(numbers(&delivery, "tax").await, ["A1"]);
    assert_eq!(count(&delivery, "SELECT count(*) FROM orders").await, 0, "it stays away");
}

/// What the subcommand prints, and whether it was content.
async fn ask(mounts: &Mounts, hold: &str, record: &str) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marketrelay-relay"));
    command.arg("--root").arg(mounts.root()).args(["held", "--hold", hold, "--record"]);
    let output =
        command.arg(mounts.root().join(record)).stdin(Stdio::null()).output().await.expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn what_is_held_can_be_read_beside_the_running_relay_and_its_log_says_that_it_was() {
    let sandbox = sandbox(0).await;
    let mut mounts = Mounts::new(&sandbox, bol());
    let now = Timestamp::now();
    mounts.mount_keyring(&with_hold(&mounts.keyring(), "tax", now + DAY * 60));
    mounts.config.suspend = true;
    let placed = Some(Placed { from: now - DAY, to: now + DAY });
    mounts.config.holds = vec![HeldSelection { name: "tax".to_owned(), digests: Vec::new(), placed }];
    mounts.write_config();
    mounts.ingest((0..250).map(|number| order(&format!("A{number}"))).collect()).await;
    let relay = mounts.spawn();
    eventually("all are held", SOON, || async {
        ask(&mounts, "tax", "log").await.1.lines().count().eq(&250).then_some(())
    })
    .await;
    let (content, orders, _) = ask(&mounts, "tax", "log").await;
    assert!(content);
    let orders: Vec<Value> = orders.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let numbers: BTreeSet<_> = orders.iter().map(|order| order["number"].as_str().expect("text")).collect();
    assert_eq!((numbers.len(), &orders[0]["buyer"]["email"]), (250, &Value::from("zoe@buyer.example")));
    let log = relay.log();
    let record = log.lines().rfind(|line| line.contains("HeldOrdersRead")).expect("a record");
    let record: Value = serde_json::from_str(record).expect("JSON");
    assert_eq!(record["target"], "marketrelay::audit");
    assert_eq!(
        (&record["fields"]["hold"], &record["fields"]["orders"]),
        (&Value::from("tax"), &Value::from(250))
    );
    assert!(!log.contains("zoe@") && !log.contains("A249"), "what it read isn't logged");

    let (content, orders, error) = ask(&mounts, "tax-2025", "log").await;
    assert!(!content && orders.is_empty() && error.contains("there are: tax"), "{error}");
    let (content, orders, error) = ask(&mounts, "tax", "nowhere/log").await;
    assert!(!content && orders.is_empty() && error.contains("can't be recorded"), "{error}");
    let key = mounts.root().join(format!("{}/database-key", paths::DATABASE_KEY).trim_start_matches('/'));
    fs::write(key, [9; 32]).expect("another key");
    assert!(!ask(&mounts, "tax", "log").await.0, "with another database key");
}
