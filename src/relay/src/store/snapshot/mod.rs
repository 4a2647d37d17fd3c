//! A snapshot: a consistent state of the database, sealed and encrypted for a backup, as docs/backup-format.md describes it.

mod pieces;
mod rows;
pub(super) mod tables;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use marketrelay_api::backup::Site;
use marketrelay_audit::{Kind, Signer};
use marketrelay_keyring::{BackupKey, DestroyAt, HoldId, HoldKey, Keyring, Recipient, SecretKey};
use marketrelay_snapshot::{
    Begin, Data, FORMAT, FrameError, Manifest, ManifestError, OfHold, SignedManifest, Writer, compress,
};
use rusqlite::{Connection, OptionalExtension};
use snafu::{OptionExt, ResultExt, Snafu};
use tokio::{
    io::DuplexStream,
    runtime::Handle,
    sync::{Semaphore, oneshot, watch},
    time::Instant,
};

use super::{Store, StoreError, open};
use crate::{
    audit::{self, Action, Actor, Deed},
    clock::Clock,
    mounts::Mounted,
};
use pieces::Pieces;
use rows::Rows;

/// A snapshot that takes longer is given up, as the write-ahead log can't be emptied meanwhile. A connection to the admin
/// API lives a minute longer.
pub const LONGEST: Duration = Duration::from_mins(9);
/// Bytes that wait for who reads.
const BUFFER: usize = 128 * 1024;

/// Which snapshot is asked for.
pub struct Request {
    /// The id of the backup that it becomes.
    pub backup: String,
    /// Where that goes.
    pub site: Site,
    /// Whose it is.
    pub connection: About,
    /// What is in it.
    pub scope: Scope,
    /// What it is encrypted to.
    pub recipient: Recipient,
    /// The mounted keyring.
    pub keyring: watch::Receiver<Mounted<Keyring>>,
    /// Signs the manifest.
    pub signer: Arc<Signer>,
    /// The time.
    pub clock: Clock,
    /// It is given up after this.
    pub longest: Duration,
}

/// What is in a snapshot.
#[derive(Clone, Debug)]
pub enum Scope {
    /// The whole database; opened by the identity of this name.
    Everything(BackupKey),
    /// What a hold keeps; opened by the identity that follows from this key of it.
    Hold(HoldKey, HoldId),
}

impl Scope {
    /// When what opens it is destroyed.
    fn destroy_at(&self) -> DestroyAt {
        match self {
            Self::Everything(key) => key.destroy_at(),
            Self::Hold(key, _) => key.destroy_at(),
        }
    }

    /// What opens it, by the name of an entry of a key Secret.
    fn opened_by(&self) -> String {
        match self {
            Self::Everything(key) => key.to_string(),
            Self::Hold(key, _) => key.to_string(),
        }
    }
}

/// A connection, as a manifest names it.
#[derive(Clone)]
pub struct About {
    /// Its identity.
    pub connection_id: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// amazon, ebay or bol.
    pub marketplace: &'static str,
}

/// Why there is no snapshot.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SnapshotError {
    #[snafu(display("another snapshot is being taken: try again when it has ended"))]
    Running,
    #[snafu(display("the keyring can't be used: {reason}"))]
    Keyring { reason: String },
    #[snafu(display("the relay doesn't keep anything for this hold yet, or not any more"))]
    NoHold,
    #[snafu(display("{source}"), context(false))]
    Store { source: StoreError },
    #[snafu(display("{source}"))]
    Frame { source: FrameError },
    #[snafu(display("the manifest can't be written: {source}"))]
    Signing { source: ManifestError },
    #[snafu(display("the snapshot can't be encrypted: {source}"))]
    Encrypt { source: age::EncryptError },
    #[snafu(display("the snapshot wasn't taken in full: {source}"))]
    Sending { source: io::Error },
    #[snafu(display("a thread can't be started: {source}"))]
    Thread { source: io::Error },
    #[snafu(display("the snapshot's thread has ended"))]
    Ended,
}

impl From<rusqlite::Error> for SnapshotError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::from(error).into()
    }
}

type Result<T, E = SnapshotError> = std::result::Result<T, E>;

/// The room for one snapshot at a time, and what it needs to open the database.
pub(super) struct Room {
    path: PathBuf,
    key: SecretKey,
    free: Arc<Semaphore>,
}

impl Room {
    pub(super) fn new(path: PathBuf, key: SecretKey) -> Self {
        Self { path, key, free: Arc::new(Semaphore::new(1)) }
    }

    /// A snapshot reads, and the write-ahead log can't be emptied.
    pub(super) fn is_taken(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// No more snapshots, once the one that runs has ended.
    pub(super) async fn close(&self) {
        let last = self.free.acquire().await;
        self.free.close();
        drop(last);
    }
}

/// A snapshot that was begun.
pub struct Snapshot {
    /// The container's bytes; without its manifest it is none.
    pub bytes: DuplexStream,
    /// What became of it, once there are no more bytes.
    pub outcome: oneshot::Receiver<Result<()>>,
}

impl Store {
    /// Begins a snapshot, unless there is one already, in a thread of its own with a connection of its own. It ends when the
    /// bytes aren't read any more, and when its time is over.
    pub async fn snapshot(&self, request: Request) -> Result<Snapshot> {
        let room = self.room.clone();
        let permit = room.free.clone().try_acquire_owned().map_err(|_| SnapshotError::Running)?;
        let now = request.clock.now();
        let object = match &request.scope {
            Scope::Everything(_) => format!("{} {}", request.backup, request.site),
            Scope::Hold(key, _) => format!("{} {} {}", request.backup, request.site, key.name()),
        };
        let sequence = self.write(move |connection| begin(connection, object, now)).await?;
        let (to, bytes) = tokio::io::duplex(BUFFER);
        let pieces = Pieces::new(to, Handle::current(), Instant::now() + request.longest);
        let (report, outcome) = oneshot::channel();
        let run = move || {
            let taken = take(&room, &request, sequence, now, pieces);
            if let Err(error) = &taken {
                tracing::warn!(backup = request.backup, %error, "no snapshot");
            }
            // The database's connection is closed: the log can be emptied again.
            drop(permit);
            drop(report.send(taken));
        };
        std::thread::Builder::new().name("snapshot".to_owned()).spawn(run).context(ThreadSnafu)?;
        Ok(Snapshot { bytes, outcome })
    }
}

/// Counts and records the snapshot; its number.
fn begin(connection: &Connection, object: String, now: Timestamp) -> super::Result<u64> {
    let sequence = connection.query_row(
        "UPDATE relay SET snapshots = snapshots + 1 RETURNING snapshots",
        [],
        |row| row.get(0),
    )?;
    audit::append(connection, &Deed::new(Action::SnapshotTaken, Actor::Operator, object), now)?;
    Ok(sequence)
}

/// Reads one state of the database to its end.
fn take(room: &Room, request: &Request, sequence: u64, now: Timestamp, to: Pieces) -> Result<()> {
    let mut connection = open::reader(&room.path, &room.key)?;
    let transaction = connection.transaction()?;
    let hold = hold(&transaction, &request.scope)?;
    let (hold, archived) = hold.unzip();
    let mut manifest = describe(&transaction, request, sequence, now)?;
    manifest.hold = archived;
    let recipient: &dyn age::Recipient = &request.recipient;
    let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient)).context(EncryptSnafu)?;
    let encrypted = encryptor.wrap_output(to).context(SendingSnafu)?;
    let compressed = compress(encrypted).context(SendingSnafu)?;
    let begin = Begin {
        backup: manifest.backup.clone(),
        connection_id: manifest.connection_id.clone(),
        schema: manifest.schema,
    };
    let mut writer = Writer::new(compressed, &begin).context(FrameSnafu)?;
    let rows = Rows { connection: &transaction, keyring: &request.keyring, clock: &request.clock, hold };
    rows.write(&mut writer)?;
    let (compressed, tables) = writer.finish().context(FrameSnafu)?;
    let encrypted = compressed.finish().context(SendingSnafu)?;
    let mut to = encrypted.finish().context(SendingSnafu)?;
    manifest.tables = tables;
    manifest.data = to.finish().context(SendingSnafu)?;
    let signed = SignedManifest::sign(&manifest, &request.signer).and_then(|signed| signed.to_json());
    to.end(&signed.context(SigningSnafu)?).context(SendingSnafu)?;
    let Manifest { backup, data, .. } = &manifest;
    tracing::info!(backup, site = %request.site, sequence, bytes = data.bytes, "a snapshot was taken");
    Ok(())
}

/// The row of the hold whose archive is made, and what its manifest says of it.
fn hold(connection: &Connection, scope: &Scope) -> Result<Option<(i64, OfHold)>> {
    let Scope::Hold(_, id) = scope else { return Ok(None) };
    let row = connection
        .query_row("SELECT id, kept_at FROM holds WHERE key_id = ?1", [id.as_bytes()], |row| {
            Ok((row.get(0)?, OfHold { id: id.to_string(), revision: row.get(1)? }))
        })
        .optional()?;
    row.context(NoHoldSnafu).map(Some)
}

/// The manifest, but for what is known at the end.
fn describe(connection: &Connection, request: &Request, sequence: u64, now: Timestamp) -> Result<Manifest> {
    let schema = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known_until: Option<i64> =
        connection.query_row("SELECT known_until FROM relay", [], |row| row.get(0))?;
    let (chain, head) = audit::head(connection)?;
    let About { connection_id, namespace, name, marketplace } = request.connection.clone();
    let expires_at = Timestamp::from_second(request.scope.destroy_at().as_second());
    let keys = match request.scope {
        Scope::Everything(_) => rows::keys(connection, now)?,
        Scope::Hold(..) => Vec::new(),
    };
    Ok(Manifest {
        format: FORMAT,
        backup: request.backup.clone(),
        connection_id,
        namespace,
        name,
        marketplace: marketplace.to_owned(),
        schema,
        created_at: now,
        known_until: known_until.and_then(|at| Timestamp::from_millisecond(at).ok()),
        expires_at: expires_at.unwrap_or(now),
        identity: request.scope.opened_by(),
        sequence,
        keys,
        tables: Vec::new(),
        data: Data { bytes: 0, sha256: String::new() },
        audit: request.signer.sign(Kind::Head, &chain, head, now),
        hold: None,
    })
}
