//! The Job that drills: the newest backup of a site becomes a database of its own, which is checked and removed.

use std::{
    path::{Path, PathBuf},
    slice,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::{
    backup::{DrillConfig, Drilled, JobReport, Site, SiteStore, paths},
    relay::paths::DATA,
};
use marketrelay_keyring::SecretKey;
use marketrelay_pod::mounts::at;
use marketrelay_relay::store::import::{Imported, Left, left};
use snafu::{ResultExt, ensure};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{
    RestoreError,
    archives::{Added, Adding},
    candidates::{Candidate, Listed, highest, newest},
    error::{ArchivesSnafu, BrokenSnafu, ErasedLeftSnafu, NewestSnafu, OverdueLeftSnafu, StoreSnafu},
    importing::Importing,
    mounted::Mounted,
    until_stopped,
    volume::Volume,
};
use crate::{Reason, catalog::Catalog, settings, store::Store};

/// Drills, and reports.
pub async fn execute(root: &Path, patience: Duration, stop: &CancellationToken) -> JobReport {
    let done = match Drill::new(root, patience, stop) {
        Ok(drill) => drill.execute().await.map_err(|error| (mend(&drill.config, error.reason()), error)),
        Err(error) => Err((None, error)),
    };
    match done {
        Ok(drilled) => JobReport { drilled: Some(drilled), ..JobReport::default() },
        Err((mend, error)) => {
            let reason = error.reason();
            tracing::error!(%reason, %error, "the drill failed");
            let told = error.or_full(RestoreError::ScratchFull).to_string();
            let failure = reason.failure_with(&told, mend.as_deref().unwrap_or_default());
            JobReport { failure: Some(failure), ..JobReport::default() }
        }
    }
}

/// What makes the next drill find another backup, and archives that are new with it.
fn mend(config: &DrillConfig, reason: Reason) -> Option<String> {
    if !matches!(reason, Reason::BackupDamaged | Reason::BackupTooOld | Reason::NoBackup) {
        return None;
    }
    let DrillConfig { namespace, name, site, .. } = config;
    let site = match site.site {
        Site::OnSite => "on",
        Site::OffSite => "off",
    };
    let create = format!("kubectl -n {namespace} create job --from=cronjob/{name}-{site}");
    Some(format!(
        "; take another backup, {create}-site now-$(date +%s), then drill again, {create}-drill now-$(date +%s)"
    ))
}

/// A backup that becomes a database of its own.
pub(crate) struct Drill<'a> {
    config: DrillConfig,
    /// With a database key that is nowhere else.
    mounted: Arc<Mounted>,
    store: Store,
    volume: Volume,
    stop: &'a CancellationToken,
}

impl<'a> Drill<'a> {
    fn new(root: &Path, patience: Duration, stop: &'a CancellationToken) -> Result<Self, RestoreError> {
        let config = settings::drill(root)?;
        let database = SecretKey::generate()
            .map_err(|error| RestoreError::DatabaseKey { problem: error.to_string() })?;
        let mounted =
            Mounted::read(root, &config.connection_id, &config.public_key, database, Timestamp::now())?;
        let credentials = settings::credentials(root, paths::STORE)?;
        let SiteStore { site, store } = &config.site;
        let store = Store::new(store, &credentials, patience).context(StoreSnafu { site: *site })?;
        Ok(Self { config, mounted: Arc::new(mounted), store, volume: Volume::new(at(root, DATA)), stop })
    }

    /// With keys that aren't mounted, in a folder of its own.
    pub(crate) fn with(
        config: DrillConfig,
        mounted: Mounted,
        store: Store,
        folder: PathBuf,
        stop: &'a CancellationToken,
    ) -> Self {
        Self { config, mounted: Arc::new(mounted), store, volume: Volume::new(folder), stop }
    }

    /// Whatever comes of it, it leaves no database behind.
    pub(crate) async fn execute(&self) -> Result<Drilled, RestoreError> {
        let DrillConfig { namespace, name, site, .. } = &self.config;
        tracing::info!(namespace, name, site = %site.site, "drilling");
        self.volume.tidy()?;
        let drilled = Box::pin(self.drill()).await;
        let tidied = self.volume.tidy();
        drilled.and_then(|drilled| tidied.map(|()| drilled))
    }

    async fn drill(&self) -> Result<Drilled, RestoreError> {
        let (begun, now) = (Instant::now(), Timestamp::now());
        let listed = self.list().await?;
        let oldest = SignedDuration::from_secs(self.config.oldest_seconds);
        let newest = newest(&listed, self.config.chain.as_deref(), oldest, now)?;
        let imported = self.importing(&newest, &listed).run().await;
        let of_newest = NewestSnafu { backup: newest.id.clone(), site: newest.site };
        let Imported { manifest, orders, anonymised, erased, held, .. } = imported.context(of_newest)?;
        let held = held + self.archives(&listed).await?;
        self.check(now).await?;
        let seconds = begun.elapsed().as_secs();
        tracing::info!(
            backup = manifest.backup,
            seconds,
            orders,
            anonymised,
            erased,
            held,
            "can be restored"
        );
        Ok(Drilled {
            backup: manifest.backup,
            created_at: manifest.created_at,
            at: Timestamp::now(),
            seconds,
            opened: orders,
            anonymised,
            erased,
            rows: manifest.tables.iter().map(|table| table.rows).sum(),
        })
    }

    /// Those of the site alone; each must be good.
    async fn archives(&self, listed: &Listed) -> Result<u64, RestoreError> {
        let adding = Adding {
            listed: slice::from_ref(listed),
            stores: vec![&self.store],
            public_key: &self.config.public_key,
            mounted: &self.mounted,
            path: self.volume.restored(),
            stop: self.stop,
        };
        let Added { orders, problems } = adding.run().await?;
        let Some((reason, _)) = problems.first() else { return Ok(orders) };
        let texts: Vec<_> = problems.iter().map(|(_, problem)| problem.as_str()).collect();
        ArchivesSnafu { reason: *reason, problems: texts.join("; ") }.fail()
    }

    async fn list(&self) -> Result<Listed, RestoreError> {
        let DrillConfig { connection_id, public_key, .. } = &self.config;
        let site = self.config.site.site;
        let list = Catalog::load(&self.store, connection_id, Some(public_key));
        let list = async { list.await.context(StoreSnafu { site }) };
        Ok(Listed::new(0, site, until_stopped(self.stop, list).await?))
    }

    fn importing<'i>(&'i self, candidate: &'i Candidate, listed: &Listed) -> Importing<'i> {
        Importing {
            candidate,
            store: &self.store,
            public_key: &self.config.public_key,
            mounted: &self.mounted,
            path: self.volume.restored(),
            journal: &[],
            erasures: &self.config.erasures,
            retention: &self.config.retention,
            snapshots: highest(slice::from_ref(listed)),
            stop: self.stop,
        }
    }

    /// The import leaves nothing that should be gone; the database itself has to say so too. `now`: before the import.
    async fn check(&self, now: Timestamp) -> Result<(), RestoreError> {
        let path = self.volume.restored();
        let (mounted, erasures) = (self.mounted.clone(), self.config.erasures.requests.clone());
        let asked = path.clone();
        let left = spawn_blocking(move || left(&asked, mounted.database(), mounted.id(), &erasures, now));
        let left = left.await.context(BrokenSnafu)?;
        let Left { erased, overdue } = left.map_err(|source| RestoreError::Database { path, source })?;
        ensure!(erased == 0, ErasedLeftSnafu { orders: erased });
        match overdue {
            Some(since) => OverdueLeftSnafu { since }.fail(),
            None => Ok(()),
        }
    }
}
