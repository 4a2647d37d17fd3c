//! The connection's backups and archives of holds as they are in the store, each with its manifest.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use marketrelay_api::backup::Listing;
use marketrelay_keyring::HoldId;
use marketrelay_snapshot::{Manifest, SignedManifest};

use crate::{
    BackupId,
    archives::{self, ArchiveId, Archives, Holds},
    inventory::{Inventory, Stored},
    prune::{self, Due, Goes, Manifests},
    store::{Object, Store, StoreError},
};

/// Manifests that are read at a time.
const AT_A_TIME: usize = 8;

/// Backups that are told by their ids: a report must stay below 4 KiB.
const MOST_TOLD: usize = 10;

/// What is in the store.
#[derive(Debug)]
pub struct Catalog {
    /// All of it.
    pub inventory: Inventory,
    /// Of complete backups, those manifests that are their own.
    pub manifests: Manifests,
    /// Complete backups whose manifest isn't, and why.
    pub damaged: Vec<(BackupId, String)>,
    /// Of complete archives of holds, those manifests that are their own.
    pub archives: Archives,
    /// Complete archives whose manifest isn't, and why.
    pub damaged_archives: Vec<(ArchiveId, String)>,
    /// Who must have signed is known.
    is_key_known: bool,
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
        let expected = Expected { connection_id, public_key, hold: None };
        let backup = |(id, stored): (&BackupId, _)| Place {
            name: id.clone(),
            id: id.clone(),
            store: store.clone(),
            stored,
            expected,
        };
        let (manifests, damaged) = read(inventory.complete().map(backup).collect()).await?;
        let archive = |(archive, stored): (&ArchiveId, _)| Place {
            name: archive.clone(),
            id: archive.id.clone(),
            store: store.of_hold(&archive.hold),
            stored,
            expected: Expected { hold: Some(archive.hold), ..expected },
        };
        let complete = inventory.archives.iter().filter(|(_, stored)| stored.is_complete());
        let (archives, damaged_archives) = read(complete.map(archive).collect()).await?;
        let is_key_known = public_key.is_some();
        Ok(Self { inventory, manifests, damaged, archives, damaged_archives, is_key_known, upload_bytes })
    }

    /// Whether there is this good archive of that hold.
    pub fn has_archive(&self, hold: &str, id: &str) -> bool {
        self.archives.keys().any(|known| known.hold.to_string() == hold && known.id.as_str() == id)
    }

    /// The archives of a hold: those that are good, and what is wrong with the others.
    pub fn of_hold(&self, hold: &HoldId) -> (Manifests, Vec<(BackupId, String)>) {
        let good = self.archives.iter().filter(|(archive, _)| archive.hold == *hold);
        let damaged = self.damaged_archives.iter().filter(|(archive, _)| archive.hold == *hold);
        (
            good.map(|(archive, manifest)| (archive.id.clone(), manifest.clone())).collect(),
            damaged.map(|(archive, problem)| (archive.id.clone(), problem.clone())).collect(),
        )
    }

    /// What is to go: backups that must be gone at `at`, archives of holds that have ended, and those that a newer one stands
    /// in for.
    pub fn goes(
        &self,
        retention: SignedDuration,
        holds: Option<&Holds>,
        at: Timestamp,
        now: Timestamp,
    ) -> Vec<Goes<'_>> {
        let mut goes = self.due(retention, holds, at, now);
        if self.is_key_known {
            let superseded = archives::superseded(&self.inventory.archives, &self.archives);
            let known: BTreeSet<_> = goes.iter().map(|goes| goes.name.clone()).collect();
            let superseded = superseded.into_iter().filter(|id| !known.contains(&id.to_string()));
            goes.extend(superseded.filter_map(|id| {
                let stored = self.inventory.archives.get(&id)?;
                Some(Goes { name: id.to_string(), stored, what: Due::Everything })
            }));
        }
        goes
    }

    /// What must be gone at `at`: [`prune::due`], [`archives::due`].
    fn due(
        &self,
        retention: SignedDuration,
        holds: Option<&Holds>,
        at: Timestamp,
        now: Timestamp,
    ) -> Vec<Goes<'_>> {
        let Inventory { backups, archives, .. } = &self.inventory;
        let due = prune::due(&self.inventory, &self.manifests, retention, at, now).into_iter();
        let due = due.map(|(id, what)| Goes { name: id.to_string(), stored: &backups[&id], what });
        let of_holds = archives::due(archives, &self.archives, holds, now).into_iter();
        let of_holds = of_holds.map(|(id, what)| Goes { name: id.to_string(), stored: &archives[&id], what });
        due.chain(of_holds).collect()
    }

    /// When the next of the backups must be gone.
    pub fn expires(&self, retention: SignedDuration) -> Option<Timestamp> {
        let expiry = |(id, stored)| prune::expiry(id, stored, self.manifests.get(id), retention);
        self.inventory.backups.iter().map(expiry).min()
    }

    /// For the report. `now`: as of when it is judged.
    pub fn listing(
        &self,
        retention: SignedDuration,
        holds: Option<&Holds>,
        pruned: u64,
        now: Timestamp,
    ) -> Listing {
        let taken = || self.manifests.values().map(|manifest| manifest.created_at);
        let overdue = self.due(retention, holds, now, now).into_iter().map(|goes| match goes.what {
            Due::Everything => 1,
            Due::Uploads(ids) => count(ids.len()),
        });
        let bytes = self.inventory.all().map(Stored::bytes).sum::<u64>();
        let live = self.manifests.iter().rev().filter(|(_, manifest)| manifest.expires_at > now);
        Listing {
            at: now,
            backups: count(self.manifests.len()),
            archives: count(self.archives.len()),
            bytes: bytes + self.inventory.escrow.bytes() + self.upload_bytes,
            newest: taken().max(),
            oldest: taken().min(),
            pruned,
            overdue: overdue.sum(),
            foreign: count(self.inventory.foreign.len()),
            damaged: count(self.damaged.len() + self.damaged_archives.len()),
            restorable: live.take(MOST_TOLD).map(|(id, _)| id.to_string()).collect(),
        }
    }
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}

/// Whose a manifest must be.
#[derive(Clone, Copy)]
struct Expected<'a> {
    connection_id: &'a str,
    public_key: Option<&'a str>,
    /// `None`: a backup's.
    hold: Option<HoldId>,
}

/// Where a manifest is.
struct Place<'a, N> {
    name: N,
    id: BackupId,
    store: Store,
    stored: &'a Stored,
    expected: Expected<'a>,
}

impl<N> Place<'_, N> {
    async fn read(self) -> (Result<Bytes, StoreError>, Self) {
        (self.store.manifest(&self.id).await, self)
    }
}

type Read<N> = (BTreeMap<N, Manifest>, Vec<(N, String)>);

/// Those that are their own, and those that aren't.
async fn read<N: Ord + fmt::Display>(places: Vec<Place<'_, N>>) -> Result<Read<N>, StoreError> {
    let (mut good, mut damaged) = (BTreeMap::new(), Vec::new());
    let mut read = stream::iter(places).map(Place::read).buffer_unordered(AT_A_TIME);
    while let Some((json, Place { name, id, stored, expected, .. })) = read.next().await {
        let judged = match json {
            Err(error) if error.is_passing() => return Err(error),
            Err(error) => Err(error.to_string()),
            Ok(json) => judge(&id, stored, &expected, &json),
        };
        match judged {
            Ok(manifest) => drop(good.insert(name, manifest)),
            Err(problem) => {
                tracing::warn!(backup = %name, problem, "a backup or an archive is damaged");
                damaged.push((name, problem));
            }
        }
    }
    damaged.sort();
    Ok((good, damaged))
}

/// Whether the manifest is the one of this backup of this connection, and was signed by the relay.
fn judge(id: &BackupId, stored: &Stored, expected: &Expected<'_>, json: &[u8]) -> Result<Manifest, String> {
    let Expected { connection_id, public_key, hold } = expected;
    let signed = SignedManifest::parse(json).map_err(|error| error.to_string())?;
    let manifest = signed.manifest(*public_key).map_err(|error| error.to_string())?;
    if manifest.backup != id.as_str() {
        return Err(format!("its manifest is the one of {}", manifest.backup));
    }
    let (found, hold) =
        (manifest.hold.as_ref().map(|hold| hold.id.clone()), hold.map(|hold| hold.to_string()));
    if found != hold {
        let of =
            |hold: Option<String>| hold.map_or_else(|| "no hold".to_owned(), |id| format!("the hold {id}"));
        return Err(format!("its manifest is of {}, it is where {} has its own", of(found), of(hold)));
    }
    if manifest.connection_id != *connection_id {
        return Err(format!("its manifest is of the connection {}", manifest.connection_id));
    }
    let bytes = stored.current(Object::Data).map(|data| data.bytes);
    if bytes != Some(manifest.data.bytes) {
        let found = bytes.unwrap_or_default();
        return Err(format!("its data has {found} bytes, its manifest says {}", manifest.data.bytes));
    }
    Ok(manifest)
}
