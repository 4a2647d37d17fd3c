//! A relay that was told of a database, and doesn't find it, must not begin another one: what it had may be in a backup.

use std::{fs, io::ErrorKind, path::Path};

use marketrelay_api::relay::{KnownDatabase, paths};
use snafu::{ResultExt, Whatever};

use crate::mounts::at;

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
