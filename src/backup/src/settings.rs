//! What is mounted.

use std::{
    fs,
    path::{Path, PathBuf},
};

use marketrelay_api::backup::{
    JobConfig,
    paths::{CONFIG, STORE},
};
use marketrelay_pod::mounts::{self, Entries, at, text};
use snafu::{ResultExt, Snafu, ensure};

use crate::store::Credentials;

/// What is mounted can't be used.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SettingsError {
    #[snafu(display("can't read {}: {source}", path.display()))]
    Read { path: PathBuf, source: std::io::Error },
    #[snafu(display("{CONFIG} can't be used: {source}"))]
    Config { source: serde_path_to_error::Error<serde_yaml::Error> },
    #[snafu(display("{CONFIG} can't be used: {problem}"))]
    Value { problem: &'static str },
    #[snafu(display("the Secret with the store's credentials has no entry {entry:?}"))]
    Credentials { entry: &'static str },
}

/// The configuration file.
pub fn config(root: &Path) -> Result<JobConfig, SettingsError> {
    let path = at(root, CONFIG);
    let text = fs::read_to_string(&path).context(ReadSnafu { path })?;
    let yaml = serde_yaml::Deserializer::from_str(&text);
    let config: JobConfig = serde_path_to_error::deserialize(yaml).context(ConfigSnafu)?;
    let ends_with_id = config.store.prefix.rsplit('/').next() == Some(&config.connection_id);
    ensure!(ends_with_id, ValueSnafu { problem: "store.prefix doesn't end with the connection's id" });
    let positive = config.backup_retention_seconds > 0 && config.interval_seconds > 0;
    ensure!(positive, ValueSnafu { problem: "durations must be positive" });
    Ok(config)
}

/// The store's credentials.
pub fn credentials(root: &Path) -> Result<Credentials, SettingsError> {
    let path = at(root, STORE);
    let entries = mounts::entries(&path).context(ReadSnafu { path })?;
    let required = |entry: &'static str| text(&entries, entry).ok_or(SettingsError::Credentials { entry });
    Ok(Credentials {
        access_key_id: required("accessKeyId")?,
        secret_access_key: required("secretAccessKey")?,
        session_token: text(&entries, "sessionToken"),
    })
}

/// The files of a mount.
pub fn entries(root: &Path, path: &str) -> Result<Entries, SettingsError> {
    let path = at(root, path);
    mounts::entries(&path).context(ReadSnafu { path })
}
