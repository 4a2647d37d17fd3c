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
    #[snafu(display("asked to end"))]
    Interrupted,
}

impl EscrowError {
    fn reason(&self) -> Reason {
        match self {
            Self::Settings { source: SettingsError::Escrow { .. } } => Reason::KeyringInvalid,
            Self::Settings { .. } => Reason::StoreInvalid,
            Self::Store { source } | Self::Left { source, .. } => source.reason(),
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
    let sealed = settings::sealed(root)?;
    let store = Store::new(&config.store, &settings::credentials(root, STORE)?, patience)?;
    let written = write(&store, &sealed).await?;
    tracing::info!(fingerprint = sealed.fingerprint, "written and read back");
    let folder = store.folder(ESCROW);
    let problem = remove(&folder, Others::list(&folder, written.as_deref()).await?).await;
    let left = Others::list(&folder, written.as_deref()).await?.count();
    report.escrowed =
        Some(EscrowedKeys { fingerprint: sealed.fingerprint, at: Timestamp::now(), old_versions: left });
    if left == 0 {
        return Ok(());
    }
    let still = || StoreError::Answer { problem: "what was deleted is still listed".to_owned() };
    Err(EscrowError::Left { count: left, source: problem.unwrap_or_else(still) })
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

/// What is there beside the version that was written.
struct Others {
    versions: Vec<Version>,
    uploads: Vec<Upload>,
}

impl Others {
    /// An error if that version isn't what a reader gets: then nothing may be removed.
    async fn list(folder: &Store, written: Option<&str>) -> Result<Self, StoreError> {
        let key = format!("{}/{ESCROWED}", folder.prefix());
        let is_written = |version: &Version| {
            let is_current = version.key == key && version.is_latest && !version.is_marker;
            is_current && written.is_none_or(|written| version.version == written)
        };
        let (mut versions, uploads) = (folder.versions().await?, folder.uploads().await?);
        let before = versions.len();
        versions.retain(|version| !is_written(version));
        if versions.len() + 1 != before {
            let problem =
                "it doesn't list the escrowed keys that were written as the current ones".to_owned();
            return Err(StoreError::Answer { problem });
        }
        // What hides older versions goes last.
        versions.sort_by_key(|version| version.is_marker);
        Ok(Self { versions, uploads })
    }

    fn count(&self) -> u64 {
        u64::try_from(self.versions.len() + self.uploads.len()).unwrap_or(u64::MAX)
    }
}

/// Gives the first failure; what can't be removed keeps nothing else back, unless the store itself is away.
async fn remove(store: &Store, others: Others) -> Option<StoreError> {
    let mut first = None;
    for version in &others.versions {
        if let Err(error) = store.delete(version).await {
            if error.is_passing() {
                return Some(error);
            }
            first.get_or_insert(error);
        }
    }
    for upload in &others.uploads {
        if let Err(error) = store.abort(upload).await {
            if error.is_passing() {
                return Some(error);
            }
            first.get_or_insert(error);
        }
    }
    first
}
