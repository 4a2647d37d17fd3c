//! Erasing on request: gone from every page, told to the destination, and never stored again.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::SignedDuration;
use marketrelay_api::{
    SubjectDigest,
    notices::ROLE as NOTICES_ROLE,
    relay::{Erasure, ErasureAnswer, SubjectAnswer, paths},
};
use marketrelay_keyring::Keyring;
use marketrelay_marketplace::{Order, OrderPii};
use marketrelay_relay::store::{Store, erase::Request};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::common::{
    Answer, Authority, CLIENT, Control, Delivery, Destination, LIMITS, Mounts, Process, SOON, backing_off,
    bol, decrypted, drained, eventually, order, requests, sandbox,
};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// An order of a buyer whom nobody else is.
fn order_of(number: &str, change: impl FnOnce(&mut OrderPii)) -> Order {
    let mut order = order(number);
    let mut pii = order.pii.expose().clone();
    pii.buyer.email = format!("{number}@buyer.example");
    pii.ship_to = None;
    pii.bill_to = None;
    change(&mut pii);
    order.pii = marketrelay_keyring::Pii::new(pii);
    order
}

impl Delivery {
    fn number(&self, number: &str) -> SubjectDigest {
        SubjectDigest::Order(*self.digest_key.order("bol", number).as_bytes())
    }

    fn buyer(&self, identity: &str) -> SubjectDigest {
        SubjectDigest::Buyer(*self.digest_key.buyer("bol", identity).as_bytes())
    }

    async fn erase(&self, uid: &str, subject: Vec<SubjectDigest>) -> ErasureAnswer {
        let keyring = self.keyring.borrow().clone().expect("a keyring");
        let (limits, now) = (crate::common::LIMITS, self.now());
        let request = Request { uid: uid.to_owned(), subject, keyring, limits, now };
        let answer = self.store.erase(request).await.expect("an answer");
        self.pass(SignedDuration::ZERO);
        answer
    }

    async fn count(&self, sql: &'static str) -> u64 {
        count(&self.store, sql).await
    }
}

async fn count(store: &Store, sql: &'static str) -> u64 {
    let count = |connection: &Connection| Ok(connection.query_row(sql, [], |row| row.get(0))?);
    store.read(count).await.expect("a count")
}

fn events(destination: &Destination) -> Vec<(String, String, u64)> {
    let events = destination.requests();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let told = |event: Value| {
        (text(&event["type"]), text(&event["order"]["number"]), event["revision"].as_u64().expect("a number"))
    };
    events.iter().flat_map(crate::common::Request::events).map(told).collect()
}

fn told(kind: &str, number: &str, revision: u64) -> (String, String, u64) {
    (kind.to_owned(), number.to_owned(), revision)
}

#[tokio::test]
async fn the_destination_is_told_of_an_erased_order_by_its_number_alone() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    delivery.ingest(vec![order_of("A1", |_| {}), order_of("A2", |_| {})]).await;
    delivery.start().await;
    drained(&delivery).await;
    let answer = delivery.erase("case", vec![delivery.number("A1")]).await;
    assert_eq!((answer.matched, answer.erased), (1, 1));
    let until = answer.sealed_until.expect("a time");
    let latest = delivery.now() + DAY * 30;
    assert!(until <= latest && until > latest - DAY * 2, "{until}: the order's own deadline");
    drained(&delivery).await;
    let last = destination.requests().pop().expect("a message");
    let event = &last.events()[0];
    assert_eq!(event["order"], json!({"number": "A1"}));
    assert_eq!((&event["type"], &event["revision"]), (&json!("order.erased"), &json!(2)));
    let first = destination.requests()[0].events();
    assert_ne!(event["id"], first[0]["id"]);
    assert_eq!(
        delivery.count("SELECT count(*) FROM erased_orders").await,
        0,
        "it isn't kept when it is told"
    );
    assert_eq!(delivery.count("SELECT count(*) FROM orders").await, 1);
    assert_eq!(delivery.count("SELECT count(DISTINCT order_id) FROM order_lines").await, 1);
    delivery.stop().await;
}

#[tokio::test]
async fn a_buyer_is_found_by_every_address_and_by_the_user_name() {
    let destination = Destination::start().await;
    let delivery = Delivery::to(&destination);
    let address = |email: &str| marketrelay_marketplace::Address {
        email: email.to_owned(),
        ..marketrelay_marketplace::Address::default()
    };
    delivery
        .ingest(vec![
            order_of("A1", |pii| "zoe@buyer.example".clone_into(&mut pii.buyer.email)),
            order_of("A2", |pii| "zoe_1990".clone_into(&mut pii.buyer.username)),
            order_of("A3", |pii| pii.ship_to = Some(address("Zoe@Buyer.example"))),
            order_of("A4", |pii| pii.bill_to = Some(address("zoe@buyer.example"))),
            order_of("A5", |_| {}),
        ])
        .await;
    let answer = delivery.erase("one", vec![delivery.buyer("ZOE@buyer.example")]).await;
    assert_eq!(answer.erased, 3);
    let answer = delivery.erase("two", vec![delivery.buyer("zoe_1990"), delivery.buyer("zoe_1990")]).await;
    assert_eq!(answer.erased, 1);
    assert_eq!(delivery.count("SELECT count(*) FROM orders").await, 1);
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer_and_an_unknown_subject_zero() {
    let destination = Destination::start().await;
    let delivery = Delivery::to(&destination);
    delivery.ingest(vec![order_of("A1", |_| {}), order_of("A2", |_| {})]).await;
    let first = delivery.erase("case", vec![delivery.number("A1")]).await;
    delivery.pass(DAY);
    assert_eq!(delivery.erase("case", vec![delivery.number("A1")]).await, first);
    let none = ErasureAnswer { matched: 0, erased: 0, held: 0, sealed_until: None };
    assert_eq!(delivery.erase("other", vec![delivery.number("A1")]).await, none);
    assert_eq!(delivery.count("SELECT count(*) FROM outbox WHERE erased_id IS NOT NULL").await, 1);
}

#[tokio::test]
async fn an_erased_order_that_is_told_again_stays_away_until_its_own_deadline_and_then_too() {
    let destination = Destination::start().await;
    let delivery = Delivery::to(&destination);
    let shipped = |day: i32| {
        let mut order = order_of("A1", |_| {});
        order.first_shipped_at = Some(order.placed_at + DAY * day);
        order.updated_at += DAY * day;
        order
    };
    delivery.ingest(vec![order_of("A1", |_| {})]).await;
    delivery.erase("case", vec![delivery.number("A1")]).await;
    let orders = "SELECT count(*) FROM orders";
    // An order that hasn't shipped could be told until its age limit.
    for day in [0, 29, 30, 29] {
        delivery.pass(DAY * day);
        extend(&delivery);
        let orders = vec![order_of("A1", |_| {}), order_of(&format!("B{day}"), |_| {})];
        delivery.told(orders, Some(delivery.now())).await.expect("stored");
    }
    assert_eq!(delivery.count(orders).await, 3, "new orders of the same days are stored");
    assert_eq!(delivery.count("SELECT count(*) FROM erasure_journal").await, 1);
    delivery.pass(DAY * 4);
    extend(&delivery);
    delivery.ingest(vec![shipped(88)]).await;
    keep(&delivery).await;
    assert_eq!(delivery.count("SELECT count(*) FROM erasure_journal").await, 0, "the entry has ended");
    delivery.ingest(vec![shipped(88)]).await;
    assert_eq!(delivery.count(orders).await, 0, "it is past its deadline now, as the others are");
    assert!(delivery.count("SELECT dropped_past_deadline FROM relay").await >= 1);
}

/// As the relay does beside collecting and delivering.
async fn keep(delivery: &Delivery) {
    delivery.keeper(LIMITS).look().await.expect("kept");
}

/// As the operator does.
fn extend(delivery: &Delivery) {
    let mut keyring = Keyring::clone(&delivery.keyring.borrow().clone().expect("a keyring"));
    let grid = marketrelay_keyring::Grid::new(keyring.connection_id(), DAY);
    keyring.extend(grid, delivery.now(), delivery.now() + DAY * 91).expect("keys");
    keyring.drop_due(delivery.now());
    drop(delivery.keyring.send_replace(Ok(Arc::new(keyring))));
}

#[tokio::test]
async fn what_waited_for_the_destination_is_taken_back() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    destination.answer([Answer::Status(500)]);
    delivery.ingest(vec![order_of("A1", |_| {}), order_of("A2", |_| {})]).await;
    delivery.start().await;
    let wait = backing_off(&delivery, 1).await;
    delivery.erase("case", vec![delivery.number("A1")]).await;
    delivery.pass(wait);
    drained(&delivery).await;
    let sent = requests(&destination, 2).await;
    assert_ne!(sent[0].header("webhook-id"), sent[1].header("webhook-id"), "other content, other message");
    let after: Vec<_> = events(&destination).split_off(2);
    assert_eq!(after, [told("order.upserted", "A2", 1), told("order.erased", "A1", 2)]);
    delivery.stop().await;
}

#[tokio::test]
async fn a_destination_that_is_down_beyond_the_orders_deadline_is_not_told_and_nothing_is_kept_for_it() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    destination.answer((0..9).map(|_| Answer::Status(500)));
    delivery.told(vec![order_of("A1", |_| {})], Some(delivery.now())).await.expect("stored");
    delivery.erase("case", vec![delivery.number("A1")]).await;
    delivery.start().await;
    backing_off(&delivery, 1).await;
    delivery.pass(DAY * 31);
    extend(&delivery);
    keep(&delivery).await;
    drained(&delivery).await;
    assert_eq!(destination.requests().len(), 1);
    assert_eq!(delivery.count("SELECT count(*) FROM erased_orders").await, 0);
    assert_eq!(delivery.count("SELECT given_up FROM relay").await, 1);
    delivery.stop().await;
}

#[tokio::test]
async fn of_a_suspended_relay_too_what_can_not_be_told_any_more_is_forgotten() {
    let destination = Destination::start().await;
    let delivery = Delivery::to(&destination);
    delivery.ingest(vec![order_of("A1", |_| {})]).await;
    delivery.erase("case", vec![delivery.number("A1")]).await;
    delivery.pass(DAY * 31);
    extend(&delivery);
    keep(&delivery).await;
    assert_eq!(delivery.count("SELECT count(*) FROM erased_orders").await, 0);
    assert_eq!(delivery.count("SELECT given_up FROM relay").await, 1);
}

/// A relay as a program, with its admin API.
struct Relay {
    mounts: Mounts,
    process: Process,
    url: String,
    operator: reqwest::Client,
}

impl Relay {
    async fn start(mounts: Mounts, authority: &Authority) -> Self {
        let process = mounts.spawn();
        let url = format!("https://{}", process.address().await);
        let operator = authority.http(Some(&authority.client(paths::OPERATOR_ROLE)));
        Self { mounts, process, url, operator }
    }

    async fn erase(&self, uid: &str, subject: Vec<SubjectDigest>) -> reqwest::Result<ErasureAnswer> {
        let url = format!("{}/v1/erasures/{uid}", self.url);
        let request = self.operator.put(url).json(&Erasure { subject });
        request.send().await?.error_for_status()?.json().await
    }

    async fn knows(&self, subject: Vec<SubjectDigest>) -> u64 {
        let request = self.operator.post(format!("{}/v1/subjects", self.url)).json(&Erasure { subject });
        let answer = request.send().await.expect("an answer").error_for_status().expect("a good one");
        answer.json::<SubjectAnswer>().await.expect("an answer").orders
    }

    fn buyer(&self, identity: &str) -> SubjectDigest {
        SubjectDigest::Buyer(*self.mounts.digest_key().buyer("bol", identity).as_bytes())
    }

    fn folder(&self) -> PathBuf {
        self.mounts.root().join(paths::DATA.trim_start_matches('/'))
    }

    fn pages(&self) -> Vec<u8> {
        let path = self.mounts.root().join(paths::DATABASE_KEY.trim_start_matches('/')).join("database-key");
        let key = std::fs::read(path).expect("a key").try_into().expect("32 bytes");
        decrypted(&self.folder(), &key)
    }
}

/// Short pieces of every sealed record, and of what opens it, so that each lies within a page somewhere.
async fn pieces(store: &Store) -> Vec<Vec<u8>> {
    let read = |connection: &Connection| {
        let mut rows = connection.prepare("SELECT pii, pii_key FROM orders")?;
        let rows = rows.query_map([], |row| Ok([row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?]))?;
        let records = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(records.concat().iter().flat_map(|bytes| bytes.chunks_exact(20).map(<[u8]>::to_vec)).collect())
    };
    store.read(read).await.expect("records")
}

fn found(pages: &[u8], pieces: &[Vec<u8>]) -> usize {
    let starts: std::collections::HashSet<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    pages.windows(20).filter(|window| starts.contains(window)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_sealed_of_an_erased_order_is_left_in_any_page_and_it_never_comes_back() {
    let sandbox = sandbox(0).await;
    let (control, authority) = (Control::new(&sandbox), Authority::new());
    let mounts = Mounts::new(&sandbox, bol());
    authority.mount(mounts.folder.path());
    let zoe = json!({"count": 40, "person": {"firstName": "Zoë", "surname": "Nachtigall",
        "email": "zoe@nachtigall.example", "street": "Königstraße", "country": "DE"}});
    control.post(&format!("accounts/{CLIENT}/orders"), zoe).await;
    let relay = Relay::start(mounts, &authority).await;
    control.all_received(CLIENT, jiff::Timestamp::MAX).await;
    let Relay { mounts, process, .. } = relay;
    process.kill().await;
    let store = mounts.store();
    let pieces = pieces(&store).await;
    store.close().await.expect("closed");
    control.post(&format!("accounts/{CLIENT}/orders"), json!({"count": 5})).await;
    let relay = Relay::start(mounts, &authority).await;
    control.all_received(CLIENT, jiff::Timestamp::MAX).await;
    assert!(found(&relay.pages(), &pieces) > 1_000, "the search finds what is there");

    let answer = relay.erase("case", vec![relay.buyer("zoe@nachtigall.example")]).await.expect("an answer");
    assert_eq!((answer.matched, answer.erased), (40, 40));
    assert_eq!(found(&relay.pages(), &pieces), 0, "at once, while the relay runs");

    let numbers = control.numbers(CLIENT, jiff::Timestamp::MAX).await;
    for number in &numbers {
        control.post(&format!("accounts/{CLIENT}/orders/{number}"), json!({"state": "shipped"})).await;
    }
    eventually("every order told again, and the erased ones to the customer", SOON, || async {
        let received = control.received().await;
        let shipped = received.values().filter(|(_, status)| status == "shipped").count();
        let erased =
            received.values().filter(|(revision, status)| status == "erased" && *revision > 1).count();
        (shipped == 5 && erased == 40).then_some(())
    })
    .await;
    let summary = control.get("customers/acme").await;
    assert_eq!((&summary["badSignatures"], &summary["unreadable"]), (&json!(0), &json!(0)), "{summary}");
    let kept = json!(control.events().await).to_string();
    assert!(
        !kept.contains("Nachtigall") && kept.contains("buyer.example"),
        "the customer's system erased it, too"
    );
    let Relay { mounts, process, .. } = relay;
    let log = process.log();
    assert!(!log.contains("zoe@") && !log.contains("buyer:"), "neither name nor digest is logged");
    process.kill().await;
    let store = mounts.store();
    assert_eq!(count(&store, "SELECT count(*) FROM orders").await, 5);
    assert_eq!(count(&store, "SELECT count(*) FROM erased_orders").await, 0);
    store.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_of_an_erasure_all_of_it_happens_once() {
    let seed = std::env::var("SEED").map_or_else(|_| rand::random(), |text| text.parse().expect("SEED"));
    println!("to repeat: SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let sandbox = sandbox(20).await;
    let (control, authority) = (Control::new(&sandbox), Authority::new());
    let mut mounts = Mounts::new(&sandbox, bol());
    authority.mount(mounts.folder.path());
    for round in 0..8 {
        let (email, uid) = (format!("zoe{round}@buyer.example"), format!("case-{round}"));
        let orders = json!({"count": 30, "person": {"firstName": "Zoë", "surname": "M", "email": email}});
        control.post(&format!("accounts/{CLIENT}/orders"), orders).await;
        let relay = Relay::start(mounts, &authority).await;
        control.all_received(CLIENT, jiff::Timestamp::MAX).await;
        let subject = vec![relay.buyer(&email)];
        let asked = tokio::time::timeout(
            Duration::from_micros(rng.random_range(0..40_000)),
            relay.erase(&uid, subject.clone()),
        );
        let first = asked.await.ok().and_then(Result::ok);
        let Relay { mounts: after, process, .. } = relay;
        process.kill().await;
        let relay = Relay::start(after, &authority).await;
        let second = relay.erase(&uid, subject).await.expect("an answer");
        assert_eq!(second.erased, 30, "round {round}");
        assert!(first.is_none_or(|first| first == second));
        let Relay { mounts: after, process, .. } = relay;
        process.kill().await;
        mounts = after;
    }
    let relay = Relay::start(mounts, &authority).await;
    eventually("every erased order told", Duration::from_mins(1), || async {
        (control.get("customers/acme").await["erased"] == 240).then_some(())
    })
    .await;
    let mut ids = std::collections::BTreeMap::new();
    for event in control.events().await.iter().filter(|event| event["type"] == "order.erased") {
        ids.entry(event["number"].to_string()).or_insert_with(Vec::new).push(event["id"].clone());
    }
    assert!(ids.len() == 240 && ids.values().all(|ids| ids.len() == 1), "one id each");
    let Relay { mounts, process, .. } = relay;
    assert!(process.terminate(SOON).await.success());
    let store = mounts.store();
    assert_eq!(count(&store, "SELECT count(*) FROM orders").await, 20);
    store.close().await.expect("closed");
}

#[tokio::test]
async fn only_the_operator_erases_and_nothing_that_is_sent_is_repeated() {
    let sandbox = sandbox(1).await;
    let (control, authority) = (Control::new(&sandbox), Authority::new());
    let mut mounts = Mounts::new(&sandbox, bol());
    authority.mount(mounts.folder.path());
    let relay = Relay::start(mounts, &authority).await;
    control.all_received(CLIENT, jiff::Timestamp::MAX).await;
    let url = format!("{}/v1/erasures/case", relay.url);
    let body = Erasure { subject: vec![SubjectDigest::Order([0; 32])] };
    let look = format!("{}/v1/subjects", relay.url);
    for role in [None, Some(paths::METRICS_ROLE), Some(NOTICES_ROLE)] {
        let client = authority.http(role.map(|role| authority.client(role)).as_ref());
        for request in [client.put(&url), client.post(&look)] {
            let answer = request.json(&body).send().await.expect("an answer");
            assert_eq!(answer.status().as_u16(), 403, "{role:?}");
        }
    }
    let many = vec![SubjectDigest::Order([0; 32]); Erasure::MOST + 1];
    for wrong in [
        json!({"subject": ["zoe@buyer.example"]}),
        json!({"subject": []}),
        json!({"zoe@buyer.example": 1}),
        json!({"subject": many}),
    ] {
        for request in [relay.operator.put(&url), relay.operator.post(&look)] {
            let answer = request.json(&wrong).send().await.expect("an answer");
            assert_eq!(answer.status().as_u16(), 400, "{wrong}");
            assert!(!answer.text().await.expect("a text").contains("zoe"));
        }
    }
    assert!(relay.process.terminate(SOON).await.success());
    // A suspended relay erases, too.
    mounts = relay.mounts;
    mounts.config.suspend = true;
    mounts.write_config();
    let relay = Relay::start(mounts, &authority).await;
    let number = control.numbers(CLIENT, jiff::Timestamp::MAX).await.remove(0);
    let digest = *relay.mounts.digest_key().order("bol", &number).as_bytes();
    assert_eq!(relay.knows(vec![SubjectDigest::Order([0; 32])]).await, 0);
    assert_eq!(relay.knows(vec![SubjectDigest::Order(digest)]).await, 1, "looking erases nothing");
    assert_eq!(relay.knows(vec![SubjectDigest::Order(digest)]).await, 1);
    let answer = relay.erase("case", vec![SubjectDigest::Order(digest)]).await.expect("an answer");
    assert_eq!(answer.erased, 1);
    assert_eq!(relay.knows(vec![SubjectDigest::Order(digest)]).await, 0);
    assert!(relay.process.terminate(SOON).await.success());
}
