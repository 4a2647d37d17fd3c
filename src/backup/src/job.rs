//! The Jobs: a backup, and pruning alone. Each prunes, lists what is there, and says so.

use std::{future::Future, path::Path, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use jiff::{SignedDuration, Timestamp};
use marketrelay_api::backup::{Archived, JobConfig, JobReport, Listing, LiveHold, MOST_ARCHIVES, paths};
use snafu::Snafu;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    BackupId, Reason,
    catalog::Catalog,
    escrow::{self, EscrowError},
    expired::Rules,
    relay::Relay,
    settings::{self, SettingsError},
    store::{Store, StoreError},
    write::{self, Backup, WriteError},
};

/// What is left of the pod's grace period for tidying up.
const LAST: Duration = Duration::from_secs(20);
/// Between a snapshot that fails and the next at most, without the jitter, as long as there is patience.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A Job failed.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum JobError {
    #[snafu(context(false), display("{source}"))]
    Settings { source: SettingsError },
    #[snafu(context(false), display("{source}"))]
    Store { source: StoreError },
    #[snafu(context(false), display("{source}"))]
    Write { source: WriteError },
    #[snafu(display(
        "the bucket keeps every object for {lock:?}, longer than backups may be kept ({retention:?}): use a bucket without object lock, or with a shorter one"
    ))]
    Locked { lock: SignedDuration, retention: SignedDuration },
    #[snafu(display("asked to end"))]
    Interrupted,
    #[snafu(display("the archive of hold {name}: {source}"))]
    Archive { name: String, source: Box<JobError> },
    #[snafu(display("what should be gone is still in the store: backup {backup}: {source}"))]
    Overdue { backup: String, source: StoreError },
    #[snafu(context(false), display("{source}"))]
    Escrow { source: EscrowError },
}

impl JobError {
    fn reason(&self) -> Reason {
        match self {
            Self::Settings { .. } => Reason::StoreInvalid,
            Self::Store { source } | Self::Overdue { source, .. } => source.reason(),
            Self::Write { source } => source.reason(),
            Self::Archive { source, .. } => source.reason(),
            Self::Locked { .. } => Reason::ObjectLocked,
            Self::Escrow { source } => source.reason(),
            Self::Interrupted => Reason::Interrupted,
        }
    }
}

/// What a Job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A backup, and pruning.
    Run,
    /// Pruning alone.
    Prune,
}

/// Does it, and reports.
pub async fn execute(task: Task, root: &Path, patience: Duration, stop: &CancellationToken) -> JobReport {
    let mut report = JobReport::default();
    let done = match Job::new(root, patience, stop) {
        Ok(job) => {
            report.store = Some(job.config.store.identity());
            job.execute(task, &mut report).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = done {
        tracing::error!(reason = %error.reason(), %error, "the Job failed");
        report.failure = Some(error.reason().failure(&error.to_string()));
    }
    report
}

struct Job<'a> {
    config: JobConfig,
    rules: Rules,
    store: Store,
    root: &'a Path,
    patience: Duration,
    stop: &'a CancellationToken,
}

impl<'a> Job<'a> {
    fn new(root: &'a Path, patience: Duration, stop: &'a CancellationToken) -> Result<Self, JobError> {
        let config = settings::config(root)?;
        let rules = Rules::new(&config.connection_id, &config.expiry())?;
        let store = Store::new(&config.store, &settings::credentials(root, paths::STORE)?, patience)?;
        Ok(Self { config, rules, store, root, patience, stop })
    }

    async fn execute(&self, task: Task, report: &mut JobReport) -> Result<(), JobError> {
        // What expires after that goes next time.
        let mut began = Timestamp::now();
        let (mut pruned, mut not_removed) = self.until_stopped(self.prune()).await?;
        let written = match task {
            Task::Run => self.write(report).await,
            Task::Prune => Ok(None),
        };
        if matches!(written, Err(JobError::Interrupted)) {
            return written.map(drop);
        }
        let mut prune_again = Ok(());
        if report.written.is_some() || !report.archives.is_empty() {
            // Others are the newest now.
            began = Timestamp::now();
            match self.until_stopped(self.prune()).await {
                Ok((more, failed)) => (pruned, not_removed) = (pruned + more, failed),
                Err(error) => prune_again = Err(error),
            }
        }
        let of_backup = written.as_ref().ok().and_then(Option::as_deref);
        let public_key = self.rules.public_key().or(of_backup);
        let listed = self.until_stopped(self.list(pruned, public_key, began)).await;
        if let Ok((listing, catalog)) = &listed {
            report.listing = Some(listing.clone());
            report.archives.retain(|archive| catalog.has_archive(&archive.hold, &archive.backup));
        }
        written?;
        prune_again?;
        let (listing, catalog) = listed?;
        if listing.overdue > 0
            && let Some((backup, source)) = not_removed
        {
            return Err(JobError::Overdue { backup, source });
        }
        if self.config.escrow || catalog.inventory.escrow.is_empty() {
            return Ok(());
        }
        self.until_stopped(self.withdraw(report)).await
    }

    /// Keys are escrowed here no longer.
    async fn withdraw(&self, report: &mut JobReport) -> Result<(), JobError> {
        let (left, problem) = escrow::withdraw(&self.store).await?;
        if let Some(listing) = &mut report.listing {
            listing.overdue += left;
        }
        Ok(problem.map_or(Ok(()), Err)?)
    }

    /// How many backups it has removed, and the first that it could not.
    async fn prune(&self) -> Result<(u64, Option<(String, StoreError)>), JobError> {
        let pruned = self.rules.prune(&self.store).await?;
        Ok((pruned.backups, pruned.failures.into_iter().next()))
    }

    /// The last look, and what it has found. `began`: what expires after that isn't overdue.
    async fn list(
        &self,
        pruned: u64,
        public_key: Option<&str>,
        began: Timestamp,
    ) -> Result<(Listing, Catalog), JobError> {
        let catalog = self.rules.look(&self.store, public_key).await?;
        let judged = catalog.listing(self.rules.retention, self.rules.holds.as_ref(), pruned, began);
        let listing = Listing { at: Timestamp::now(), ..judged };
        for name in &catalog.inventory.foreign {
            tracing::warn!(name, "not a backup's object; it is left alone");
        }
        Ok((listing, catalog))
    }

    /// A backup and the archives of holds; gives the key that the backup was signed with.
    async fn write(&self, report: &mut JobReport) -> Result<Option<String>, JobError> {
        let lock = self.until_stopped(self.lock()).await?;
        let checking = lock.is_some().then(|| self.store.with_checksums()).transpose()?;
        let store = checking.as_ref().unwrap_or(&self.store);
        let entries = settings::entries(self.root, paths::TLS)?;
        let relay = Relay::new(&entries, &self.config.relay).map_err(WriteError::from)?;
        let backup = self.written(None, &relay, store).await;
        report.written = backup.as_ref().ok().map(Backup::written);
        // An archive has a key of its own.
        if backup.as_ref().is_err_and(|error| error.reason() != Reason::NoBackupKey) {
            return backup.map(|_| None);
        }
        // Whether one has ended the relay knows better.
        let holds = self.config.holds.iter().filter(|hold| hold.archive);
        for hold in holds.take(MOST_ARCHIVES) {
            report.archives.extend(self.archived(hold, &relay, store).await?);
        }
        backup.map(|backup| Some(backup.public_key))
    }

    /// `None`: the relay doesn't know the hold yet.
    async fn archived(
        &self,
        hold: &LiveHold,
        relay: &Relay,
        store: &Store,
    ) -> Result<Option<Archived>, JobError> {
        match self.written(Some(hold), relay, store).await {
            Ok(archive) => Ok(archive.archived()),
            Err(JobError::Interrupted) => InterruptedSnafu.fail(),
            Err(JobError::Write { source: WriteError::Relay { source } }) if source.is_of_unknown_hold() => {
                tracing::warn!(hold = hold.name, error = %source, "no archive");
                Ok(None)
            }
            Err(source) => Err(JobError::Archive { name: hold.name.clone(), source: source.into() }),
        }
    }

    /// A backup, or the archive of a hold, that is written and read back. A snapshot that was cut, or that the relay can't take
    /// now, is asked for again.
    async fn written(
        &self,
        hold: Option<&LiveHold>,
        relay: &Relay,
        store: &Store,
    ) -> Result<Backup, JobError> {
        let of_hold = hold.and_then(|hold| Some(store.of_hold(&hold.id.parse().ok()?)));
        let store = of_hold.as_ref().unwrap_or(store);
        let again = ExponentialBuilder::new()
            .with_jitter()
            .with_max_delay(LONGEST_PAUSE)
            .without_max_times()
            .with_total_delay(Some(self.patience));
        let stop = self.stop.clone();
        let pause = move |after| stop.clone().run_until_cancelled_owned(sleep(after));
        let attempts = (|| self.attempt(hold, relay, store)).retry(again).sleep(pause);
        let is_passing =
            |error: &JobError| matches!(error, JobError::Write { source } if source.is_passing());
        let told = |error: &JobError, after: Duration| tracing::warn!(%error, ?after, "asking again");
        attempts.when(is_passing).notify(told).await
    }

    /// How long the bucket keeps every object; an error if that is too long.
    async fn lock(&self) -> Result<Option<SignedDuration>, JobError> {
        let lock = self.store.lock().await?;
        let lock = lock.map(|lock| SignedDuration::try_from(lock).unwrap_or(SignedDuration::MAX));
        let retention = self.rules.retention;
        match lock {
            Some(lock) if lock > retention => LockedSnafu { lock, retention }.fail(),
            lock => Ok(lock),
        }
    }

    /// Asked to end, it still tidies up.
    async fn attempt(
        &self,
        hold: Option<&LiveHold>,
        relay: &Relay,
        store: &Store,
    ) -> Result<Backup, JobError> {
        let id = BackupId::mint(Timestamp::now());
        tracing::info!(backup = %id, hold = hold.map(|hold| &hold.name), "begins");
        let written = write::write(&self.config, hold, relay, store, &id, self.stop).await;
        let written = written.map_err(|error| match error {
            WriteError::Interrupted => JobError::Interrupted,
            source => JobError::Write { source },
        });
        match &written {
            Ok(backup) => tracing::info!(backup = %id, bytes = backup.bytes, "written and read back"),
            Err(_) => match timeout(LAST, write::discard(store, &id)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(backup = %id, %error, "what it left can't be removed"),
                Err(_) => tracing::warn!(backup = %id, "what it left can't be removed in time"),
            },
        }
        written
    }

    async fn until_stopped<T>(&self, done: impl Future<Output = Result<T, JobError>>) -> Result<T, JobError> {
        self.stop.run_until_cancelled(done).await.unwrap_or(InterruptedSnafu.fail())
    }
}
