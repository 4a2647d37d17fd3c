//! The mounts of a relay in a temporary folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::relay::{
    AmazonSettings, BatchLimits, BolSettings, EbaySettings, Egress, MarketplaceEndpoints,
    MarketplaceSettings, RelayConfig, Retention, WebhookConfig, paths,
};
use marketrelay_keyring::{ConnectionId, DigestKey, Grid, Keyring, SecretKey};
use marketrelay_marketplace::{Cursor, Order};
use marketrelay_relay::{
    clock::Clock,
    run::{Surroundings, run},
    store::{Prepared, Store, ingest},
};
use marketrelay_sandbox::Sandbox;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{LIMITS, Process};

pub const ID: &str = "3f6c0000-1111-4222-8333-444455556666";
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub const CLIENT: &str = "client";

/// The mounts of a relay.
pub struct Mounts {
    pub folder: TempDir,
    pub config: RelayConfig,
}

pub fn write(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(path, bytes).expect("a file");
}

fn config(sandbox: &Sandbox, marketplace: MarketplaceSettings) -> RelayConfig {
    let url = |path: &str| format!("{}{path}", sandbox.url).parse().expect("a URL");
    let token = match marketplace {
        MarketplaceSettings::Amazon(_) => "/auth/o2/token",
        MarketplaceSettings::Ebay(_) => "/identity/v1/oauth2/token",
        MarketplaceSettings::Bol(_) => "/token",
    };
    let networks = ["127.0.0.0/8", "::1/128"];
    RelayConfig {
        connection_id: ID.to_owned(),
        namespace: "acme".to_owned(),
        name: "shop".to_owned(),
        marketplace,
        endpoints: Some(MarketplaceEndpoints { api: url(""), token: url(token) }),
        poll_interval_seconds: 1,
        lookback_seconds: 7 * 86_400,
        destination: WebhookConfig {
            url: url("/customers/acme/orders"),
            batch: BatchLimits { max_events: 100, max_bytes: 1 << 20 },
        },
        retention: Retention {
            anonymize_after_seconds: 90 * 86_400,
            delete_after_shipment_seconds: 30 * 86_400,
            key_epoch_seconds: 86_400,
            backup_retention_seconds: None,
        },
        audit_retention_seconds: 400 * 86_400,
        egress: Egress {
            allowed_networks: networks.iter().map(|text| text.parse().expect("a network")).collect(),
            extra_ca_certificates: sandbox.ca.clone(),
        },
        suspend: false,
        holds: Vec::new(),
    }
}

fn write_keys(root: &Path) {
    let id: ConnectionId = ID.parse().expect("an id");
    let (now, day) = (Timestamp::now(), SignedDuration::from_hours(24));
    let mut keyring = Keyring::generate(id.clone()).expect("a keyring");
    keyring.extend(Grid::new(&id, day), now, now + day * 91).expect("keys");
    for (name, bytes) in keyring.entries() {
        write(root, &format!("{}/{name}", paths::KEYRING), bytes);
    }
    for path in [format!("{}/digest-key", paths::DIGEST), format!("{}/database-key", paths::DATABASE_KEY)] {
        write(root, &path, SecretKey::generate().expect("a key").expose());
    }
}

impl Mounts {
    /// Of a relay that collects from the sandbox and delivers to its customer.
    pub fn new(sandbox: &Sandbox, marketplace: MarketplaceSettings) -> Self {
        let folder = TempDir::new().expect("a folder");
        let root = folder.path();
        let client = match marketplace {
            MarketplaceSettings::Amazon(_) => "client-amazon",
            MarketplaceSettings::Ebay(_) => "client-ebay",
            MarketplaceSettings::Bol(_) => CLIENT,
        };
        write_keys(root);
        for (name, text) in [("clientId", client), ("clientSecret", "secret"), ("refreshToken", "refresh")] {
            write(root, &format!("{}/{name}", paths::CREDENTIALS), text);
        }
        write(root, &format!("{}/signingSecret", paths::SIGNING), SECRET);
        for path in [paths::TLS, paths::DATA] {
            fs::create_dir_all(root.join(path.trim_start_matches('/'))).expect("a folder");
        }
        let mounts = Self { folder, config: config(sandbox, marketplace) };
        mounts.write_config();
        mounts
    }

    pub fn write_config(&self) {
        let text = serde_yaml::to_string(&self.config).expect("YAML");
        write(self.folder.path(), paths::CONFIG, text);
    }

    /// Replaces an entry of a mount as a whole.
    pub fn replace(&self, path: &str, bytes: impl AsRef<[u8]>) {
        write(self.folder.path(), "new", bytes);
        let path = self.folder.path().join(path.trim_start_matches('/'));
        fs::rename(self.folder.path().join("new"), path).expect("replaced");
    }

    /// A key of 32 bytes as it is mounted.
    fn key(&self, path: &str) -> SecretKey {
        let bytes = fs::read(self.folder.path().join(path.trim_start_matches('/'))).expect("a key");
        SecretKey::from(<[u8; 32]>::try_from(bytes).expect("32 bytes"))
    }

    /// The mounted keyring.
    pub fn keyring(&self) -> Keyring {
        let folder = self.folder.path().join(paths::KEYRING.trim_start_matches('/'));
        let entries = marketrelay_relay::mounts::entries(&folder).expect("a mount");
        let entries = entries.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        Keyring::from_entries(entries).expect("a keyring")
    }

    /// Mounts this keyring in the place of the one that is there, while no relay runs.
    pub fn mount_keyring(&self, keyring: &Keyring) {
        let folder = self.folder.path().join(paths::KEYRING.trim_start_matches('/'));
        fs::remove_dir_all(&folder).expect("removed");
        for (name, bytes) in keyring.entries() {
            write(self.folder.path(), &format!("{}/{name}", paths::KEYRING), bytes);
        }
    }

    /// Stores orders as the relay does that collects them, while none runs.
    pub async fn ingest(&self, orders: Vec<Order>) {
        let (store, keyring, key, now) = (self.store(), self.keyring(), self.digest_key(), Timestamp::now());
        let orders = orders.into_iter().map(|order| Prepared::new(order, &key)).collect();
        let page = ingest::Page { orders, cursor: Cursor(serde_json::json!({})), known_until: Some(now) };
        let ingest = move |connection: &_| ingest::ingest(connection, &page, &keyring, LIMITS, now);
        store.write(ingest).await.expect("stored");
        store.close().await.expect("closed");
    }

    /// The mounted digest key.
    pub fn digest_key(&self) -> DigestKey {
        DigestKey::new(&self.key(&format!("{}/digest-key", paths::DIGEST)))
    }

    /// The database, while no relay runs.
    pub fn store(&self) -> Store {
        let folder = self.folder.path().join(paths::DATA.trim_start_matches('/'));
        let key = self.key(&format!("{}/database-key", paths::DATABASE_KEY));
        Store::open(&folder, &key, &ID.parse().expect("an id")).expect("the database")
    }

    /// Starts the relay as a process that logs everything that it can be made to log.
    pub fn spawn(&self) -> Process {
        Process::start(self.folder.path(), "trace")
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Starts the relay in this process.
    pub async fn start(&self) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stop = CancellationToken::new();
        let surroundings = Surroundings { root: self.root(), listener, clock: Clock::system() };
        let task = tokio::spawn(run(surroundings, stop.clone()));
        Running { stop, task }
    }
}

pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), snafu::Whatever>>,
}

impl Running {
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("a clean end");
    }
}

pub fn bol() -> MarketplaceSettings {
    MarketplaceSettings::Bol(BolSettings {})
}

pub fn ebay() -> MarketplaceSettings {
    MarketplaceSettings::Ebay(EbaySettings {})
}

pub fn amazon() -> MarketplaceSettings {
    let ids = vec!["A1PA6795UKMFR9".to_owned()];
    MarketplaceSettings::Amazon(AmazonSettings { region: "eu".to_owned(), marketplace_ids: ids })
}
