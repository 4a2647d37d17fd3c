//! The Job that makes the database of a relay's volume of a backup, while no relay runs on it.

mod archives;
pub(crate) mod candidates;
mod download;
pub mod drill;
mod error;
mod importing;
pub(crate) mod mounted;
mod volume;

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use marketrelay_api::{
    backup::{AuditHead, RestoreConfig, RestoreReport, Restored, Site, paths},
    relay::paths::DATA,
};
use marketrelay_pod::mounts::at;
use marketrelay_relay::store::{
    StoreError,
    import::{Imported, Made, leave, made},
    journal::Erased,
};
use snafu::ensure;
use tokio_util::sync::CancellationToken;

use crate::{catalog::Catalog, reason::short, settings, store::Store};
use archives::{Added, Adding};
use candidates::{Candidate, Listed, choose, damaged, highest, nothing};
pub use error::RestoreError;
use error::{InUseSnafu, InterruptedSnafu};
use importing::Importing;
use mounted::Mounted;
use volume::Volume;

/// Of what a report says was passed over; the whole report must stay below 4 KiB.
const MOST_PASSED: usize = 3;
const LONGEST_PASSED: usize = 400;

/// Restores, and reports.
pub async fn execute(root: &Path, patience: Duration, stop: &CancellationToken) -> RestoreReport {
    let done = match Job::new(root, patience, stop) {
        Ok(job) => job.execute().await,
        Err(error) => Err(error),
    };
    match done {
        Ok(restored) => RestoreReport { restored: Some(restored), failure: None },
        Err(error) => {
            let reason = error.reason();
            tracing::error!(%reason, %error, "nothing was restored");
            let told = error.or_full(RestoreError::VolumeFull).to_string();
            RestoreReport { restored: None, failure: Some(reason.failure(&told)) }
        }
    }
}

struct Job<'a> {
    config: RestoreConfig,
    mounted: Arc<Mounted>,
    stores: Vec<(Site, Store)>,
    volume: Volume,
    stop: &'a CancellationToken,
    /// What came first and could not be used.
    passed: Vec<String>,
}

impl<'a> Job<'a> {
    fn new(root: &Path, patience: Duration, stop: &'a CancellationToken) -> Result<Self, RestoreError> {
        let config = settings::restore(root)?;
        let database = mounted::database_key(root)?;
        let mounted =
            Mounted::read(root, &config.connection_id, &config.public_key, database, Timestamp::now())?;
        let mut stores = Vec::new();
        for of in &config.sites {
            let path = match of.site {
                Site::OnSite => paths::STORE_ON_SITE,
                Site::OffSite => paths::STORE_OFF_SITE,
            };
            let store = Store::new(&of.store, &settings::credentials(root, path)?, patience);
            stores.push((of.site, store.map_err(|source| RestoreError::Store { site: of.site, source })?));
        }
        let volume = Volume::new(at(root, DATA));
        Ok(Self { config, mounted: Arc::new(mounted), stores, volume, stop, passed: Vec::new() })
    }

    async fn execute(mut self) -> Result<Restored, RestoreError> {
        let RestoreConfig { namespace, name, .. } = &self.config;
        tracing::info!(namespace, name, "restoring");
        self.volume.tidy()?;
        let (listed, away) = self.list().await?;
        let now = Timestamp::now();
        let candidates = choose(&listed, &self.config.choice, self.config.chain.as_deref(), now);
        if self.volume.database().exists() {
            if let Some((made, candidate)) = self.done(&candidates) {
                tracing::info!(backup = %candidate.id, "was restored before");
                return Ok(done_before(&made, candidate));
            }
            ensure!(self.config.replace, InUseSnafu { path: self.volume.database() });
        }
        if candidates.is_empty() {
            return Err(away.unwrap_or_else(|| self.nothing(&listed, now)));
        }
        let journal = self.journal()?;
        self.passed.extend(away.map(|error| error.to_string()));
        let restored = self.first_good(&candidates, &journal, &listed).await?;
        Ok(self.with_passed(restored, &listed))
    }

    /// What the sites have, and why a site can't be listed; an error if none can.
    async fn list(&self) -> Result<(Vec<Listed>, Option<RestoreError>), RestoreError> {
        let RestoreConfig { connection_id, public_key, .. } = &self.config;
        let lists = self.stores.iter().map(|(site, store)| async move {
            (*site, Catalog::load(store, connection_id, Some(public_key)).await)
        });
        let lists = until_stopped(self.stop, async { Ok(join_all(lists).await) }).await?;
        let (mut listed, mut away) = (Vec::new(), None);
        for (place, (site, list)) in lists.into_iter().enumerate() {
            match list {
                Ok(catalog) => listed.push(Listed::new(place, site, catalog)),
                Err(source) => {
                    tracing::warn!(%site, error = %source, "the site can't be listed");
                    away.get_or_insert(RestoreError::Store { site, source });
                }
            }
        }
        match away {
            Some(error) if listed.is_empty() => Err(error),
            away => Ok((listed, away)),
        }
    }

    fn nothing(&self, listed: &[Listed], now: Timestamp) -> RestoreError {
        let nothing = nothing(listed, &self.config.choice, now);
        match (nothing, self.config.left_out.first()) {
            (nothing @ (RestoreError::NoBackup | RestoreError::NotFound { .. }), Some(site)) => {
                RestoreError::LeftOut { site: *site, source: Box::new(nothing) }
            }
            (nothing, _) => nothing,
        }
    }

    /// A Job that was killed after its work is done again by saying so. A database that has been at work since is one that
    /// may be replaced.
    fn done<'c>(&self, candidates: &'c [Candidate]) -> Option<(Made, &'c Candidate)> {
        let made = made(&self.volume.database(), self.mounted.database(), self.mounted.id()).ok()??;
        let candidate = candidates.iter().find(|candidate| candidate.is_of(&made))?;
        (!(self.config.replace && made.was_used)).then_some((made, candidate))
    }

    /// What was erased in the databases that are there.
    fn journal(&mut self) -> Result<Vec<Erased>, RestoreError> {
        let mut journal = Vec::new();
        for path in [self.volume.database(), self.volume.replaced()] {
            if !path.exists() {
                continue;
            }
            match leave(&path, self.mounted.database(), self.mounted.id()) {
                Ok(erased) => journal.extend(erased),
                Err(source @ (StoreError::LogInUse | StoreError::Full)) => {
                    return Err(RestoreError::Database { path, source });
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a database that gives way can't be read");
                    let name = path.file_name().unwrap_or_default().display();
                    self.passed.push(format!("the journal of erasures in {name}: {error}"));
                }
            }
        }
        Ok(journal)
    }

    async fn first_good(
        &mut self,
        candidates: &[Candidate],
        journal: &[Erased],
        listed: &[Listed],
    ) -> Result<Restored, RestoreError> {
        let (mut first, mut problems) = (None, Vec::new());
        for candidate in candidates {
            let error = match self.attempt(candidate, journal, listed).await {
                Ok((restored, mut of_archives)) => {
                    self.passed.append(&mut problems);
                    self.passed.append(&mut of_archives);
                    return Ok(restored);
                }
                Err(error) if error.is_final() => return Err(error),
                Err(error) => error,
            };
            tracing::warn!(backup = %candidate.id, site = %candidate.site, %error, "can't be used");
            problems.push(error.of(&candidate.id, candidate.site));
            first.get_or_insert(error);
        }
        Err(match first {
            Some(error) if candidates.len() > 1 => {
                RestoreError::Unusable { reason: error.reason(), problems: problems.join("; ") }
            }
            Some(error) => error,
            None => RestoreError::NoBackup,
        })
    }

    /// Makes the volume's database of one backup and the archives of holds; says which archives can't be used, too.
    async fn attempt(
        &self,
        candidate: &Candidate,
        journal: &[Erased],
        listed: &[Listed],
    ) -> Result<(Restored, Vec<String>), RestoreError> {
        let importing = Importing {
            candidate,
            store: &self.stores[candidate.place].1,
            public_key: &self.config.public_key,
            mounted: &self.mounted,
            path: self.volume.restored(),
            journal,
            erasures: &self.config.erasures,
            retention: &self.config.retention,
            snapshots: highest(listed),
            stop: self.stop,
        };
        let Imported { orders, anonymised, erased, held, .. } = importing.run().await?;
        let adding = Adding {
            listed,
            stores: self.stores.iter().map(|(_, store)| store).collect(),
            public_key: &self.config.public_key,
            mounted: &self.mounted,
            path: self.volume.restored(),
            stop: self.stop,
        };
        let Added { orders: more, problems } = adding.run().await?;
        let held = held + more;
        self.volume.put_in_place()?;
        let Candidate { site, id, .. } = candidate;
        tracing::info!(backup = %id, %site, orders, anonymised, erased, held, "is the volume's database");
        let restored = Restored { orders, anonymised, erased, held, ..begun(candidate) };
        Ok((restored, problems.into_iter().map(|(_, problem)| problem).collect()))
    }

    /// Those too that are newer and damaged.
    fn with_passed(self, mut restored: Restored, listed: &[Listed]) -> Restored {
        let newer = damaged(listed, &self.config.choice);
        let newer = newer.into_iter().filter(|(id, _)| id.as_str() > restored.backup.as_str());
        let passed = self.passed.into_iter().chain(newer.map(|(_, problem)| problem));
        let passed = passed.take(MOST_PASSED).map(|text| short(&text, LONGEST_PASSED).to_owned());
        restored.passed_over = passed.collect();
        restored
    }
}

async fn until_stopped<T>(
    stop: &CancellationToken,
    done: impl Future<Output = Result<T, RestoreError>>,
) -> Result<T, RestoreError> {
    stop.run_until_cancelled(done).await.unwrap_or(InterruptedSnafu.fail())
}

fn done_before(made: &Made, candidate: &Candidate) -> Restored {
    let Made { orders, anonymised, erased, held, .. } = *made;
    Restored { orders, anonymised, erased, held, ..begun(candidate) }
}

/// What is known before it.
fn begun(Candidate { site, id, manifest, .. }: &Candidate) -> Restored {
    let head = &manifest.audit;
    Restored {
        backup: id.to_string(),
        site: *site,
        created_at: manifest.created_at,
        sequence: manifest.sequence,
        orders: 0,
        anonymised: 0,
        erased: 0,
        held: 0,
        audit: AuditHead { chain: head.chain.clone(), sequence: head.sequence, hash: head.hash.clone() },
        passed_over: Vec::new(),
    }
}
