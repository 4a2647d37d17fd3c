//! The connection's backups as they are in the store, each with its manifest.

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use marketrelay_api::backup::Listing;
use marketrelay_snapshot::{Manifest, SignedManifest};

use crate::{
    BackupId,
    inventory::{Inventory, Stored},
    prune::{self, Due, Manifests},
    store::{Object, Store, StoreError},
};

/// Manifests that are read at a time.
const AT_A_TIME: usize = 8;

/// What is in the store.
#[derive(Debug)]
pub struct Catalog {
    /// All of it.
    pub inventory: Inventory,
    /// Of complete backups, those manifests that are their own.
    pub manifests: Manifests,
    /// Complete backups whose manifest isn't, and why.
    pub damaged: Vec<(BackupId, String)>,
    /// Of unfinished uploads.
    upload_bytes: u64,
}

impl Catalog {
    /// Lists the store and reads the manifests. `public_key`: the relay's, if it is known.
    pub async fn load(
        store: &Store,
        connection_id: &str,
        public_key: Option<&str>,
    ) -> Result<Self, StoreError> {
        let (versions, uploads) = (store.versions().await?, store.uploads().await?);
        let mut upload_bytes = 0;
        for upload in &uploads {
            upload_bytes += match store.upload_bytes(upload).await {
                // Completed or given up since.
                Err(StoreError::NotFound { .. }) => 0,
                bytes => bytes?,
            };
        }
        let inventory = Inventory::new(store.prefix(), versions, uploads);
        let mut catalog = Self { inventory, manifests: Manifests::new(), damaged: Vec::new(), upload_bytes };
        let complete: Vec<_> = catalog.inventory.complete().map(|(id, _)| id.clone()).collect();
        let read = |id: BackupId| async move { (store.manifest(&id).await, id) };
        let mut read = stream::iter(complete).map(read).buffer_unordered(AT_A_TIME);
        while let Some((json, id)) = read.next().await {
            let stored = &catalog.inventory.backups[&id];
            let judged = match json {
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => Err(error.to_string()),
                Ok(json) => judge(&id, stored, connection_id, &json, public_key),
            };
            match judged {
                Ok(manifest) => drop(catalog.manifests.insert(id, manifest)),
                Err(problem) => {
                    tracing::warn!(backup = %id, problem, "a backup is damaged");
                    catalog.damaged.push((id, problem));
                }
            }
        }
        catalog.damaged.sort();
        Ok(catalog)
    }

    /// What must be gone at `at`: [`prune::due`].
    pub fn due(&self, retention: SignedDuration, at: Timestamp, now: Timestamp) -> Vec<(BackupId, Due)> {
        prune::due(&self.inventory, &self.manifests, retention, at, now)
    }

    /// For the report.
    pub fn listing(&self, retention: SignedDuration, pruned: u64, now: Timestamp) -> Listing {
        let taken = || self.manifests.values().map(|manifest| manifest.created_at);
        let overdue = self.due(retention, now, now).into_iter().map(|(_, due)| match due {
            Due::Everything => 1,
            Due::Uploads(ids) => count(ids.len()),
        });
        let bytes = self.inventory.backups.values().map(Stored::bytes).sum::<u64>();
        Listing {
            at: now,
            backups: count(self.manifests.len()),
            bytes: bytes + self.inventory.escrow.bytes() + self.upload_bytes,
            newest: taken().max(),
            oldest: taken().min(),
            pruned,
            overdue: overdue.sum(),
            foreign: count(self.inventory.foreign.len()),
            damaged: count(self.damaged.len()),
        }
    }
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}

/// Whether the manifest is the one of this backup of this connection, and was signed by the relay.
pub fn judge(
    id: &BackupId,
    stored: &Stored,
    connection_id: &str,
    json: &[u8],
    public_key: Option<&str>,
) -> Result<Manifest, String> {
    let signed = SignedManifest::parse(json).map_err(|error| error.to_string())?;
    let manifest = signed.manifest(public_key).map_err(|error| error.to_string())?;
    if manifest.backup != id.as_str() {
        return Err(format!("its manifest is the one of {}", manifest.backup));
    }
    if manifest.connection_id != connection_id {
        return Err(format!("its manifest is of the connection {}", manifest.connection_id));
    }
    let bytes = stored.current(Object::Data).map(|data| data.bytes);
    if bytes != Some(manifest.data.bytes) {
        let found = bytes.unwrap_or_default();
        return Err(format!("its data has {found} bytes, its manifest says {}", manifest.data.bytes));
    }
    Ok(manifest)
}
