//! One backup, from its store into the database.

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::{backup::Restored, relay::Retention};
use marketrelay_keyring::Limits;
use marketrelay_relay::store::{
    import::{Backup, ImportError, Imported, Since, import},
    journal::Erased,
};
use marketrelay_snapshot::SignedManifest;
use snafu::{OptionExt, ResultExt, ensure};
use tokio::task::spawn_blocking;

use super::{
    Candidate, Job, RestoreError, begun,
    download::Download,
    error::{BrokenSnafu, DamagedSnafu, IdentityMissingSnafu, StoreSnafu},
};
use crate::size::size;

impl Job<'_> {
    /// Makes the volume's database of it.
    pub(super) async fn attempt(
        &self,
        candidate: &Candidate,
        journal: &[Erased],
        snapshots: u64,
    ) -> Result<Restored, RestoreError> {
        let Candidate { place, site, id, manifest } = candidate;
        tracing::info!(backup = %id, %site, bytes = size(manifest.data.bytes), "is read");
        let name = manifest.identity.as_str();
        let identity = self.mounted.identity(name).context(IdentityMissingSnafu { name })?.clone();
        let signed = self.until_stopped(self.signed(candidate)).await?;
        let download = Download::begin(&self.stores[*place].1, id, manifest.data.bytes, self.stop);
        let (download, fault) =
            self.until_stopped(async { download.await.context(StoreSnafu { site: *site }) }).await?;
        let (mounted, stop) = (self.mounted.clone(), self.stop.clone());
        let (path, journal) = (self.volume.restored(), journal.to_vec());
        let (requests, limits) = (self.config.erasures.clone(), limits(&self.config.retention));
        let done = spawn_blocking(move || {
            let since = Since { journal: &journal, requests: &requests, limits, snapshots };
            let backup = Backup { manifest: &signed, data: download, identity: &identity };
            import(&path, backup, mounted.keys(), since, Timestamp::now(), &stop)
        });
        let done = done.await.context(BrokenSnafu)?;
        let imported = done.map_err(|error| match fault.take() {
            // Data that ends before its end is damaged for who reads it.
            _ if self.stop.is_cancelled() => RestoreError::Interrupted,
            Some(source) => RestoreError::Store { site: *site, source },
            None => RestoreError::Import { source: error },
        })?;
        self.volume.put_in_place()?;
        let Imported { orders, anonymised, erased, held, .. } = imported;
        tracing::info!(backup = %id, %site, orders, anonymised, erased, held, "is the volume's database");
        Ok(Restored { orders, anonymised, erased, held, ..begun(candidate) })
    }

    /// Its manifest with the signature, if it is still the one that was listed.
    async fn signed(&self, candidate: &Candidate) -> Result<SignedManifest, RestoreError> {
        let Candidate { place, site, id, manifest } = candidate;
        let json = self.stores[*place].1.manifest(id).await.context(StoreSnafu { site: *site })?;
        let signed = SignedManifest::parse(&json);
        let read =
            signed.as_ref().ok().and_then(|signed| signed.manifest(Some(&self.config.public_key)).ok());
        ensure!(
            read.as_ref() == Some(manifest),
            DamagedSnafu { problem: "its manifest has changed since it was listed" }
        );
        signed.map_err(|source| RestoreError::Import { source: ImportError::Manifest { source } })
    }
}

fn limits(retention: &Retention) -> Limits {
    Limits {
        anonymize_after: SignedDuration::from_secs(retention.anonymize_after_seconds),
        delete_after_shipment: SignedDuration::from_secs(retention.delete_after_shipment_seconds),
        key_epoch: SignedDuration::from_secs(retention.key_epoch_seconds),
    }
}
