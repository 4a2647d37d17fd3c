//! What is mounted.

use std::{
    fs,
    path::{Path, PathBuf},
};

use age::Decryptor;
use marketrelay_api::backup::{
    DrillConfig, Expiry, Goes, JobConfig, LiveHold, PastErasures, PurgeConfig, RestoreConfig, S3Store,
    fingerprint::halves,
    paths::{CONFIG, ERASURES, ESCROW, ESCROW_FINGERPRINT, ESCROWED, STORES},
};
use marketrelay_audit::from_hex;
use marketrelay_escrow::erasures::{ErasuresError, unpack};
use marketrelay_pod::mounts::{self, Entries, at, text};
use serde::de::DeserializeOwned;
use snafu::{OptionExt, ResultExt, Snafu, ensure};
use zeroize::Zeroizing;

use crate::{archives::Holds, store::Credentials};

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
    #[snafu(display("{ERASURES} can't be used: {source}"))]
    Erasures { source: ErasuresError },
    #[snafu(display("the Secret with the store's credentials has no entry {entry:?}"))]
    Credentials { entry: String },
    #[snafu(display("the Secret with the keys that are escrowed can't be used: {problem}"))]
    Escrow { problem: String },
}

/// The configuration file.
pub fn config(root: &Path) -> Result<JobConfig, SettingsError> {
    let config: JobConfig = read(root)?;
    check(&config.store, &config.connection_id)?;
    check_expiry(&config.expiry())?;
    Ok(config)
}

fn check_expiry(expiry: &Expiry) -> Result<(), SettingsError> {
    let positive = expiry.backup_retention_seconds > 0 && expiry.interval_seconds > 0;
    ensure!(positive, ValueSnafu { problem: "durations must be positive" });
    Ok(())
}

/// The holds of a Job's configuration, by their ids.
pub fn holds(holds: &[LiveHold]) -> Result<Holds, SettingsError> {
    let hold = |hold: &LiveHold| {
        let problem = "holds: an id isn't 64 lowercase hex digits";
        Ok((hold.id.parse().map_err(|_| SettingsError::Value { problem })?, hold.until))
    };
    holds.iter().map(hold).collect()
}

/// The configuration file of a Job that restores.
pub fn restore(root: &Path) -> Result<RestoreConfig, SettingsError> {
    let config = RestoreConfig { erasures: erasures(root)?, ..read(root)? };
    ensure!(!config.sites.is_empty(), ValueSnafu { problem: "there is no site" });
    for site in &config.sites {
        check(&site.store, &config.connection_id)?;
    }
    check_key(&config.public_key)?;
    Ok(config)
}

/// The configuration file of a Job that drills.
pub fn drill(root: &Path) -> Result<DrillConfig, SettingsError> {
    let config = DrillConfig { erasures: erasures(root)?, ..read(root)? };
    check(&config.site.store, &config.connection_id)?;
    check_key(&config.public_key)?;
    ensure!(config.oldest_seconds > 0, ValueSnafu { problem: "oldestSeconds must be positive" });
    Ok(config)
}

/// The configuration file of a Job that purges.
pub fn purge(root: &Path) -> Result<PurgeConfig, SettingsError> {
    let config: PurgeConfig = read(root)?;
    for one in &config.stores {
        check(&one.store, &config.connection_id)?;
    }
    if let Goes::Expired(expiry) = &config.goes {
        check_expiry(expiry)?;
    }
    Ok(config)
}

/// What was erased.
fn erasures(root: &Path) -> Result<PastErasures, SettingsError> {
    let path = at(root, ERASURES);
    let packed = fs::read(&path).context(ReadSnafu { path })?;
    unpack(&packed).context(ErasuresSnafu)
}

fn read<T: DeserializeOwned>(root: &Path) -> Result<T, SettingsError> {
    let path = at(root, CONFIG);
    let text = fs::read_to_string(&path).context(ReadSnafu { path })?;
    let yaml = serde_yaml::Deserializer::from_str(&text);
    serde_path_to_error::deserialize(yaml).context(ConfigSnafu)
}

fn check(store: &S3Store, connection_id: &str) -> Result<(), SettingsError> {
    let ends_with_id = store.prefix.rsplit('/').next() == Some(connection_id);
    ensure!(ends_with_id, ValueSnafu { problem: "store.prefix doesn't end with the connection's id" });
    Ok(())
}

fn check_key(public_key: &str) -> Result<(), SettingsError> {
    let is_key = from_hex::<32>(public_key).is_some();
    ensure!(is_key, ValueSnafu { problem: "publicKey must be 64 lowercase hex digits" });
    Ok(())
}

/// The store's credentials, mounted at `path`.
pub fn credentials(root: &Path, path: &str) -> Result<Credentials, SettingsError> {
    named(&entries(root, path)?, "")
}

/// Those of one of the stores that are purged.
pub fn credentials_of(root: &Path, id: &str) -> Result<Credentials, SettingsError> {
    named(&entries(root, STORES)?, &format!("{id}."))
}

fn named(entries: &Entries, prefix: &str) -> Result<Credentials, SettingsError> {
    let given = |entry: &str| text(entries, &format!("{prefix}{entry}"));
    let required = |entry: &str| given(entry).context(CredentialsSnafu { entry: format!("{prefix}{entry}") });
    Ok(Credentials {
        access_key_id: required("accessKeyId")?,
        secret_access_key: required("secretAccessKey")?,
        session_token: given("sessionToken"),
    })
}

/// Keys that are to be escrowed.
pub struct Sealed {
    /// The encrypted document.
    pub document: Zeroizing<Vec<u8>>,
    /// What it is known by.
    pub fingerprint: String,
}

/// The keys that are to be escrowed, as far as can be seen without opening them.
pub fn sealed(root: &Path) -> Result<Sealed, SettingsError> {
    let unread = |error: SettingsError| SettingsError::Escrow { problem: error.to_string() };
    let mut entries = entries(root, ESCROW).map_err(unread)?;
    let missing = |entry| EscrowSnafu { problem: format!("it has no entry {entry:?}") };
    let fingerprint = text(&entries, ESCROW_FINGERPRINT).with_context(|| missing(ESCROW_FINGERPRINT))?;
    let problem = || format!("entry {ESCROW_FINGERPRINT:?} isn't two hashes with a dot between them");
    ensure!(halves(&fingerprint).is_some(), EscrowSnafu { problem: problem() });
    let document = entries.remove(ESCROWED).with_context(|| missing(ESCROWED))?;
    if let Err(error) = Decryptor::new(&document[..]) {
        return EscrowSnafu { problem: format!("entry {ESCROWED:?} isn't encrypted with age: {error}") }
            .fail();
    }
    Ok(Sealed { document, fingerprint: fingerprint.to_string() })
}

/// The files of a mount.
pub fn entries(root: &Path, path: &str) -> Result<Entries, SettingsError> {
    let path = at(root, path);
    mounts::entries(&path).context(ReadSnafu { path })
}
