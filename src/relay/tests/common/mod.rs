//! A relay in this process, its mounts in a temporary folder, against the sandbox.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::relay::{
    AmazonSettings, BatchLimits, BolSettings, EbaySettings, Egress, MarketplaceEndpoints,
    MarketplaceSettings, RelayConfig, Retention, WebhookConfig, paths,
};
use marketrelay_keyring::{ConnectionId, Grid, Keyring, SecretKey};
use marketrelay_relay::{
    clock::Clock,
    run::{Surroundings, run},
};
use marketrelay_sandbox::{Account, Config, Customer, Marketplace, Sandbox};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub const ID: &str = "3f6c0000-1111-4222-8333-444455556666";
pub const TOKEN: &str = "control";
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub const CLIENT: &str = "client";

/// The sandbox with one account of each marketplace; all have the same credentials.
pub async fn sandbox(initial_orders: u32) -> Sandbox {
    let filter = tracing_subscriber::EnvFilter::new("warn");
    let _only_once = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    let account = |marketplace| Account {
        marketplace,
        client_id: CLIENT.to_owned(),
        client_secret: "secret".to_owned(),
        refresh_token: "refresh".to_owned(),
        seed: 7,
        initial_orders,
        growth_seconds: 0,
    };
    let config = Config {
        control_token: TOKEN.to_owned(),
        accounts: vec![account(Marketplace::Bol)],
        customers: vec![Customer { name: "acme".to_owned(), secrets: vec![SECRET.to_owned()] }],
        amazon_rate: (50.0, 100.0),
    };
    let others = [Marketplace::Amazon, Marketplace::Ebay];
    let accounts = others.into_iter().map(|marketplace| Account {
        client_id: format!("{CLIENT}-{marketplace:?}").to_lowercase(),
        ..account(marketplace)
    });
    let config = Config { accounts: config.accounts.iter().cloned().chain(accounts).collect(), ..config };
    Sandbox::start(&config).await.expect("a sandbox")
}

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

impl Mounts {
    pub fn new(sandbox: &Sandbox, marketplace: MarketplaceSettings) -> Self {
        let folder = TempDir::new().expect("a folder");
        let root = folder.path();
        let (client, token) = match marketplace {
            MarketplaceSettings::Amazon(_) => ("client-amazon", "/auth/o2/token"),
            MarketplaceSettings::Ebay(_) => ("client-ebay", "/identity/v1/oauth2/token"),
            MarketplaceSettings::Bol(_) => (CLIENT, "/token"),
        };
        let url = |path: &str| format!("{}{path}", sandbox.url).parse().expect("a URL");
        let config = RelayConfig {
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
            },
            egress: Egress {
                allowed_networks: vec![
                    "127.0.0.0/8".parse().expect("a network"),
                    "::1/128".parse().expect("a network"),
                ],
                extra_ca_certificates: sandbox.ca.clone(),
            },
            suspend: false,
        };
        let id: ConnectionId = ID.parse().expect("an id");
        let now = Timestamp::now();
        let mut keyring = Keyring::generate(id.clone()).expect("a keyring");
        let grid = Grid::new(&id, SignedDuration::from_hours(24));
        keyring.extend(grid, now, now + SignedDuration::from_hours(24 * 91)).expect("keys");
        for (name, bytes) in keyring.entries() {
            write(root, &format!("{}/{name}", paths::KEYRING), bytes);
        }
        write(root, &format!("{}/digest-key", paths::DIGEST), SecretKey::generate().expect("a key").expose());
        write(
            root,
            &format!("{}/database-key", paths::DATABASE_KEY),
            SecretKey::generate().expect("a key").expose(),
        );
        for (name, text) in [("clientId", client), ("clientSecret", "secret"), ("refreshToken", "refresh")] {
            write(root, &format!("{}/{name}", paths::CREDENTIALS), text);
        }
        write(root, &format!("{}/signingSecret", paths::SIGNING), SECRET);
        fs::create_dir_all(root.join(paths::TLS.trim_start_matches('/'))).expect("a folder");
        fs::create_dir_all(root.join(paths::DATA.trim_start_matches('/'))).expect("a folder");
        let mounts = Self { folder, config };
        mounts.write_config();
        mounts
    }

    pub fn write_config(&self) {
        let text = serde_yaml::to_string(&self.config).expect("YAML");
        write(self.folder.path(), paths::CONFIG, text);
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

/// The sandbox's control API.
pub struct Control {
    url: String,
    http: reqwest::Client,
}

impl Control {
    pub fn new(sandbox: &Sandbox) -> Self {
        let egress = marketrelay_relay::egress::Egress::new(&["127.0.0.0/8".parse().expect("a network")]);
        let http = marketrelay_relay::tls::http_client(&egress, &sandbox.ca).expect("a client");
        Self { url: sandbox.url.clone(), http }
    }

    pub async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}/control/{path}", self.url)).bearer_auth(TOKEN);
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    pub async fn post(&self, path: &str, body: Value) {
        let request = self.http.post(format!("{}/control/{path}", self.url)).bearer_auth(TOKEN);
        let answer = request.json(&body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    /// Order numbers with the newest revision's status, as the customer has them.
    pub async fn received(&self) -> std::collections::BTreeMap<String, (u64, String)> {
        let mut received = std::collections::BTreeMap::new();
        for event in self.get("customers/acme/events").await.as_array().expect("a list") {
            let text = |name: &str| event[name].as_str().expect("text").to_owned();
            let revision = event["revision"].as_u64().expect("a number");
            let entry = received.entry(text("number")).or_insert((0, String::new()));
            if revision > entry.0 {
                *entry = (revision, text("status"));
            }
        }
        received
    }

    /// The numbers of the account's orders that were placed before `until`.
    pub async fn numbers(&self, client: &str, until: Timestamp) -> Vec<String> {
        let orders = self.get(&format!("accounts/{client}/orders")).await;
        let list = orders.as_array().expect("a list").iter();
        let placed =
            |order: &&Value| order["placedAt"].as_str().expect("text").parse::<Timestamp>().expect("a time");
        let list = list.filter(|order| placed(order) < until);
        list.map(|order| order["number"].as_str().expect("a number").to_owned()).collect()
    }

    /// Waits until every order of the account that was placed before `until` is at the customer.
    pub async fn all_received(&self, client: &str, until: Timestamp) {
        let start = Instant::now();
        loop {
            let (numbers, received) = (self.numbers(client, until).await, self.received().await);
            let missing: Vec<_> = numbers.iter().filter(|number| !received.contains_key(*number)).collect();
            if missing.is_empty() {
                return;
            }
            let summary = self.get("customers/acme").await;
            assert!(start.elapsed() < Duration::from_mins(1), "missing: {missing:?}; {summary}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
