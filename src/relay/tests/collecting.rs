//! Collecting: page and cursor together or not at all.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use marketrelay_keyring::{DigestKey, SecretKey};
use marketrelay_marketplace::{CollectFuture, Collector, Credentials, Cursor, Order, OrderStatus, Page};
use marketrelay_relay::{
    activity::Reporter,
    clock::Clock,
    collect::Collecting,
    metrics::Metrics,
    mounts::Mounted,
    store::{ingest, status::Counts},
};
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::common::{Delivery, Destination, LIMITS, eventually, order};

const SOON: Duration = Duration::from_secs(30);

/// Serves one planned page per call; the cursor counts them.
#[derive(Clone, Default)]
struct Script {
    pages: Arc<Mutex<VecDeque<Vec<Order>>>>,
    credentials: Arc<Mutex<Vec<String>>>,
}

impl Collector for Script {
    fn start(&self, _since: Timestamp) -> Cursor {
        Cursor(json!(0))
    }

    fn page<'a>(&'a mut self, cursor: &'a Cursor, _now: Timestamp) -> CollectFuture<'a> {
        let at = cursor.0.as_u64().expect("a number");
        let page = self.pages.lock().expect("a lock").get(usize::try_from(at).expect("small")).cloned();
        let next = Cursor(json!(at + u64::from(page.is_some())));
        let page =
            Page { more: page.is_some(), orders: page.unwrap_or_default(), cursor: next, known_until: None };
        Box::pin(std::future::ready(Ok(page)))
    }

    fn set_credentials(&mut self, credentials: Credentials) {
        self.credentials.lock().expect("a lock").push(credentials.client_secret.clone());
    }
}

struct Collection {
    delivery: Delivery,
    script: Script,
    reporter: Reporter,
    credentials: watch::Sender<Mounted<Credentials>>,
    digest_key: watch::Sender<Mounted<DigestKey>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn credentials(secret: &str) -> Arc<Credentials> {
    Arc::new(Credentials {
        client_id: "client".to_owned(),
        client_secret: secret.to_owned(),
        refresh_token: None,
    })
}

impl Collection {
    async fn start() -> Self {
        // Its database and keys, without delivering.
        let delivery = Delivery::to(&Destination::start().await);
        let (script, reporter, stop) =
            (Script::default(), Reporter::new("collecting"), CancellationToken::new());
        let (credentials, mounted_credentials) = watch::channel(Ok(credentials("first")));
        let (digest_key, mounted_digest_key) = watch::channel(Ok(delivery.digest_key.clone()));
        let collecting = Collecting {
            collector: Box::new(script.clone()),
            store: delivery.store.clone(),
            interval: Duration::from_millis(20),
            lookback: SignedDuration::from_hours(24),
            limits: LIMITS,
            digest_key: mounted_digest_key,
            keyring: delivery.keyring.subscribe(),
            credentials: mounted_credentials,
            bell: Arc::default(),
            deadlines: Arc::default(),
            reporter: reporter.clone(),
            metrics: Arc::new(Metrics::new().expect("metrics")),
            clock: Clock::system(),
        };
        let task = tokio::spawn(collecting.run(stop.clone()));
        Self { delivery, script, reporter, credentials, digest_key, stop, task }
    }

    fn page(&self, orders: Vec<Order>) {
        self.script.pages.lock().expect("a lock").push_back(orders);
    }

    async fn cursor(&self) -> Option<u64> {
        let cursor = self.delivery.store.read(ingest::cursor).await.expect("a cursor");
        cursor.and_then(|cursor| cursor.0.as_u64())
    }

    async fn at(&self, cursor: u64) {
        let what = format!("page {cursor}; {:?}", self.reporter.get());
        eventually(&what, SOON, || async { (self.cursor().await == Some(cursor)).then_some(()) }).await;
    }

    async fn counts(&self) -> Counts {
        self.delivery.counts().await
    }

    async fn reason(&self, reason: &str) {
        let fails = || async { (self.reporter.get().reason.as_deref() == Some(reason)).then_some(()) };
        eventually(reason, SOON, fails).await;
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("no panic");
    }
}

fn numbered(from: u32, to: u32) -> Vec<Order> {
    (from..to).map(|number| order(&format!("A{number}"))).collect()
}

async fn pages_limit(collection: &Collection, pages: Option<u32>) {
    let limit = move |connection: &rusqlite::Connection| {
        let used: u32 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let limit = pages.map_or(u32::MAX - 1, |more| used + more);
        connection.query_row(&format!("PRAGMA max_page_count = {limit}"), [], |_| Ok(()))?;
        Ok(())
    };
    collection.delivery.store.write(limit).await.expect("a limit");
}

#[tokio::test]
async fn on_a_full_volume_the_cursor_stays_and_collecting_goes_on_when_there_is_room() {
    let collection = Collection::start().await;
    collection.page(numbered(0, 10));
    collection.at(1).await;
    pages_limit(&collection, Some(4)).await;
    collection.page(numbered(10, 400));
    collection.reason("StorageFull").await;
    assert!(collection.reporter.get().message.expect("a message").contains("spec.storage.size"));
    assert_eq!((collection.cursor().await, collection.counts().await.orders), (Some(1), 10));
    // A relay with a full volume is alive: it isn't restarted for it.
    collection.delivery.store.write(|_| Ok(())).await.expect("it answers");
    pages_limit(&collection, None).await;
    collection.at(2).await;
    let counts = collection.counts().await;
    assert_eq!((counts.orders, counts.backlog), (400, 400));
    let works = || async { collection.reporter.get().reason.is_none().then_some(()) };
    eventually("it works again", SOON, works).await;
    collection.end().await;
}

#[tokio::test]
async fn a_page_with_one_order_that_cannot_be_stored_leaves_nothing_and_is_read_again() {
    let collection = Collection::start().await;
    let whole = collection.delivery.keyring.borrow().clone().expect("a keyring");
    let mut short = marketrelay_keyring::Keyring::clone(&whole);
    short.drop_due(Timestamp::now() + SignedDuration::from_hours(24 * 100));
    drop(collection.delivery.keyring.send_replace(Ok(Arc::new(short))));
    collection.page(numbered(0, 5));
    collection.reason("KeyringTooShort").await;
    assert_eq!((collection.cursor().await, collection.counts().await.orders), (None, 0));
    drop(collection.delivery.keyring.send_replace(Ok(whole)));
    collection.at(1).await;
    assert_eq!(collection.counts().await.orders, 5);
    collection.end().await;
}

#[tokio::test]
async fn another_digest_key_stores_nothing_twice() {
    let collection = Collection::start().await;
    collection.page(numbered(0, 5));
    collection.at(1).await;
    let other = DigestKey::new(&SecretKey::from([9; 32]));
    drop(collection.digest_key.send_replace(Ok(Arc::new(other))));
    collection.reason("DigestKeyInvalid").await;
    collection.page(numbered(0, 5));
    assert_eq!((collection.cursor().await, collection.counts().await.orders), (Some(1), 5));
    drop(collection.digest_key.send_replace(Ok(collection.delivery.digest_key.clone())));
    collection.at(2).await;
    assert_eq!(collection.counts().await.orders, 5);
    collection.end().await;
}

#[tokio::test]
async fn credentials_that_change_while_it_waits_are_taken_once() {
    let collection = Collection::start().await;
    collection.page(numbered(0, 1));
    collection.at(1).await;
    for secret in ["second", "third"] {
        drop(collection.credentials.send_replace(Ok(credentials(secret))));
        let taken = || async {
            let taken = collection.script.credentials.lock().expect("a lock");
            (taken.last().map(String::as_str) == Some(secret)).then_some(())
        };
        eventually(secret, SOON, taken).await;
    }
    collection.page(numbered(1, 2));
    collection.at(2).await;
    assert_eq!(*collection.script.credentials.lock().expect("a lock"), ["first", "second", "third"]);
    collection.end().await;
}

#[tokio::test]
async fn the_same_order_again_is_no_event_a_change_is_one_and_an_older_state_is_none() {
    let collection = Collection::start().await;
    let first = order("A1");
    let mut shipped = first.clone();
    shipped.status = OrderStatus::Shipped;
    shipped.first_shipped_at = Some(first.placed_at);
    shipped.updated_at = first.updated_at + SignedDuration::from_mins(5);
    let mut touched = shipped.clone();
    touched.updated_at += SignedDuration::from_mins(5);
    for page in [vec![first.clone(), first.clone()], vec![shipped.clone(), touched], vec![first]] {
        collection.page(page);
    }
    collection.at(3).await;
    let stored = collection.delivery.store.read(|connection| {
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u64>(0)?, row.get::<_, String>(1)?));
        Ok(connection.query_row("SELECT revision, status FROM orders", [], row)?)
    });
    assert_eq!(stored.await.expect("a row"), (2, "shipped".to_owned()));
    collection.end().await;
}

#[tokio::test]
async fn an_order_past_its_deadline_is_dropped_and_counted() {
    let collection = Collection::start().await;
    let mut old = order("A1");
    old.placed_at -= SignedDuration::from_hours(24 * 91);
    let mut long_shipped = order("A2");
    long_shipped.first_shipped_at = Some(Timestamp::now() - SignedDuration::from_hours(24 * 31));
    collection.page(vec![old, long_shipped, order("A3")]);
    collection.at(1).await;
    let counts = collection.counts().await;
    assert_eq!((counts.orders, counts.dropped_past_deadline), (1, 2));
    collection.end().await;
}

#[tokio::test]
async fn the_first_shipment_never_moves_later() {
    let collection = Collection::start().await;
    let at = |days: i64| Timestamp::now() - SignedDuration::from_hours(24 * days);
    let mut shipped = order("A1");
    shipped.first_shipped_at = Some(at(10));
    let mut later = shipped.clone();
    (later.first_shipped_at, later.updated_at) = (Some(at(2)), Timestamp::now());
    collection.page(vec![shipped]);
    collection.at(1).await;
    let before = collection.counts().await.next_deadline;
    collection.page(vec![later]);
    collection.at(2).await;
    assert_eq!(collection.counts().await.next_deadline, before);
    assert!(before.is_some_and(|deadline| deadline <= at(-20)));
    collection.end().await;
}
