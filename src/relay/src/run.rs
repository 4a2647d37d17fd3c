//! The relay put together.

use std::{path::PathBuf, sync::Arc};

use jiff::Timestamp;
use marketrelay_api::relay::paths;
use marketrelay_keyring::Keyring;
use rusqlite::Connection;
use snafu::{ResultExt, Whatever, whatever};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    activity::Reporter,
    admin::{self, Admin, Erasing, Snapshots},
    audit::{self, Action, Actor, Deed},
    clock::Clock,
    collect::Collecting,
    deliver::{Deliverer, signature::Signer},
    egress::Egress,
    keys::{self, KeyringMount},
    metrics::Metrics,
    missing,
    mounts::{self, Entries, Mounted, at},
    privacy::{Done, Keeper},
    replaced,
    settings::{self, Settings},
    store::{self, Store},
    tls,
};

/// Where things are, and who tells the time.
pub struct Surroundings {
    /// Before the mounted paths; `/` in a pod.
    pub root: PathBuf,
    /// Of the admin API.
    pub listener: TcpListener,
    /// The time.
    pub clock: Clock,
}

/// Runs the relay until `stop`; then everything that was begun is finished and the database closed.
pub async fn run(surroundings: Surroundings, stop: CancellationToken) -> Result<(), Whatever> {
    let Surroundings { root, listener, clock } = surroundings;
    let settings = Settings::load(&at(&root, paths::CONFIG))?;
    let store = open(&root, &settings)?;
    started(&store, settings.digest.clone(), clock.now()).await;
    let time = clock.clone();
    let relay = Relay {
        store: store.clone(),
        collecting: Reporter::new("collecting"),
        delivering: Reporter::new("delivering"),
        keeping: Reporter::new("keepingDeadlines"),
        metrics: Arc::new(Metrics::new().whatever_context("metrics")?),
        bell: Arc::default(),
        deadlines: Arc::default(),
        settings,
        clock,
        root,
        stop,
    };
    let tasks = TaskTracker::new();
    let started = relay.start(&tasks, listener);
    if started.is_err() {
        relay.stop.cancel();
    }
    tasks.close();
    tasks.wait().await;
    let stopped = Deed::new(Action::RelayStopped, Actor::Relay, env!("CARGO_PKG_VERSION"));
    record(&store, move |connection| audit::append(connection, &stopped, time.now())).await;
    store.close().await.whatever_context("the database can't be closed")?;
    tracing::info!("ended");
    started
}

/// A full volume must not keep the relay from saying so.
async fn record(store: &Store, job: impl FnOnce(&Connection) -> store::Result<()> + Send + 'static) {
    if let Err(error) = store.write(job).await {
        tracing::warn!(%error, "can't be recorded in the audit log");
    }
}

async fn started(store: &Store, digest: String, now: Timestamp) {
    let start = Deed::new(Action::RelayStarted, Actor::Relay, env!("CARGO_PKG_VERSION"));
    record(store, move |connection| {
        audit::append(connection, &start, now)?;
        audit::configured(connection, &digest, now)
    })
    .await;
}

fn open(root: &std::path::Path, settings: &Settings) -> Result<Store, Whatever> {
    let folder = at(root, paths::DATABASE_KEY);
    let key = mounts::entries(&folder)
        .map_err(|error| error.to_string())
        .and_then(|entries| keys::secret_key(&entries, "database-key"))
        .or_else(|reason| whatever!("no database key in {}: {reason}", folder.display()))?;
    let data = at(root, paths::DATA);
    match replaced::remove_unfinished(&data) {
        Ok(false) => {}
        Ok(true) => tracing::info!("what a restore had begun and not finished is removed"),
        Err(error) => tracing::warn!(%error, "what a restore had begun can't be removed"),
    }
    let store = Store::open(&data, &key, &settings.id);
    store.with_whatever_context(|error| format!("the database in {} can't be used: {error}", data.display()))
}

struct Relay {
    settings: Settings,
    store: Store,
    collecting: Reporter,
    delivering: Reporter,
    keeping: Reporter,
    metrics: Arc<Metrics>,
    bell: Arc<Notify>,
    deadlines: Arc<Notify>,
    clock: Clock,
    root: PathBuf,
    stop: CancellationToken,
}

impl Relay {
    fn follow<T: Send + Sync + 'static>(
        &self,
        path: &str,
        parse: impl Fn(&Entries) -> Result<T, String> + Send + 'static,
    ) -> tokio::sync::watch::Receiver<Mounted<T>> {
        mounts::follow(at(&self.root, path), parse, self.stop.clone())
    }

    fn start(&self, tasks: &TaskTracker, listener: TcpListener) -> Result<(), Whatever> {
        let address = listener.local_addr().whatever_context("the admin API has no address")?;
        let id = self.settings.id.clone();
        let mounted = self.follow(paths::KEYRING, move |entries| KeyringMount::read(entries, &id));
        let keyring = keys::alive(mounted.clone(), self.clock.clone(), self.stop.clone());
        self.serve(tasks, listener, mounted, keyring.clone());
        self.end_on_new_configuration(tasks);
        tasks.spawn(missing::end_once_gone(at(&self.root, paths::DATA), self.stop.clone()));
        self.keep_deadlines(tasks, keyring.clone());
        tracing::info!(%address, "the admin API listens");
        if self.settings.config.suspend {
            tracing::info!("suspended: nothing is collected or delivered");
            return Ok(());
        }
        self.work(tasks, keyring)
    }

    fn serve(
        &self,
        tasks: &TaskTracker,
        listener: TcpListener,
        mounted: watch::Receiver<Mounted<KeyringMount>>,
        keyring: watch::Receiver<Mounted<Keyring>>,
    ) {
        let admin = Admin {
            store: self.store.clone(),
            connection_id: self.settings.id.to_string(),
            config_digest: self.settings.digest.clone(),
            collecting: self.collecting.clone(),
            delivering: self.delivering.clone(),
            keeping: self.keeping.clone(),
            keyring: mounted,
            limits: self.settings.limits(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            erasing: Erasing {
                keyring: keyring.clone(),
                limits: self.settings.limits(),
                bell: self.bell.clone(),
            },
            snapshots: Snapshots {
                keyring,
                delete_after_shipment: self.settings.limits().delete_after_shipment,
                retention: self.settings.backup_retention(),
                connection: self.settings.about(),
            },
        };
        let tls = self.follow(paths::TLS, admin::server_config);
        tasks.spawn(marketrelay_mtls::serve(listener, tls, admin::router(admin), self.stop.clone()));
    }

    /// The operator replaces the pod when the configuration changes, but the new pod's mount may still hold the old one:
    /// the relay ends when its file changes, and the kubelet starts it with the new one.
    fn end_on_new_configuration(&self, tasks: &TaskTracker) {
        let mut mounted = self.follow(paths::CONFIG_FOLDER, settings::mounted_digest);
        let (running, stop) = (self.settings.digest.clone(), self.stop.clone());
        let is_new =
            move |mounted: &Mounted<String>| mounted.as_ref().is_ok_and(|digest| **digest != running);
        tasks.spawn(async move {
            if let Some(Ok(_)) = stop.run_until_cancelled(mounted.wait_for(is_new)).await {
                tracing::info!("ends to start with the new configuration");
                stop.cancel();
            }
        });
    }

    fn keep_deadlines(&self, tasks: &TaskTracker, keyring: watch::Receiver<Mounted<Keyring>>) {
        let keeper = Keeper {
            store: self.store.clone(),
            limits: self.settings.limits(),
            audit_retention: self.settings.audit_retention(),
            holds: self.settings.config.holds.clone().into(),
            keyring,
            bell: self.deadlines.clone(),
            reporter: self.keeping.clone(),
            clock: self.clock.clone(),
            stop: self.stop.clone(),
            done: Done::default(),
        };
        tasks.spawn(keeper.run());
    }

    fn work(&self, tasks: &TaskTracker, keyring: watch::Receiver<Mounted<Keyring>>) -> Result<(), Whatever> {
        let config = &self.settings.config;
        let egress = Egress::new(&config.egress.allowed_networks);
        let endpoints = self.settings.endpoints();
        for url in [&endpoints.api, &endpoints.token, &config.destination.url] {
            egress.check(url).with_whatever_context(|error| {
                format!("{} can't be used: {error}", url.host_str().unwrap_or_default())
            })?;
        }
        let http = tls::http_client(&egress, &config.egress.extra_ca_certificates)?;
        let digest_key = self.follow(paths::DIGEST, keys::digest_key);
        let marketplace = self.settings.marketplace();
        let credentials =
            self.follow(paths::CREDENTIALS, move |entries| settings::credentials(entries, marketplace));
        let collecting = Collecting {
            collector: self.settings.collector(http.clone()),
            store: self.store.clone(),
            interval: self.settings.interval(),
            lookback: self.settings.lookback(),
            limits: self.settings.limits(),
            digest_key: digest_key.clone(),
            keyring: keyring.clone(),
            credentials,
            bell: self.bell.clone(),
            deadlines: self.deadlines.clone(),
            reporter: self.collecting.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
        };
        let deliverer = Deliverer {
            store: self.store.clone(),
            client: http,
            webhook: config.destination.clone(),
            id: self.settings.id.clone(),
            marketplace,
            digest_key,
            keyring,
            signer: self.follow(paths::SIGNING, Signer::from_entries),
            bell: self.bell.clone(),
            reporter: self.delivering.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
        };
        let working = [self.collecting.clone(), self.delivering.clone()];
        let data = at(&self.root, paths::DATA);
        tasks.spawn(replaced::remove_once_at_work(data, working, replaced::INTERVAL, self.stop.clone()));
        tasks.spawn(collecting.run(self.stop.clone()));
        tasks.spawn(deliverer.run(self.stop.clone()));
        Ok(())
    }
}
