//! One backup, from its store into a database.

use std::{path::PathBuf, sync::Arc};

use jiff::Timestamp;
use marketrelay_api::{
    backup::{PastErasures, Site},
    relay::Retention,
};
use marketrelay_relay::{
    settings::limits,
    store::{
        import::{Backup, ImportError, Imported, Since, import},
        journal::Erased,
    },
};
use marketrelay_snapshot::{Manifest, SignedManifest};
use snafu::{OptionExt, ResultExt, ensure};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{
    Candidate, Mounted, RestoreError,
    download::{Download, Fault},
    error::{BrokenSnafu, DamagedSnafu, ErasuresMissingSnafu, IdentityMissingSnafu, StoreSnafu},
    until_stopped,
};
use crate::{BackupId, size::size, store::Store};

/// Which backup, and what becomes of it.
pub(super) struct Importing<'a> {
    pub candidate: &'a Candidate,
    /// Where it is.
    pub store: &'a Store,
    /// Who has signed it.
    pub public_key: &'a str,
    pub mounted: &'a Arc<Mounted>,
    /// The new database.
    pub path: PathBuf,
    pub journal: &'a [Erased],
    pub erasures: &'a PastErasures,
    pub retention: &'a Retention,
    /// The highest number of a snapshot that there is.
    pub snapshots: u64,
    pub stop: &'a CancellationToken,
}

impl Importing<'_> {
    /// Makes the database of it.
    pub(super) async fn run(self) -> Result<Imported, RestoreError> {
        let Candidate { site, id, manifest, .. } = self.candidate;
        if let Some(since) = self.erasures.since {
            ensure!(manifest.created_at >= since, ErasuresMissingSnafu { since });
        }
        tracing::info!(backup = %id, %site, bytes = size(manifest.data.bytes), "is read");
        let name = manifest.identity.as_str();
        let identity = self.mounted.identity(name).context(IdentityMissingSnafu { name })?.clone();
        let signed = Signed { store: self.store, site: *site, id, manifest, public_key: self.public_key };
        let signed = until_stopped(self.stop, signed.read()).await?;
        let download = Download::begin(self.store, id, manifest.data.bytes, self.stop);
        let download = async { download.await.context(StoreSnafu { site: *site }) };
        let (download, fault) = until_stopped(self.stop, download).await?;
        let (mounted, stop, path) = (self.mounted.clone(), self.stop.clone(), self.path.clone());
        let (journal, requests) = (self.journal.to_vec(), self.erasures.requests.clone());
        let (limits, snapshots) = (limits(self.retention), self.snapshots);
        let done = spawn_blocking(move || {
            let since = Since { journal: &journal, requests: &requests, limits, snapshots };
            let backup = Backup { manifest: &signed, data: download, identity: &identity };
            import(&path, backup, mounted.keys(), since, Timestamp::now(), &stop)
        });
        outcome(done.await.context(BrokenSnafu)?, *site, &fault, self.stop)
    }
}

/// What has become of reading data that the store gave.
pub(super) fn outcome<T>(
    done: Result<T, ImportError>,
    site: Site,
    fault: &Fault,
    stop: &CancellationToken,
) -> Result<T, RestoreError> {
    done.map_err(|error| match fault.take() {
        // Data that ends before its end is damaged for who reads it.
        _ if stop.is_cancelled() => RestoreError::Interrupted,
        Some(source) => RestoreError::Store { site, source },
        None => RestoreError::Import { source: error },
    })
}

/// A manifest that was listed.
pub(super) struct Signed<'a> {
    /// Where it is.
    pub store: &'a Store,
    pub site: Site,
    pub id: &'a BackupId,
    /// As it was listed.
    pub manifest: &'a Manifest,
    /// Who has signed it.
    pub public_key: &'a str,
}

impl Signed<'_> {
    /// It with the signature, if it is still the one that was listed.
    pub(super) async fn read(self) -> Result<SignedManifest, RestoreError> {
        let Self { store, site, id, manifest, .. } = self;
        let json = store.manifest(id).await.context(StoreSnafu { site })?;
        let signed = SignedManifest::parse(&json);
        let read = signed.as_ref().ok().and_then(|signed| signed.manifest(Some(self.public_key)).ok());
        ensure!(
            read.as_ref() == Some(manifest),
            DamagedSnafu { problem: "its manifest has changed since it was listed" }
        );
        signed.map_err(|source| RestoreError::Import { source: ImportError::Manifest { source } })
    }
}
