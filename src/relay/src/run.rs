//! The relay put together.

use std::{path::PathBuf, sync::Arc};

use marketrelay_api::relay::paths;
use snafu::{OptionExt, ResultExt, Whatever};
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    activity::Reporter,
    admin::{self, Admin},
    clock::Clock,
    collect::Collecting,
    deliver::{Deliverer, signature::Signer},
    egress::Egress,
    keys,
    metrics::Metrics,
    mounts::{self, Entries, Mounted, at},
    settings::{self, Settings},
    store::Store,
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
    let relay = Relay {
        store: store.clone(),
        collecting: Reporter::new("collecting"),
        delivering: Reporter::new("delivering"),
        metrics: Arc::new(Metrics::new().whatever_context("metrics")?),
        bell: Arc::new(Notify::new()),
        settings,
        clock,
        root,
        stop,
    };
    let tasks = TaskTracker::new();
    relay.serve(&tasks, listener);
    if relay.settings.config.suspend {
        tracing::info!("suspended: nothing is collected or delivered");
    } else {
        relay.work(&tasks)?;
    }
    tasks.close();
    tasks.wait().await;
    store.close().await.whatever_context("the database can't be closed")?;
    tracing::info!("ended");
    Ok(())
}

fn open(root: &std::path::Path, settings: &Settings) -> Result<Store, Whatever> {
    let folder = at(root, paths::DATABASE_KEY);
    let key = mounts::entries(&folder)
        .map_err(|error| error.to_string())
        .and_then(|entries| keys::secret_key(&entries, "database-key"))
        .ok()
        .with_whatever_context(|| format!("{} holds no database key of 32 bytes", folder.display()))?;
    let store = Store::open(&at(root, paths::DATA), &key, &settings.id);
    store.with_whatever_context(|error| format!("the database can't be opened: {error}"))
}

struct Relay {
    settings: Settings,
    store: Store,
    collecting: Reporter,
    delivering: Reporter,
    metrics: Arc<Metrics>,
    bell: Arc<Notify>,
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

    fn serve(&self, tasks: &TaskTracker, listener: TcpListener) {
        let admin = Admin {
            store: self.store.clone(),
            connection_id: self.settings.id.to_string(),
            config_digest: self.settings.digest.clone(),
            collecting: self.collecting.clone(),
            delivering: self.delivering.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
        };
        let tls = self.follow(paths::TLS, admin::server_config);
        if let Err(error) = &*tls.borrow() {
            tracing::error!(error, "the admin API waits for its certificate");
        }
        tasks.spawn(marketrelay_mtls::serve(listener, tls, admin::router(admin), self.stop.clone()));
    }

    fn work(&self, tasks: &TaskTracker) -> Result<(), Whatever> {
        let config = &self.settings.config;
        let egress = Egress::new(&config.egress.allowed_networks);
        let endpoints = self.settings.endpoints();
        for url in [&endpoints.api, &endpoints.token, &config.destination.url] {
            egress.check(url).with_whatever_context(|error| {
                format!("{} can't be used: {error}", url.host_str().unwrap_or_default())
            })?;
        }
        let http = tls::http_client(&egress, &config.egress.extra_ca_certificates)?;
        let digest_entries = mounts::entries(&at(&self.root, paths::DIGEST))
            .with_whatever_context(|error| format!("can't read the digest key: {error}"))?;
        let digest_key =
            keys::digest_key(&digest_entries).ok().whatever_context("the digest key can't be used")?;
        let digest_key = Arc::new(digest_key);
        let (id, marketplace) = (self.settings.id.clone(), self.settings.marketplace());
        let mounted = self.follow(paths::KEYRING, move |entries| keys::keyring(entries, &id));
        let keyring = keys::alive(mounted, self.clock.clone(), self.stop.clone());
        let credentials =
            self.follow(paths::CREDENTIALS, move |entries| settings::credentials(entries, marketplace));
        let first = credentials.borrow().as_deref().ok().cloned().unwrap_or_default();
        let collecting = Collecting {
            collector: self.settings.collector(http.clone(), first),
            store: self.store.clone(),
            interval: self.settings.interval(),
            lookback: self.settings.lookback(),
            limits: self.settings.limits(),
            digest_key: digest_key.clone(),
            keyring: keyring.clone(),
            credentials,
            bell: self.bell.clone(),
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
        tasks.spawn(collecting.run(self.stop.clone()));
        tasks.spawn(deliverer.run(self.stop.clone()));
        Ok(())
    }
}
