//! One backup, from the relay into the store.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use marketrelay_api::backup::{Archived, JobConfig, LiveHold, SnapshotRequest, Written};
use marketrelay_audit::hex;
use marketrelay_snapshot::{Manifest, OfHold, SignedManifest, Unpacker};
use object_store::WriteMultipart;
use snafu::{ResultExt, Snafu, ensure};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    BackupId, Reason,
    archives::orders,
    inventory::Inventory,
    prune::{self, Due, Goes},
    relay::{ContainerSnafu, Relay, RelayError, SnapshotSnafu},
    store::{Store, StoreError},
};

/// Parts that are sent while the next one fills.
const IN_FLIGHT: usize = 2;
/// For them to arrive once nothing comes of it.
const SETTLE: Duration = Duration::from_secs(5);

/// A backup wasn't written.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum WriteError {
    #[snafu(context(false), display("{source}"))]
    Store { source: StoreError },
    #[snafu(context(false), display("{source}"))]
    Relay { source: RelayError },
    #[snafu(display("asked to end"))]
    Interrupted,
}

impl WriteError {
    /// As a Job reports it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Store { source } => source.reason(),
            Self::Relay { source } => source.reason(),
            Self::Interrupted => Reason::Interrupted,
        }
    }

    /// Whether another snapshot may succeed. What fails at the store was tried again already.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Relay { source } if source.is_passing())
    }
}

/// What has come from the relay.
struct Received {
    bytes: u64,
    sha256: String,
    manifest: Vec<u8>,
}

/// A backup or an archive that is in the store, and the key that the relay signed it with.
#[derive(Debug)]
pub struct Backup {
    /// What it says of itself.
    pub manifest: Manifest,
    /// In the store.
    pub bytes: u64,
    /// Hex.
    pub public_key: String,
}

impl Backup {
    /// A backup, for the report.
    pub fn written(&self) -> Written {
        let Manifest { backup, created_at, expires_at, sequence, tables, .. } = &self.manifest;
        let rows = |name: &str| tables.iter().find(|table| table.name == name).map(|table| table.rows);
        Written {
            backup: backup.clone(),
            created_at: *created_at,
            expires_at: *expires_at,
            sequence: *sequence,
            orders: rows("orders").unwrap_or(0) + rows("anonymised_orders").unwrap_or(0),
            bytes: self.bytes,
        }
    }

    /// An archive, for the report.
    pub fn archived(&self) -> Option<Archived> {
        let OfHold { id, revision } = self.manifest.hold.clone()?;
        Some(Archived {
            hold: id,
            backup: self.manifest.backup.clone(),
            created_at: self.manifest.created_at,
            revision,
            orders: orders(&self.manifest),
        })
    }
}

/// Writes a backup, or the archive of a hold into that hold's store, unless it is stopped. What it leaves if it fails,
/// [`discard`] removes.
pub async fn write(
    config: &JobConfig,
    hold: Option<&LiveHold>,
    relay: &Relay,
    store: &Store,
    id: &BackupId,
    stop: &CancellationToken,
) -> Result<Backup, WriteError> {
    let hold = hold.map(|hold| hold.id.clone());
    let request = SnapshotRequest { backup: id.to_string(), site: config.site, hold };
    let begin = async { Ok((relay.snapshot(&request).await?, store.upload(id).await?)) };
    let (snapshot, mut upload) = until(stop, begin).await?;
    let received = until(stop, receive(snapshot, &mut upload)).await;
    let checked = received.and_then(|received| Ok((check(config, &request, &received)?, received)));
    match checked {
        Ok((backup, received)) => {
            until(stop, finish(store, id, upload, &received)).await?;
            Ok(backup)
        }
        Err(error) => {
            // A part that is still on its way could come after the upload was given up, and stay.
            drop(timeout(SETTLE, upload.wait_for_capacity(0)).await);
            Err(error)
        }
    }
}

async fn until<T>(
    stop: &CancellationToken,
    done: impl Future<Output = Result<T, WriteError>>,
) -> Result<T, WriteError> {
    stop.run_until_cancelled(done).await.unwrap_or(Err(WriteError::Interrupted))
}

/// Makes an object of what fits its manifest, writes the manifest, and reads back.
async fn finish(
    store: &Store,
    id: &BackupId,
    upload: WriteMultipart,
    received: &Received,
) -> Result<(), WriteError> {
    upload.finish().await.map_err(StoreError::from)?;
    let stored = store.data_bytes(id).await?;
    if stored != received.bytes {
        let problem = format!("of {} bytes it has kept {stored}", received.bytes);
        return Err(StoreError::Answer { problem }.into());
    }
    store.put_manifest(id, &received.manifest).await?;
    if store.manifest(id).await? != received.manifest {
        let problem = "the manifest isn't the one that was written".to_owned();
        return Err(StoreError::Answer { problem }.into());
    }
    Ok(())
}

async fn receive(
    mut snapshot: impl Stream<Item = Result<Bytes, RelayError>> + Unpin,
    upload: &mut WriteMultipart,
) -> Result<Received, WriteError> {
    let (mut unpacker, mut sha256, mut bytes) = (Unpacker::default(), Context::new(&SHA256), 0);
    while let Some(chunk) = snapshot.try_next().await? {
        let mut rest = chunk.as_ref();
        while !rest.is_empty() {
            let data = unpacker.take(&mut rest).context(ContainerSnafu)?;
            if !data.is_empty() {
                upload.wait_for_capacity(IN_FLIGHT).await.map_err(StoreError::from)?;
                upload.put(chunk.slice_ref(data));
                sha256.update(data);
                bytes += data.len() as u64;
            }
        }
    }
    let manifest = unpacker.finish().context(ContainerSnafu)?;
    Ok(Received { bytes, sha256: hex(sha256.finish().as_ref()), manifest })
}

/// Whether the manifest is what was asked for and what has come.
fn check(config: &JobConfig, asked: &SnapshotRequest, received: &Received) -> Result<Backup, RelayError> {
    let unusable =
        |error: marketrelay_snapshot::ManifestError| RelayError::Snapshot { problem: error.to_string() };
    let signed = SignedManifest::parse(&received.manifest).map_err(unusable)?;
    let manifest = signed.manifest(None).map_err(unusable)?;
    let hold = manifest.hold.as_ref().map(|hold| &hold.id);
    let is_ours = manifest.backup == asked.backup
        && manifest.connection_id == config.connection_id
        && hold == asked.hold.as_ref();
    ensure!(is_ours, SnapshotSnafu { problem: "its manifest is of another backup" });
    let fits = manifest.data.bytes == received.bytes && manifest.data.sha256 == received.sha256;
    ensure!(fits, SnapshotSnafu { problem: "its data isn't what its manifest says" });
    let bytes = received.bytes + received.manifest.len() as u64;
    Ok(Backup { manifest, bytes, public_key: signed.public_key().to_owned() })
}

/// Removes what there is of a backup that failed.
pub async fn discard(store: &Store, id: &BackupId) -> Result<(), StoreError> {
    let (versions, uploads) = (store.versions().await?, store.uploads().await?);
    let inventory = Inventory::new(store.prefix(), versions, uploads);
    let Some(stored) = inventory.backups.get(id) else { return Ok(()) };
    let pruned =
        prune::remove(store, vec![Goes { name: id.to_string(), stored, what: Due::Everything }]).await;
    pruned.failures.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}
