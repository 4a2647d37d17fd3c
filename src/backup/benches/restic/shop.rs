//! A connection with orders in its database, and what is mounted for its relay and its Jobs.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::relay::{
    BatchLimits, BolSettings, Egress, MarketplaceSettings, RelayConfig, Retention, WebhookConfig, paths,
};
use marketrelay_audit::Signer;
use marketrelay_keyring::{BackupIdentities, ConnectionId, DigestKey, Grid, Keyring, SecretKey};
use marketrelay_marketplace::Cursor;
use marketrelay_relay::{
    settings::limits,
    store::{Prepared, Store, ingest},
};

use crate::{authority::Authority, orders::Orders};

pub const CONNECTION: &str = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34";
pub const DAY: SignedDuration = SignedDuration::from_hours(24);
const PAGE: u32 = 1_000;

/// All of it.
pub struct Shop {
    folder: PathBuf,
    pub keyring: Arc<Keyring>,
    pub identities: BackupIdentities,
    pub digest: [u8; 32],
    pub database: [u8; 32],
    orders: Orders,
    /// How many orders are in the database.
    pub count: u64,
}

pub fn retention() -> Retention {
    Retention {
        anonymize_after_seconds: 90 * DAY.as_secs(),
        delete_after_shipment_seconds: 30 * DAY.as_secs(),
        key_epoch_seconds: DAY.as_secs(),
        backup_retention_seconds: Some(30 * DAY.as_secs()),
    }
}

fn id() -> ConnectionId {
    CONNECTION.parse().expect("an id")
}

/// Writes a file below a root.
pub fn mount(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(path, bytes).expect("a file");
}

/// What shows who somebody is.
pub fn mount_identity(root: &Path, authority: &Authority, role: Option<&str>) {
    let issued = authority.issue(role);
    for (name, text) in
        [("tls.crt", &issued.certificate), ("tls.key", &issued.key), ("ca.crt", &authority.pem)]
    {
        mount(root, &format!("{}/{name}", paths::TLS), text);
    }
}

impl Shop {
    /// Without orders.
    pub fn new(folder: PathBuf) -> Self {
        let (now, grid) = (Timestamp::now(), Grid::new(&id(), DAY));
        let mut identities = BackupIdentities::new(id());
        identities.extend(grid, now, now + DAY * 31);
        let mut keyring = Keyring::generate(id()).expect("a keyring");
        keyring.extend(grid, now, now + DAY * 91).expect("keys");
        keyring.set_recipients(identities.recipients());
        let (digest, database, orders) = (rand::random(), rand::random(), Orders::new(now));
        Self { folder, keyring: Arc::new(keyring), identities, digest, database, orders, count: 0 }
    }

    /// What the relay sees as its file system.
    pub fn root(&self) -> PathBuf {
        self.folder.join("relay")
    }

    /// The database's file.
    pub fn file(&self) -> PathBuf {
        self.root().join(paths::DATA.trim_start_matches('/')).join(paths::DATABASE)
    }

    /// What the relay signs with.
    pub fn public_key(&self) -> String {
        let seed = self.keyring.audit_key().expect("an audit key");
        Signer::new(seed.expose()).expect("a key").public_key()
    }

    /// Collects orders until the database's file has so many bytes.
    pub async fn fill(&mut self, bytes: u64) {
        let file = self.file();
        let is_large = |_: u64| fs::metadata(&file).is_ok_and(|file| file.len() >= bytes);
        self.collect(is_large).await;
    }

    /// Collects a hundredth more, at least.
    pub async fn grow(&mut self) {
        let enough = self.count + self.count / 100;
        self.collect(|count| count >= enough).await;
    }

    /// Until it is enough for a number of orders; everything is in the database's file then.
    async fn collect(&mut self, is_enough: impl Fn(u64) -> bool) {
        let file = self.file();
        let folder = file.parent().expect("a folder");
        fs::create_dir_all(folder).expect("a folder");
        let store = Store::open(folder, &SecretKey::from(self.database), &id()).expect("the database");
        let key = DigestKey::new(&SecretKey::from(self.digest));
        store.claim_digest_key(&key).await.expect("the one of before");
        while !is_enough(self.count) {
            self.page(&store, &key).await;
        }
        store.close().await.expect("closed");
    }

    async fn page(&mut self, store: &Store, key: &DigestKey) {
        let orders = self.orders.page(PAGE).into_iter().map(|order| Prepared::new(order, key)).collect();
        let (keyring, now) = (self.keyring.clone(), Timestamp::now());
        let limits = limits(&retention());
        let page = ingest::Page { orders, cursor: Cursor(serde_json::json!({})), known_until: Some(now) };
        let ingest = move |connection: &_| ingest::ingest(connection, &page, &keyring, limits, now);
        self.count += store.write(ingest).await.expect("stored").new;
    }

    /// What the relay needs that runs on the database. It neither collects nor delivers.
    pub fn mount_relay(&self, authority: &Authority) {
        let root = self.root();
        mount_identity(&root, authority, None);
        self.mount_keys(&root);
        for (name, text) in [("clientId", "client"), ("clientSecret", "secret")] {
            mount(&root, &format!("{}/{name}", paths::CREDENTIALS), text);
        }
        mount(&root, &format!("{}/signingSecret", paths::SIGNING), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        mount(&root, paths::CONFIG, serde_yaml::to_string(&config()).expect("YAML"));
    }

    /// Keyring, digest key and database key.
    pub fn mount_keys(&self, root: &Path) {
        for (name, bytes) in self.keyring.entries() {
            mount(root, &format!("{}/{name}", paths::KEYRING), bytes);
        }
        mount(root, &format!("{}/digest-key", paths::DIGEST), self.digest);
        mount(root, &format!("{}/database-key", paths::DATABASE_KEY), self.database);
    }
}

fn config() -> RelayConfig {
    RelayConfig {
        connection_id: CONNECTION.to_owned(),
        namespace: "acme".to_owned(),
        name: "bol".to_owned(),
        marketplace: MarketplaceSettings::Bol(BolSettings {}),
        endpoints: None,
        poll_interval_seconds: 60,
        lookback_seconds: 7 * 86_400,
        destination: WebhookConfig {
            url: "https://localhost/orders".parse().expect("a URL"),
            batch: BatchLimits { max_events: 100, max_bytes: 1 << 20 },
        },
        retention: retention(),
        audit_retention_seconds: 400 * 86_400,
        egress: Egress { allowed_networks: Vec::new(), extra_ca_certificates: String::new() },
        suspend: true,
        holds: Vec::new(),
    }
}
