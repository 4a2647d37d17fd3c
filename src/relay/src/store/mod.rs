//! The relay's database: SQLCipher, one writer thread, one reader.

pub mod affected;
pub mod delivery;
pub mod erase;
pub mod generation;
pub mod hold;
pub mod import;
pub mod ingest;
pub mod journal;
pub mod known;
pub(crate) mod open;
pub mod outbox;
mod prepared;
mod read_erased;
mod read_order;
pub mod reduce;
mod remainder;
pub mod reseal;
mod revision;
mod schema;
pub mod snapshot;
pub mod status;
mod thread;

use std::{path::Path, sync::Arc};

use marketrelay_api::relay::paths;
use marketrelay_keyring::{ConnectionId, DigestKey, SealError, SecretKey};
use rusqlite::Connection;
use snafu::Snafu;

use crate::audit;
pub use prepared::Prepared;
use snapshot::Room;
use thread::Thread;

/// Why the database can't be used.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
#[expect(missing_docs, reason = "the messages say it")]
pub enum StoreError {
    #[snafu(display(
        "the database can't be opened with the database key: is it the Secret that it was created with?"
    ))]
    WrongKey,
    #[snafu(display("the volume is full: raise spec.storage.size"))]
    Full,
    #[snafu(display("database: {source}"))]
    Sqlite { source: rusqlite::Error },
    #[snafu(display(
        "the database has schema version {found}, this relay knows versions up to {known}: run a newer relay"
    ))]
    NewerSchema { found: usize, known: usize },
    #[snafu(display("the volume belongs to connection {found}, this is connection {expected}"))]
    OtherConnection { found: String, expected: String },
    #[snafu(display(
        "the keyring doesn't reach the deadline of an order yet: it is extended by the operator"
    ))]
    KeyringTooShort,
    #[snafu(display(
        "the keyring's newest volume key is of generation {found}, but records are under that of generation {sealing} \
         already: the newer keyring is taken as soon as it is mounted"
    ))]
    OlderKeyring { found: u32, sealing: u32 },
    #[snafu(display("an order can't be sealed: {source}"))]
    Seal { source: SealError },
    #[snafu(display("a stored order can't be opened: {reason}"))]
    Unreadable { reason: String },
    #[snafu(display("an order has no form as JSON: {source}"))]
    Render { source: serde_json::Error },
    #[snafu(display("column {column} holds a value that this relay doesn't know"))]
    Value { column: &'static str },
    #[snafu(display(
        "the digest key isn't the one that the database was filled with: no order would be recognised, so nothing is \
         stored until the right one is back"
    ))]
    OtherDigestKey,
    #[snafu(display("the database's write-ahead log is in use and can't be emptied"))]
    LogInUse,
    #[snafu(display("the database's thread has ended"))]
    Ended,
}

impl StoreError {
    /// A bounded name for metrics and conditions.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Full => "StorageFull",
            Self::OtherDigestKey => "DigestKeyInvalid",
            Self::Unreadable { .. } => "KeyringInvalid",
            Self::KeyringTooShort | Self::OlderKeyring { .. } | Self::Seal { .. } => "KeyringTooShort",
            _ => "DatabaseError",
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full,
            Some(rusqlite::ErrorCode::NotADatabase) => Self::WrongKey,
            _ if has_no_room(&source) => Self::Full,
            _ => Self::Sqlite { source },
        }
    }
}

/// The index of the write-ahead log couldn't grow.
fn has_no_room(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}

/// The result of everything here.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Handle of the database; clones share the two threads.
#[derive(Clone)]
pub struct Store {
    writer: Thread,
    reader: Thread,
    room: Arc<Room>,
}

impl Store {
    /// Opens or creates `marketrelay.db` in `folder`, migrates it and checks whose it is.
    pub fn open(folder: &Path, key: &SecretKey, id: &ConnectionId) -> Result<Self> {
        let path = folder.join(paths::DATABASE);
        let mut writing = open::writer(&path, key)?;
        schema::migrate(&mut writing)?;
        open::claim(&writing, id)?;
        audit::begin(&writing)?;
        let reading = open::reader(&path, key)?;
        Ok(Self {
            writer: Thread::start("store-writer", writing)?,
            reader: Thread::start("store-reader", reading)?,
            room: Arc::new(Room::new(path, key.clone())),
        })
    }

    /// Opens the database of a relay that runs, to read only; in a short transaction, since the relay can't empty its
    /// write-ahead log meanwhile.
    pub fn beside(folder: &Path, key: &SecretKey, id: &ConnectionId) -> Result<Connection> {
        let reading = open::reader(&folder.join(paths::DATABASE), key)?;
        open::check(&reading, id)?;
        Ok(reading)
    }

    /// Runs `job` in the writer's thread, in one transaction that is rolled back if it fails.
    pub async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer
            .run(move |connection| {
                let transaction =
                    connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
                let value = job(&transaction)?;
                transaction.commit()?;
                Ok(value)
            })
            .await
    }

    /// Runs `job` in the reader's thread, on one state of the database.
    pub async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.reader
            .run(move |connection| {
                let transaction = connection.transaction()?;
                job(&transaction)
            })
            .await
    }

    /// Notes the digest key at its first use; another one later is an error, since every order would be stored twice.
    pub async fn claim_digest_key(&self, key: &DigestKey) -> Result<()> {
        let check = open::digest_check(key);
        self.write(move |connection| open::claim_digest_key(connection, check)).await
    }

    /// Moves the write-ahead log into the database and empties it. False if a reader is in the way; then nothing is lost,
    /// and it can be tried again.
    pub async fn truncate_log(&self) -> Result<bool> {
        if self.room.is_taken() {
            return Ok(false);
        }
        self.writer
            .run(|connection| {
                let busy = "PRAGMA wal_checkpoint(TRUNCATE)";
                Ok(connection.query_row(busy, [], |row| row.get::<_, i64>(0))? == 0)
            })
            .await
    }

    /// Moves the write-ahead log into the database and closes it.
    pub async fn close(self) -> Result<()> {
        self.room.close().await;
        self.reader.close().await?;
        self.writer
            .run(|connection| {
                connection.pragma_query(None, "wal_checkpoint", |_| Ok(()))?;
                Ok(())
            })
            .await?;
        self.writer.close().await
    }
}
