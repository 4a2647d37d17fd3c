//! What a listing has found, put together as backups and archives of holds. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    BackupId,
    archives::ArchiveId,
    store::{ESCROW, HOLDS, Object, Upload, Version},
};

/// All that is under a connection's prefix.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Oldest first; incomplete ones too.
    pub backups: BTreeMap<BackupId, Stored>,
    /// Archives of holds; incomplete ones too.
    pub archives: BTreeMap<ArchiveId, Stored>,
    /// The escrowed keys, in whatever state.
    pub escrow: Escrowed,
    /// Objects and uploads that are named otherwise than ours.
    pub foreign: Vec<String>,
}

/// What there is in the folder of the escrowed keys. It is their own Job's to prune.
#[derive(Debug, Default)]
pub struct Escrowed {
    /// Versions, and delete markers.
    pub versions: Vec<Version>,
    /// Unfinished uploads.
    pub uploads: Vec<Upload>,
}

/// What there is of a backup.
#[derive(Debug, Default)]
pub struct Stored {
    /// Versions of its two objects, and delete markers.
    pub versions: Vec<(Object, Version)>,
    /// Unfinished uploads of its data.
    pub uploads: Vec<Upload>,
}

impl Inventory {
    /// `prefix`: without a slash at its end.
    pub fn new(prefix: &str, versions: Vec<Version>, uploads: Vec<Upload>) -> Self {
        let mut inventory = Self::default();
        for version in versions {
            if is_escrowed(prefix, &version.key) {
                inventory.escrow.versions.push(version);
                continue;
            }
            match ours(prefix, &version.key) {
                Some((place, object)) => inventory.at(place).versions.push((object, version)),
                None => inventory.foreign.push(version.key),
            }
        }
        for upload in uploads {
            if is_escrowed(prefix, &upload.key) {
                inventory.escrow.uploads.push(upload);
                continue;
            }
            match ours(prefix, &upload.key) {
                Some((place, _)) => inventory.at(place).uploads.push(upload),
                None => inventory.foreign.push(upload.key),
            }
        }
        inventory.foreign.sort();
        inventory.foreign.dedup();
        inventory
    }

    fn at(&mut self, place: Place) -> &mut Stored {
        match place {
            Place::Backup(id) => self.backups.entry(id).or_default(),
            Place::Archive(id) => self.archives.entry(id).or_default(),
        }
    }

    /// All that there is of backups and archives.
    pub fn all(&self) -> impl Iterator<Item = &Stored> {
        self.backups.values().chain(self.archives.values())
    }

    /// Every version and every unfinished upload that is ours, in the order in which they go if all must: escrowed keys and
    /// manifests first, so that what is left is no backup, and what hides older versions last.
    pub fn ours(&self) -> (Vec<&Version>, Vec<&Upload>) {
        let escrowed = self.escrow.versions.iter().map(|version| (false, version));
        let stored = self.all().flat_map(|stored| &stored.versions);
        let stored = stored.map(|(object, version)| (*object == Object::Data, version));
        let mut versions: Vec<_> = escrowed.chain(stored).collect();
        versions.sort_by_key(|(is_data, version)| (version.is_marker, *is_data));
        let uploads = self.escrow.uploads.iter().chain(self.all().flat_map(|stored| &stored.uploads));
        (versions.into_iter().map(|(_, version)| version).collect(), uploads.collect())
    }

    /// Those that a reader finds whole, oldest first.
    pub fn complete(&self) -> impl DoubleEndedIterator<Item = (&BackupId, &Stored)> {
        self.backups.iter().filter(|(_, stored)| stored.is_complete())
    }
}

/// Of what an object is.
enum Place {
    Backup(BackupId),
    Archive(ArchiveId),
}

fn ours(prefix: &str, key: &str) -> Option<(Place, Object)> {
    let rest = key.strip_prefix(prefix)?.strip_prefix('/')?;
    let archives = rest.strip_prefix(HOLDS).and_then(|rest| rest.strip_prefix('/'));
    let (hold, rest) = match archives.and_then(|rest| rest.split_once('/')) {
        Some((hold, rest)) => (Some(hold.parse().ok()?), rest),
        None => (None, rest),
    };
    let (id, name) = rest.split_once('/')?;
    let object = [Object::Data, Object::Manifest].into_iter().find(|object| object.name() == name)?;
    let id = BackupId::parse(id)?;
    let place = hold.map(|hold| Place::Archive(ArchiveId { hold, id: id.clone() }));
    Some((place.unwrap_or(Place::Backup(id)), object))
}

fn is_escrowed(prefix: &str, key: &str) -> bool {
    let folder = || key.strip_prefix(prefix)?.strip_prefix('/')?.split_once('/');
    folder().is_some_and(|(folder, _)| folder == ESCROW)
}

impl Escrowed {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.uploads.is_empty()
    }

    /// All versions together.
    pub fn bytes(&self) -> u64 {
        self.versions.iter().map(|version| version.bytes).sum()
    }
}

impl Stored {
    /// Whether a reader gets data and manifest.
    pub fn is_complete(&self) -> bool {
        [Object::Data, Object::Manifest].into_iter().all(|object| self.current(object).is_some())
    }

    /// What a reader gets.
    pub fn current(&self, object: Object) -> Option<&Version> {
        let latest = |(which, version): &&(Object, Version)| *which == object && version.is_latest;
        self.versions.iter().find(latest).map(|(_, version)| version).filter(|version| !version.is_marker)
    }

    /// All versions together.
    pub fn bytes(&self) -> u64 {
        self.versions.iter().map(|(_, version)| version.bytes).sum()
    }

    /// Whether nothing of it is left but what is to come.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.uploads.is_empty()
    }

    /// When the first of it was written, which no later id makes younger.
    pub fn first_written(&self) -> Option<Timestamp> {
        let versions = self.versions.iter().map(|(_, version)| version.modified);
        versions.chain(self.uploads.iter().map(|upload| upload.begun)).min()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub const PREFIX: &str = "tenants/3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34";

    pub fn version(key: &str, is_latest: bool, is_marker: bool, modified: Timestamp) -> Version {
        let bytes = if is_marker { 0 } else { 10 };
        let version = format!("{modified}-{is_marker}");
        Version { key: format!("{PREFIX}/{key}"), version, is_latest, is_marker, bytes, modified }
    }

    #[test]
    fn what_is_not_named_like_a_backup_is_foreign_and_similar_prefixes_are_not_ours() {
        let now = Timestamp::UNIX_EPOCH;
        let id = "20261129T003250Z-5f0c1a2b";
        let keys = [
            format!("{id}/data"),
            format!("{id}/manifest.json"),
            format!("{id}/notes"),
            format!("{id}/data/more"),
            "readme.txt".to_owned(),
            String::new(),
            "20261129T003250Z-xxxxxxxx/data".to_owned(),
            format!("holds/{id}/data"),
            format!("holds/{}/{id}/data", "AB".repeat(32)),
            format!("holds/{}/{id}/notes", "ab".repeat(32)),
            format!("holds/{}/{id}/data", "ab".repeat(32)),
        ];
        let mut versions: Vec<_> = keys.iter().map(|key| version(key, true, false, now)).collect();
        versions.push(Version { key: format!("{PREFIX}-2/{id}/data"), ..versions[0].clone() });
        let uploads = vec![Upload { key: format!("{PREFIX}/x"), id: "1".to_owned(), begun: now }];
        let inventory = Inventory::new(PREFIX, versions, uploads);
        assert_eq!(inventory.complete().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), [id]);
        assert_eq!(inventory.backups.len(), 1);
        assert_eq!(inventory.archives.len(), 1);
        assert_eq!(inventory.foreign.len(), 10, "{:?}", inventory.foreign);
    }

    #[test]
    fn archives_and_escrowed_keys_are_ours_as_backups_are_and_data_goes_after_what_makes_something_of_it() {
        let now = Timestamp::UNIX_EPOCH;
        let id = "20261129T003250Z-5f0c1a2b";
        let archive = format!("holds/{}/{id}", "ab".repeat(32));
        let names = [
            format!("{id}/data"),
            format!("{id}/manifest.json"),
            format!("{archive}/data"),
            format!("{archive}/manifest.json"),
            "escrow/keyring.age".to_owned(),
            "readme.txt".to_owned(),
        ];
        let versions = names.iter().map(|name| version(name, true, false, now)).collect();
        let upload = |name: &str| Upload { key: format!("{PREFIX}/{name}"), id: "1".to_owned(), begun: now };
        let uploads = vec![upload(&names[2]), upload("readme.txt")];
        let inventory = Inventory::new(PREFIX, versions, uploads);
        let (versions, uploads) = inventory.ours();
        let last: Vec<_> = versions[3..].iter().map(|version| version.key.rsplit('/').next()).collect();
        assert_eq!((versions.len(), last), (5, vec![Some("data"); 2]));
        assert_eq!(
            uploads.iter().map(|upload| &upload.key).collect::<Vec<_>>(),
            [&format!("{PREFIX}/{}", names[2])]
        );
    }

    #[test]
    fn escrowed_keys_are_neither_backups_nor_foreign() {
        let now = Timestamp::UNIX_EPOCH;
        let versions = [
            version("escrow/keyring.age", false, false, now),
            version("escrow/keyring.age", true, true, now),
            version("escrow-2/keyring.age", true, false, now),
            version("escrow", true, false, now),
        ];
        let upload = Upload { key: format!("{PREFIX}/escrow/keyring.age"), id: "1".to_owned(), begun: now };
        let inventory = Inventory::new(PREFIX, versions.into(), vec![upload]);
        let Escrowed { versions, uploads } = &inventory.escrow;
        assert_eq!((versions.len(), uploads.len(), inventory.escrow.bytes()), (2, 1, 10));
        assert_eq!(inventory.backups.len(), 0);
        let foreign = ["escrow", "escrow-2/keyring.age"].map(|name| format!("{PREFIX}/{name}"));
        assert_eq!(inventory.foreign, foreign);
    }

    #[test]
    fn a_deleted_manifest_makes_a_backup_incomplete_and_its_versions_still_count() {
        let now = Timestamp::UNIX_EPOCH;
        let id = "20261129T003250Z-5f0c1a2b";
        let versions = vec![
            version(&format!("{id}/data"), true, false, now),
            version(&format!("{id}/manifest.json"), false, false, now),
            version(&format!("{id}/manifest.json"), true, true, now),
        ];
        let inventory = Inventory::new(PREFIX, versions, Vec::new());
        assert_eq!(inventory.complete().count(), 0);
        assert_eq!(inventory.backups.values().map(Stored::bytes).sum::<u64>(), 20);
    }
}
