//! What must not be in the store any more, and removing it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use marketrelay_snapshot::Manifest;

use crate::{
    BackupId,
    inventory::{Inventory, Stored},
    store::{Object, Store, StoreError, Version},
};

/// An upload that is this old isn't under way any more, nor is a backup whose manifest is missing.
const UNFINISHED: SignedDuration = SignedDuration::from_hours(24);

/// The manifests that could be read and are their backups' own.
pub type Manifests = BTreeMap<BackupId, Manifest>;

/// When a backup must be gone.
pub fn expiry(
    id: &BackupId,
    stored: &Stored,
    manifest: Option<&Manifest>,
    retention: SignedDuration,
) -> Timestamp {
    let latest = written(id, stored).checked_add(retention).unwrap_or(Timestamp::MAX);
    manifest.map_or(latest, |manifest| manifest.expires_at.min(latest))
}

/// What of a backup is to go.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// All.
    Everything,
    /// Uploads that nobody finishes, by their ids.
    Uploads(Vec<String>),
}

/// What must be gone at `at`; the newest good backup only once its own time has come: there may be no other yet.
pub fn due(
    inventory: &Inventory,
    manifests: &Manifests,
    retention: SignedDuration,
    at: Timestamp,
    now: Timestamp,
) -> Vec<(BackupId, Due)> {
    let newest = manifests.keys().next_back();
    let judge = |(id, stored): (&BackupId, &Stored)| {
        let limit = if Some(id) == newest { now } else { at };
        let is_expired = expiry(id, stored, manifests.get(id), retention) <= limit;
        let due = if is_expired { Some(Due::Everything) } else { unfinished(id, stored, now) };
        due.map(|due| (id.clone(), due))
    };
    inventory.backups.iter().filter_map(judge).collect()
}

/// What of a backup or an archive nobody finishes any more.
pub fn unfinished(id: &BackupId, stored: &Stored, now: Timestamp) -> Option<Due> {
    let old = |begun: Timestamp| now.duration_since(begun) >= UNFINISHED;
    if !stored.is_complete() && !stored.versions.is_empty() && old(written(id, stored)) {
        return Some(Due::Everything);
    }
    let uploads = stored.uploads.iter().filter(|upload| old(upload.begun));
    let uploads: Vec<_> = uploads.map(|upload| upload.id.clone()).collect();
    (!uploads.is_empty()).then_some(Due::Uploads(uploads))
}

/// When it was begun, by its id or by what was written first, which no later id makes younger.
pub fn written(id: &BackupId, stored: &Stored) -> Timestamp {
    stored.first_written().map_or(id.begun(), |first| first.min(id.begun()))
}

/// What pruning has done.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Backups and archives of which nothing is left.
    pub backups: u64,
    /// What could not be removed, and why.
    pub failures: Vec<(String, StoreError)>,
}

/// Something that goes.
#[derive(Debug)]
pub struct Goes<'a> {
    /// As logs and messages name it.
    pub name: String,
    /// What there is of it.
    pub stored: &'a Stored,
    /// What of that goes.
    pub what: Due,
}

/// Removes what is due. What can't be removed keeps nothing else back, unless the store itself is away.
pub async fn remove(store: &Store, due: Vec<Goes<'_>>) -> Pruned {
    let mut pruned = Pruned::default();
    for Goes { name, stored, what } in due {
        match remove_one(store, stored, &what).await {
            Ok(()) => {
                pruned.backups += u64::from(what == Due::Everything);
                tracing::info!(backup = name, ?what, "removed from the store");
            }
            Err(error) => {
                tracing::warn!(backup = name, %error, "can't be removed from the store");
                let is_away = error.is_passing();
                pruned.failures.push((name, error));
                if is_away {
                    break;
                }
            }
        }
    }
    pruned
}

/// In such an order that what is left, should it end before its end, is no backup: the manifest first, and what hides older
/// versions last.
async fn remove_one(store: &Store, stored: &Stored, what: &Due) -> Result<(), StoreError> {
    if *what == Due::Everything {
        let mut versions: Vec<&(Object, Version)> = stored.versions.iter().collect();
        versions.sort_by_key(|(object, version)| (version.is_marker, *object == Object::Data));
        for (_, version) in versions {
            store.delete(version).await?;
        }
    }
    for upload in &stored.uploads {
        let is_due = match what {
            Due::Everything => true,
            Due::Uploads(ids) => ids.contains(&upload.id),
        };
        if is_due {
            store.abort(upload).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::tests::{PREFIX, version};
    use crate::restore::candidates::tests::manifest;
    use crate::store::Upload;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);
    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn whole(id: &BackupId, modified: Timestamp) -> Vec<Version> {
        ["data", "manifest.json"].map(|name| version(&format!("{id}/{name}"), true, false, modified)).into()
    }

    fn ids(due: &[(BackupId, Due)]) -> Vec<&BackupId> {
        due.iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn what_expires_before_the_next_run_goes_now_and_nothing_that_is_newer() {
        let now = at("2026-11-29T00:00:00Z");
        let [old, next, new] = [now - DAY * 30, now - DAY * 29, now - DAY * 28].map(BackupId::mint);
        let versions = [&old, &next, &new].into_iter().flat_map(|id| whole(id, id.begun())).collect();
        let inventory = Inventory::new(PREFIX, versions, Vec::new());
        let judged = due(&inventory, &Manifests::new(), DAY * 30, now + DAY, now);
        assert_eq!(ids(&judged), [&old, &next]);
        let overdue = due(&inventory, &Manifests::new(), DAY * 30, now, now);
        assert_eq!(ids(&overdue), [&old]);
    }

    #[test]
    fn the_last_good_backup_stays_until_its_own_time_has_come() {
        let now = at("2026-11-29T00:00:00Z");
        let [old, last] = [now - HOUR * 22, now - HOUR * 20].map(BackupId::mint);
        let versions = [&old, &last].into_iter().flat_map(|id| whole(id, id.begun())).collect();
        let inventory = Inventory::new(PREFIX, versions, Vec::new());
        let manifests = [&old, &last].map(|id| (id.clone(), manifest(id, 1))).into();
        let due = |at, now| due(&inventory, &manifests, DAY * 30, at, now);
        assert_eq!(ids(&due(now + DAY, now)), [&old]);
        assert_eq!(ids(&due(now + DAY, now + HOUR * 4)), [&old, &last]);
    }

    #[test]
    fn an_id_of_the_future_makes_no_backup_younger_than_it_is() {
        let now = at("2026-11-29T00:00:00Z");
        let id = BackupId::mint(at("2099-01-01T00:00:00Z"));
        let inventory = Inventory::new(PREFIX, whole(&id, now - DAY * 31), Vec::new());
        assert_eq!(ids(&due(&inventory, &Manifests::new(), DAY * 30, now, now)), [&id]);
    }

    #[test]
    fn half_a_backup_and_an_upload_may_be_under_way_for_a_day() {
        let now = at("2026-11-29T00:00:00Z");
        let [fresh, stale] = [now - DAY + HOUR, now - DAY].map(BackupId::mint);
        let upload = |id: &BackupId| Upload {
            key: format!("{PREFIX}/{id}/data"),
            id: format!("upload of {id}"),
            begun: id.begun(),
        };
        let versions = [&fresh, &stale].map(|id| version(&format!("{id}/data"), true, false, id.begun()));
        let inventory = Inventory::new(PREFIX, versions.into(), Vec::new());
        assert_eq!(ids(&due(&inventory, &Manifests::new(), DAY * 30, now, now)), [&stale]);
        let inventory = Inventory::new(PREFIX, Vec::new(), vec![upload(&fresh), upload(&stale)]);
        let judged = due(&inventory, &Manifests::new(), DAY * 30, now, now);
        assert_eq!(judged, [(stale.clone(), Due::Uploads(vec![upload(&stale).id]))]);
    }

    #[test]
    fn a_backup_that_is_hidden_by_delete_markers_goes_with_all_its_versions() {
        let now = at("2026-11-29T00:00:00Z");
        let id = BackupId::mint(now - DAY * 2);
        let mut versions = whole(&id, id.begun());
        for version in &mut versions {
            version.is_latest = false;
        }
        versions.push(version(&format!("{id}/data"), true, true, now - HOUR));
        versions.push(version(&format!("{id}/manifest.json"), true, true, now - HOUR));
        let inventory = Inventory::new(PREFIX, versions, Vec::new());
        let judged = due(&inventory, &Manifests::new(), DAY * 30, now, now);
        assert_eq!(judged, [(id, Due::Everything)]);
    }
}
