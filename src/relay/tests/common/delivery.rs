//! Delivering alone, with a clock of its own.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::relay::{Activity, BatchLimits, WebhookConfig};
use marketrelay_keyring::{ConnectionId, DigestKey, Grid, Keyring, Limits, SecretKey};
use marketrelay_marketplace::{Cursor, Marketplace, Order};
use marketrelay_relay::{
    activity::Reporter,
    clock::Clock,
    deliver::{Deliverer, signature::Signer},
    egress::Egress,
    metrics::Metrics,
    mounts::{Entries, Mounted},
    privacy::{self, Done, Keeper},
    store::{
        Prepared, Store, StoreError,
        delivery::{self, DeliveryRow},
        ingest::{self, Ingested},
        status::{self, Counts},
    },
    tls::http_client,
};
use tempfile::TempDir;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{Destination, ID, SECRET};

/// Of every database here.
pub const DATABASE_KEY: [u8; 32] = [1; 32];
const DAY: SignedDuration = SignedDuration::from_hours(24);
pub const LIMITS: Limits = Limits {
    anonymize_after: SignedDuration::from_hours(24 * 90),
    delete_after_shipment: SignedDuration::from_hours(24 * 30),
    key_epoch: SignedDuration::from_hours(24),
};

pub struct Delivery {
    pub store: Store,
    pub digest_key: Arc<DigestKey>,
    pub keyring: watch::Sender<Mounted<Keyring>>,
    pub url: String,
    pub batch: BatchLimits,
    pub allowed: Vec<&'static str>,
    now: Arc<Mutex<Timestamp>>,
    bell: Arc<Notify>,
    ca: String,
    running: Option<Running>,
    folder: TempDir,
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
    reporter: Reporter,
    _signer: watch::Sender<Mounted<Signer>>,
    _digest_key: watch::Sender<Mounted<DigestKey>>,
}

impl Delivery {
    /// Of an empty database to `destination`; not begun yet.
    pub fn to(destination: &Destination) -> Self {
        let folder = TempDir::new().expect("a folder");
        let id: ConnectionId = ID.parse().expect("an id");
        let key = SecretKey::from(DATABASE_KEY);
        let now = Timestamp::now();
        let mut keyring = Keyring::generate(id.clone()).expect("a keyring");
        keyring.extend(Grid::new(&id, DAY), now, now + DAY * 91).expect("keys");
        Self {
            store: Store::open(folder.path(), &key, &id).expect("a database"),
            digest_key: Arc::new(DigestKey::new(&SecretKey::from([2; 32]))),
            keyring: watch::channel(Ok(Arc::new(keyring))).0,
            url: destination.url.clone(),
            batch: BatchLimits { max_events: 100, max_bytes: 1 << 20 },
            allowed: vec!["127.0.0.0/8", "::1/128"],
            now: Arc::new(Mutex::new(now)),
            bell: Arc::default(),
            ca: destination.ca.clone(),
            running: None,
            folder,
        }
    }

    /// Begins, or begins again with what was changed meanwhile.
    pub async fn start(&mut self) {
        self.stop().await;
        let secret = Zeroizing::new(SECRET.as_bytes().to_vec());
        let signer = Signer::from_entries(&Entries::from([("signingSecret".to_owned(), secret)]));
        let (signer, mounted_signer) = watch::channel(signer.map(Arc::new));
        let (digest_key, mounted_digest_key) = watch::channel(Ok(self.digest_key.clone()));
        let allowed: Vec<_> = self.allowed.iter().map(|text| text.parse().expect("a network")).collect();
        let (reporter, stop) = (Reporter::new("delivering"), CancellationToken::new());
        let deliverer = Deliverer {
            store: self.store.clone(),
            client: http_client(&Egress::new(&allowed), &self.ca).expect("a client"),
            webhook: WebhookConfig { url: self.url.parse().expect("a URL"), batch: self.batch.clone() },
            id: ID.parse().expect("an id"),
            marketplace: Marketplace::Bol,
            digest_key: mounted_digest_key,
            keyring: self.keyring.subscribe(),
            signer: mounted_signer,
            bell: self.bell.clone(),
            reporter: reporter.clone(),
            metrics: Arc::new(Metrics::new().expect("metrics")),
            clock: self.clock(),
        };
        let task = tokio::spawn(deliverer.run(stop.clone()));
        self.running = Some(Running { stop, task, reporter, _signer: signer, _digest_key: digest_key });
    }

    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.cancel();
            running.task.await.expect("no panic");
        }
    }

    pub fn clock(&self) -> Clock {
        let now = self.now.clone();
        Clock::of(move || *now.lock().expect("a lock"))
    }

    pub fn now(&self) -> Timestamp {
        self.clock().now()
    }

    /// Lets the time pass and wakes the delivery.
    pub fn pass(&self, time: SignedDuration) {
        *self.now.lock().expect("a lock") += time;
        self.bell.notify_one();
    }

    /// Sets the time without waking anybody.
    pub fn set(&self, now: Timestamp) {
        *self.now.lock().expect("a lock") = now;
    }

    /// Stores orders as a page of the marketplace.
    pub async fn ingest(&self, orders: Vec<Order>) {
        self.told(orders, None).await.expect("stored");
    }

    /// Stores a page with what the marketplace has told of shipments.
    pub async fn told(
        &self,
        orders: Vec<Order>,
        known_until: Option<Timestamp>,
    ) -> Result<Ingested, StoreError> {
        let orders = orders.into_iter().map(|order| Prepared::new(order, &self.digest_key)).collect();
        let page = ingest::Page { orders, cursor: Cursor(serde_json::json!({})), known_until };
        let keyring = self.keyring.borrow().clone().expect("a keyring");
        let now = self.now();
        let ingest = move |connection: &_| ingest::ingest(connection, &page, &keyring, LIMITS, now);
        let ingested = self.store.write(ingest).await;
        self.bell.notify_one();
        ingested
    }

    /// What keeps the deadlines of this database, by this clock.
    pub fn keeper(&self, limits: Limits) -> Keeper {
        Keeper {
            store: self.store.clone(),
            limits,
            audit_retention: DAY * 400,
            holds: Arc::default(),
            keyring: self.keyring.subscribe(),
            bell: Arc::default(),
            reporter: Reporter::new("keepingDeadlines"),
            clock: self.clock(),
            stop: CancellationToken::new(),
            done: Done::default(),
        }
    }

    /// Where the database is; its key is [`DATABASE_KEY`].
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// As the status and the metrics count.
    pub async fn counts(&self) -> Counts {
        let (now, at_risk) = (self.now(), privacy::at_risk(LIMITS));
        let counts = move |connection: &_| status::counts(connection, now, at_risk);
        self.store.read(counts).await.expect("counts")
    }

    /// How it goes.
    pub fn activity(&self) -> Activity {
        self.running.as_ref().expect("it runs").reporter.get()
    }

    /// The reason why it doesn't go well.
    pub fn reason(&self) -> Option<String> {
        self.activity().reason
    }

    pub async fn row(&self) -> DeliveryRow {
        self.store.read(delivery::read).await.expect("a row")
    }

    pub async fn backlog(&self) -> u64 {
        let count = |connection: &rusqlite::Connection| {
            Ok(connection.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?)
        };
        self.store.read(count).await.expect("a count")
    }
}
