//! The files on the relay's volume. Killed at any point, the database that was there is there under one of its two names.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use marketrelay_api::{
    backup::paths::{REPLACED, RESTORED},
    relay::paths::DATABASE,
};
use marketrelay_relay::replaced::remove_unfinished;

use super::RestoreError;

const LOG: &str = "-wal";
/// The log's index: SQLite makes it again.
const INDEX: &str = "-shm";

/// The volume.
pub(super) struct Volume {
    folder: PathBuf,
}

impl Volume {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The relay's.
    pub(super) fn database(&self) -> PathBuf {
        self.folder.join(DATABASE)
    }

    /// One that gave way to a restored one, which hasn't been at work yet.
    pub(super) fn replaced(&self) -> PathBuf {
        self.folder.join(REPLACED)
    }

    /// Where the new one is made.
    pub(super) fn restored(&self) -> PathBuf {
        self.folder.join(RESTORED)
    }

    /// Undoes what was begun and not finished.
    pub(super) fn tidy(&self) -> Result<(), RestoreError> {
        let (log, replaced_log) = (beside(&self.database(), LOG), beside(&self.replaced(), LOG));
        if self.database().exists() && !self.replaced().exists() && replaced_log.exists() {
            rename(&replaced_log, &log)?;
        }
        of(&self.folder, remove_unfinished(&self.folder).map(drop))?;
        self.sync()
    }

    /// Keeps the database that was there, and gives the new one its name. One that was itself restored and has never been
    /// at work isn't kept: the one before it still is.
    pub(super) fn put_in_place(&self) -> Result<(), RestoreError> {
        let (database, replaced) = (self.database(), self.replaced());
        let (log, index) = (beside(&database, LOG), beside(&database, INDEX));
        if database.exists() && !replaced.exists() {
            // No log may lie beside a database that it isn't of.
            remove(&beside(&replaced, LOG))?;
            remove(&beside(&replaced, INDEX))?;
            if log.exists() {
                rename(&log, &beside(&replaced, LOG))?;
            }
            rename(&database, &replaced)?;
            self.sync()?;
        }
        remove(&log)?;
        remove(&index)?;
        rename(&self.restored(), &database)?;
        self.sync()
    }

    fn sync(&self) -> Result<(), RestoreError> {
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| RestoreError::Volume { path: self.folder.clone(), source })
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn rename(from: &Path, to: &Path) -> Result<(), RestoreError> {
    of(from, fs::rename(from, to))
}

fn remove(path: &Path) -> Result<(), RestoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => of(path, removed),
    }
}

fn of(path: &Path, done: io::Result<()>) -> Result<(), RestoreError> {
    done.map_err(|source| RestoreError::Volume { path: path.to_owned(), source })
}
