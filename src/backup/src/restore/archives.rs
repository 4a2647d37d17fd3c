//! What the archives of holds have joins a database that was made of a backup: a hold may be younger than that, or have taken
//! orders since.

use std::{cmp::Reverse, collections::BTreeMap, path::PathBuf, sync::Arc};

use jiff::Timestamp;
use marketrelay_api::backup::Site;
use marketrelay_keyring::HoldId;
use marketrelay_relay::store::import::{Archive, add};
use marketrelay_snapshot::Manifest;
use snafu::ResultExt;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{
    Mounted, RestoreError,
    candidates::Listed,
    download::Download,
    error::{BrokenSnafu, StoreSnafu},
    importing::{Signed, outcome},
    until_stopped,
};
use crate::{
    BackupId, Reason,
    archives::{ArchiveId, order, orders},
    store::Store,
};

/// Where they are, and what they are added to.
pub(super) struct Adding<'a> {
    pub listed: &'a [Listed],
    /// Of the sites, by their places.
    pub stores: Vec<&'a Store>,
    /// Who has signed them.
    pub public_key: &'a str,
    pub mounted: &'a Arc<Mounted>,
    /// The database.
    pub path: PathBuf,
    pub stop: &'a CancellationToken,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// Held orders that the backup didn't have.
    pub orders: u64,
    /// Archives that can't be used, and why.
    pub problems: Vec<(Reason, String)>,
}

/// An archive that may be added.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate<'a> {
    place: usize,
    site: Site,
    id: &'a BackupId,
    manifest: &'a Manifest,
}

impl Adding<'_> {
    /// Of each hold whose key there is the newest good one of each database, and older ones that have more. What can't be used gives way; an
    /// error is one that no other archive would do better with.
    pub(super) async fn run(&self) -> Result<Added, RestoreError> {
        let mut added = Added::default();
        for hold in self.mounted.holds() {
            added.problems.extend(damaged(self.listed, hold));
            let mut most = BTreeMap::new();
            for candidate in candidates(self.listed, hold) {
                let (orders, chain) = (orders(candidate.manifest), &candidate.manifest.audit.chain);
                if most.get(chain).is_some_and(|most| *most >= orders) {
                    continue;
                }
                match self.add(hold, &candidate).await {
                    Ok(more) => {
                        most.insert(chain, orders);
                        added.orders += more;
                    }
                    Err(error) if error.is_final() => return Err(error),
                    Err(error) => added.problems.push(problem(hold, &candidate, &error)),
                }
            }
        }
        Ok(added)
    }

    async fn add(&self, hold: HoldId, candidate: &Candidate<'_>) -> Result<u64, RestoreError> {
        let Candidate { place, site, id, manifest } = *candidate;
        let store = self.stores[place].of_hold(&hold);
        tracing::info!(archive = %id, %hold, %site, orders = orders(manifest), "is read");
        let signed = Signed { store: &store, site, id, manifest, public_key: self.public_key };
        let signed = until_stopped(self.stop, signed.read()).await?;
        let download = Download::begin(&store, id, manifest.data.bytes, self.stop);
        let download = async { download.await.context(StoreSnafu { site }) };
        let (data, fault) = until_stopped(self.stop, download).await?;
        let (mounted, path) = (self.mounted.clone(), self.path.clone());
        let done = spawn_blocking(move || {
            let archive = Archive { hold, manifest: &signed, data };
            add(&path, archive, mounted.keys(), Timestamp::now())
        });
        outcome(done.await.context(BrokenSnafu)?, site, &fault, self.stop)
    }
}

fn problem(hold: HoldId, candidate: &Candidate<'_>, error: &RestoreError) -> (Reason, String) {
    let Candidate { site, id, .. } = candidate;
    tracing::warn!(archive = %id, %hold, %site, %error, "an archive can't be used");
    (error.reason(), format!("archive {}", error.of(id, *site)))
}

/// The newest first; of equally new ones the first site's.
fn candidates<'a>(listed: &'a [Listed], hold: HoldId) -> Vec<Candidate<'a>> {
    let of_site = |listed: &'a Listed| {
        let Listed { place, site, archives, .. } = listed;
        let of_hold = archives.iter().filter(move |(archive, _)| archive.hold == hold);
        of_hold.map(move |(archive, manifest)| Candidate {
            place: *place,
            site: *site,
            id: &archive.id,
            manifest,
        })
    };
    let mut found: Vec<_> = listed.iter().flat_map(of_site).collect();
    // It keeps the sites' order.
    found.sort_by_key(|candidate| Reverse(order(candidate.manifest)));
    found
}

/// Those whose manifest isn't their own, unless a newer one of the site stands in for them.
fn damaged(listed: &[Listed], hold: HoldId) -> Vec<(Reason, String)> {
    let of_site = |listed: &Listed| {
        let newest = listed.archives.keys().filter(|archive| archive.hold == hold).max();
        let is_newer = |(archive, _): &&(ArchiveId, String)| {
            archive.hold == hold && newest.is_none_or(|newest| newest < archive)
        };
        let site = listed.site;
        let damaged = listed.damaged_archives.iter().filter(is_newer);
        let text = damaged.map(|(archive, problem)| format!("archive {} ({site}): {problem}", archive.id));
        text.map(|text| (Reason::BackupDamaged, text)).collect::<Vec<_>>()
    };
    listed.iter().flat_map(of_site).collect()
}
