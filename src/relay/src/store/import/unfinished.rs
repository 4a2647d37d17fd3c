use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use snafu::{ResultExt, ensure};

use super::{ExistsSnafu, FileSnafu, Result};

/// What SQLite has beside a database.
const BESIDE: [&str; 3] = ["", "-wal", "-shm"];

/// A database under another name until it is complete; removed unless it was finished.
pub(super) struct Unfinished {
    path: PathBuf,
    target: PathBuf,
}

impl Unfinished {
    /// In the place of one that a killed process has left.
    pub(super) fn begin(target: &Path) -> Result<Self> {
        ensure!(!target.exists(), ExistsSnafu { path: target });
        let mut name = target.as_os_str().to_owned();
        name.push(".restoring");
        let unfinished = Self { path: name.into(), target: target.to_owned() };
        unfinished.remove()?;
        Ok(unfinished)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, once it lasts.
    pub(super) fn finish(self) -> Result<()> {
        let path = &self.path;
        File::open(path).and_then(|file| file.sync_all()).context(FileSnafu { path })?;
        fs::rename(path, &self.target).context(FileSnafu { path })?;
        let folder = self.target.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).context(FileSnafu { path: folder })
    }

    fn remove(&self) -> Result<()> {
        for beside in BESIDE {
            let mut path = self.path.as_os_str().to_owned();
            path.push(beside);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).context(FileSnafu { path });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, "an unfinished database can't be removed");
        }
    }
}
