//! The Job that escrows a connection's keys: it writes them over those that are there, and proves by listing that no older
//! version is left, which would have keys whose time has come.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use marketrelay_api::backup::{
    EscrowedKeys, JobReport,
    paths::{ESCROWED, STORE},
};
use snafu::Snafu;
use tokio_util::sync::CancellationToken;

use crate::{
    Reason,
    remove::remove,
    settings::{self, Sealed, SettingsError},
    store::{ESCROW, Store, StoreError, Upload, Version},
};

/// Keys weren't escrowed, or not them alone.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum EscrowError {
    #[snafu(context(false), display("{source}"))]
    Settings { source: SettingsError },
    #[snafu(context(false), display("{source}"))]
    Store { source: StoreError },
    #[snafu(display(
        "{count} older versions of the escrowed keys are still in the store; they may have keys whose time has come: {source}"
    ))]
    Left { count: u64, source: StoreError },
    #[snafu(display("escrowed keys that aren't to be there any more are still in the store: {source}"))]
    Withdrawn { source: StoreError },
    #[snafu(display("asked to end"))]
    Interrupted,
}

impl EscrowError {
    /// As a Job reports it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Settings { source: SettingsError::Escrow { .. } } => Reason::KeyringInvalid,
            Self::Settings { .. } => Reason::StoreInvalid,
            Self::Store { source } | Self::Left { source, .. } | Self::Withdrawn { source } => {
                source.reason()
            }
            Self::Interrupted => Reason::Interrupted,
        }
    }
}

/// Does it, and reports.
pub async fn execute(root: &Path, patience: Duration, stop: &CancellationToken) -> JobReport {
    let mut report = JobReport::default();
    let done = stop.run_until_cancelled(escrow(root, patience, &mut report)).await;
    if let Err(error) = done.unwrap_or(InterruptedSnafu.fail()) {
        tracing::error!(reason = %error.reason(), %error, "the Job failed");
        report.failure = Some(error.reason().failure(&error.to_string()));
    }
    report
}

async fn escrow(root: &Path, patience: Duration, report: &mut JobReport) -> Result<(), EscrowError> {
    let config = settings::config(root)?;
    report.store = Some(config.store.identity());
    let sealed = settings::sealed(root)?;
    let store = Store::new(&config.store, &settings::credentials(root, STORE)?, patience)?;
    let written = write(&store, &sealed).await?;
    tracing::info!(fingerprint = sealed.fingerprint, "written and read back");
    let folder = store.folder(ESCROW);
    let problem = Stored::beside(&folder, written.as_deref()).await?.remove(&folder).await;
    let left = Stored::beside(&folder, written.as_deref()).await?.count();
    report.escrowed =
        Some(EscrowedKeys { fingerprint: sealed.fingerprint, at: Timestamp::now(), old_versions: left });
    if left == 0 {
        return Ok(());
    }
    Err(EscrowError::Left { count: left, source: problem.unwrap_or_else(still_listed) })
}

/// Removes whatever was escrowed: how much is left of it, and why.
pub async fn withdraw(store: &Store) -> Result<(u64, Option<EscrowError>), StoreError> {
    let folder = store.folder(ESCROW);
    let problem = Stored::list(&folder).await?.remove(&folder).await;
    let left = Stored::list(&folder).await?.count();
    tracing::info!(left, "escrowed keys are withdrawn");
    let problem = (left > 0).then(|| problem.unwrap_or_else(still_listed));
    Ok((left, problem.map(|source| EscrowError::Withdrawn { source })))
}

fn still_listed() -> StoreError {
    StoreError::Answer { problem: "what was deleted is still listed".to_owned() }
}

/// Writes them and reads them back; gives the version, if the store says which it is.
async fn write(store: &Store, sealed: &Sealed) -> Result<Option<String>, StoreError> {
    let checking = store.lock().await?.is_some().then(|| store.with_checksums()).transpose()?;
    checking.as_ref().unwrap_or(store).put_escrowed(&sealed.document).await?;
    let found = store.read_escrowed().await?;
    if found.bytes != sealed.document[..] {
        let problem = "the escrowed keys aren't those that were written".to_owned();
        return Err(StoreError::Answer { problem });
    }
    Ok(found.version)
}

/// What is in the folder.
struct Stored {
    versions: Vec<Version>,
    uploads: Vec<Upload>,
}

impl Stored {
    /// In the order in which it goes: what hides older versions last.
    async fn list(folder: &Store) -> Result<Self, StoreError> {
        let (mut versions, uploads) = (folder.versions().await?, folder.uploads().await?);
        versions.sort_by_key(|version| version.is_marker);
        Ok(Self { versions, uploads })
    }

    /// Beside the version that was written; an error if that isn't what a reader gets: then nothing may be removed.
    async fn beside(folder: &Store, written: Option<&str>) -> Result<Self, StoreError> {
        let key = format!("{}/{ESCROWED}", folder.prefix());
        let is_written = |version: &Version| {
            let is_current = version.key == key && version.is_latest && !version.is_marker;
            is_current && written.is_none_or(|written| version.version == written)
        };
        let mut stored = Self::list(folder).await?;
        let before = stored.versions.len();
        stored.versions.retain(|version| !is_written(version));
        if stored.versions.len() + 1 != before {
            let problem =
                "it doesn't list the escrowed keys that were written as the current ones".to_owned();
            return Err(StoreError::Answer { problem });
        }
        Ok(stored)
    }

    /// Removes it; gives why not all of it is.
    async fn remove(&self, folder: &Store) -> Option<StoreError> {
        remove(folder, &self.versions, &self.uploads, &mut 0).await.problem()
    }

    fn count(&self) -> u64 {
        u64::try_from(self.versions.len() + self.uploads.len()).unwrap_or(u64::MAX)
    }
}
