//! A backup becomes a database again: in a new file that is there once everything in it is as it was backed up, without
//! the personal data whose time has come since.

mod archive;
mod earlier;
mod fill;
mod left;
mod sealed;
mod settle;
mod source;
mod unfinished;

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use marketrelay_api::backup::PastErasure;
use marketrelay_audit::Signer;
use marketrelay_keyring::{DestroyAt, DigestKey, Keyring, Limits, SecretKey};
use marketrelay_snapshot::{FrameError, Manifest, ManifestError, Reader, SignedManifest};
use rusqlite::Connection;
use snafu::{OptionExt, ResultExt, Snafu, ensure};
use tokio_util::sync::CancellationToken;

use super::{StoreError, journal::Erased, open, schema};
use crate::audit;
pub use archive::{Archive, add};
pub use earlier::{Made, leave, made};
pub use left::{Left, left};
use source::Source;
use unfinished::Unfinished;

/// A backup, as it is in a store.
pub struct Backup<'a, R> {
    /// What it says of itself.
    pub manifest: &'a SignedManifest,
    /// The encrypted data.
    pub data: R,
    /// Opens the data: the identity that the manifest names.
    pub identity: &'a age::x25519::Identity,
}

/// The connection's keys of now.
#[derive(Clone, Copy)]
pub struct Keys<'a> {
    /// Opens the personal data, and says who has signed the manifest.
    pub keyring: &'a Keyring,
    /// The customer's.
    pub digest: &'a DigestKey,
    /// Of the new database.
    pub database: &'a SecretKey,
}

/// What is newer than the backup, and holds in its database too.
#[derive(Clone, Copy)]
pub struct Since<'a> {
    /// The journal of whatever is newer, such as the database that it takes the place of.
    pub journal: &'a [Erased],
    /// Requests that were completed.
    pub requests: &'a [PastErasure],
    /// The retention in effect: what they erase is kept away for so long.
    pub limits: Limits,
    /// The highest number of a snapshot that there is: the next one's is above it.
    pub snapshots: u64,
}

/// What an import came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// What the backup says of itself.
    pub manifest: Manifest,
    /// Orders with personal data.
    pub orders: u64,
    /// Orders that lost it, since their time has come after the backup.
    pub anonymised: u64,
    /// Orders that were erased after the backup, and are erased again.
    pub erased: u64,
    /// Orders that holds keep.
    pub held: u64,
}

/// Why a backup can't be imported. Nothing is left of it then.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ImportError {
    #[snafu(display("there is a database in {} already", path.display()))]
    Exists { path: PathBuf },
    #[snafu(display("{source}"))]
    Manifest { source: ManifestError },
    #[snafu(display("the keyring has no audit key to check the manifest's signature with"))]
    NoAuditKey,
    #[snafu(display("the backup is of connection {found}, the keyring of {expected}"))]
    OtherConnection { found: String, expected: String },
    #[snafu(display("the data can't be opened with the identity {name}: is it the one of that name?"))]
    Identity { name: String },
    #[snafu(display("the data isn't encrypted with age, or was altered: {source}"))]
    Encryption { source: age::DecryptError },
    #[snafu(display("{source}"))]
    Data { source: FrameError },
    #[snafu(display("the encrypted data isn't what the manifest says: {found}, it says {said}"))]
    OtherData { found: String, said: String },
    #[snafu(display("the data has {what}, which this program doesn't know: use a newer version of it"))]
    Unknown { what: String },
    #[snafu(display("the data has a row that the database refuses: {source}"))]
    Refused { source: rusqlite::Error },
    #[snafu(display("{table}.{column} isn't what it should be"))]
    Row { table: &'static str, column: &'static str },
    #[snafu(display(
        "the keyring has no key {name}, though its time hasn't come: is it the connection's newest keyring?"
    ))]
    KeyMissing { name: DestroyAt },
    #[snafu(display("personal data in the backup can't be opened: {reason}"))]
    Unreadable { reason: String },
    #[snafu(display("the audit log in the backup ends otherwise than its manifest says"))]
    AuditLog,
    #[snafu(display("it is the archive of a hold, and no backup"))]
    NoBackup,
    #[snafu(display("it isn't the archive of this hold: by its manifest it is of {found}"))]
    OtherHold { found: String },
    #[snafu(display("asked to end"))]
    Stopped,
    #[snafu(display("{source}"), context(false))]
    Store { source: StoreError },
    #[snafu(display("{}: {source}", path.display()))]
    File { path: PathBuf, source: io::Error },
}

impl From<rusqlite::Error> for ImportError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::ConstraintViolation) => Self::Refused { source: error },
            _ => StoreError::from(error).into(),
        }
    }
}

type Result<T, E = ImportError> = std::result::Result<T, E>;

/// Makes the database `path` of a backup. Once `stop` is cancelled it ends soon, if the data does.
pub fn import<R: Read>(
    path: &Path,
    backup: Backup<'_, R>,
    keys: Keys<'_>,
    since: Since<'_>,
    now: Timestamp,
    stop: &CancellationToken,
) -> Result<Imported> {
    let manifest = trusted(backup.manifest, keys.keyring)?;
    ensure!(manifest.hold.is_none(), NoBackupSnafu);
    let unfinished = Unfinished::begin(path)?;
    let mut connection = open::maker(unfinished.path(), keys.database)?;
    schema::migrate_to(&mut connection, usize::try_from(manifest.schema).unwrap_or(usize::MAX))?;
    fill(&connection, &manifest, backup, keys, now)?;
    schema::migrate(&mut connection)?;
    let imported = settle::settle(&connection, manifest, keys, since, now, stop)?;
    connection.close().map_err(|(_, error)| error)?;
    // From here on it has a relay's journal.
    close(open::writer(unfinished.path(), keys.database)?)?;
    unfinished.finish()?;
    Ok(imported)
}

/// The manifest, if the keyring's own relay has signed it.
fn trusted(signed: &SignedManifest, keyring: &Keyring) -> Result<Manifest> {
    let seed = keyring.audit_key().context(NoAuditKeySnafu)?;
    let own = Signer::new(seed.expose()).ok().context(NoAuditKeySnafu)?;
    let manifest = signed.manifest(Some(&own.public_key())).context(ManifestSnafu)?;
    let (found, expected) = (&manifest.connection_id, keyring.connection_id().as_str());
    ensure!(found == expected, OtherConnectionSnafu { found, expected });
    Ok(manifest)
}

/// Everything that the data holds, compared with the manifest.
fn fill<R: Read>(
    connection: &Connection,
    manifest: &Manifest,
    backup: Backup<'_, R>,
    keys: Keys<'_>,
    now: Timestamp,
) -> Result<()> {
    let mut source = Source::new(backup.data);
    let opened = source.open(backup.identity, &manifest.identity)?;
    let mut reader = Reader::new(opened).context(DataSnafu)?;
    reader.check_begin(manifest).context(DataSnafu)?;
    fill::fill(connection, &mut reader, manifest, keys, now)?;
    reader.check(manifest).context(DataSnafu)?;
    drop(reader);
    source.check(&manifest.data)?;
    let (chain, head) = audit::head(connection)?;
    let said = &manifest.audit;
    let is_same = said.chain == chain && said.position() == Some(head);
    ensure!(is_same, AuditLogSnafu);
    Ok(())
}

/// Everything is in the one file.
fn close(connection: Connection) -> Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}
