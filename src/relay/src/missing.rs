//! A relay that was told of a database, and doesn't find it, must not begin another one: what it had may be in a backup. And one
//! whose database is taken away must not go on with what nobody will find again.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use marketrelay_api::relay::{KnownDatabase, paths};
use snafu::{ResultExt, Whatever};
use tokio_util::sync::CancellationToken;

use crate::mounts::at;

/// Between two looks at the file.
const INTERVAL: Duration = Duration::from_secs(5);

/// What is missing, and what to do; `None`: nothing is.
pub fn missing(root: &Path) -> Result<Option<String>, Whatever> {
    let path = at(root, paths::KNOWN_DATABASE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.with_whatever_context(|error| format!("can't read {}: {error}", path.display()))?,
    };
    let known: KnownDatabase = serde_yaml::from_str(&text)
        .with_whatever_context(|error| format!("{} can't be used: {error}", path.display()))?;
    let database = at(root, paths::DATA).join(paths::DATABASE);
    let exists = database.try_exists();
    let exists =
        exists.with_whatever_context(|error| format!("can't look for {}: {error}", database.display()))?;
    Ok((!exists).then(|| {
        format!(
            "there is no database on the volume, though the connection had one (audit log {}) and has backups: the operator \
             restores the newest; to begin without it, annotate the connection with marketrelay.dev/begin-anew={}",
            known.chain, known.chain
        )
    }))
}

/// Ends the relay once the file in `data` isn't the database any more that it has open: it starts again, and misses it then.
pub async fn end_once_gone(data: PathBuf, stop: CancellationToken) {
    let path = data.join(paths::DATABASE);
    let Ok(open) = file(&path) else {
        tracing::warn!(path = %path.display(), "can't look at the database's file");
        return;
    };
    loop {
        if stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
            return;
        }
        let is_gone = match file(&path) {
            Ok(found) => found != open,
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        if is_gone {
            tracing::error!(path = %path.display(), "the database was taken away while it was open: ends");
            stop.cancel();
        }
    }
}

/// Which file it is.
fn file(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::metadata(path)?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_database_that_is_gone_is_missed_and_an_unknown_one_is_not() {
        let root = tempfile::TempDir::new().expect("a folder");
        let config = at(root.path(), paths::CONFIG_FOLDER);
        let data = at(root.path(), paths::DATA);
        for folder in [&config, &data] {
            fs::create_dir_all(folder).expect("a folder");
        }
        assert_eq!(missing(root.path()).expect("an answer"), None);
        fs::write(config.join("database.yaml"), "chain: 3f6c\n").expect("written");
        let message = missing(root.path()).expect("an answer").expect("it is missing");
        assert!(message.contains("3f6c"), "{message}");
        fs::write(data.join("marketrelay.db"), "").expect("written");
        assert_eq!(missing(root.path()).expect("an answer"), None);
        fs::write(config.join("database.yaml"), "chains: 3f6c\n").expect("written");
        assert!(missing(root.path()).expect_err("refused").to_string().contains("database.yaml"));
    }
}
