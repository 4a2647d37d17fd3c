use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Failure, LiveHold, S3Store};

/// The configuration file of a Job that deletes everything of a closed connection in its stores, or in those that a connection
/// has left what is escrowed there or backups whose time has come. An unknown field is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PurgeConfig {
    /// The connection's identity.
    pub connection_id: String,
    /// Its namespace, for logs.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What goes.
    pub goes: Goes,
    /// Every store that it has used and that isn't purged yet.
    pub stores: Vec<PurgeStore>,
}

/// What goes from a store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Goes {
    /// All that there is of a closed connection.
    Everything,
    /// The escrowed keys alone.
    Escrow,
    /// Backups whose time has come, and archives of holds that have ended.
    Expired(Expiry),
}

/// When the time of backups and archives has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expiry {
    /// The relay's public key, Ed25519, hex, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// No backup may be older than this, in seconds.
    pub backup_retention_seconds: i64,
    /// The longest time until the next Job, in seconds: what expires before it goes now.
    pub interval_seconds: i64,
    /// The holds whose keys there are: archives of others go. Absent: that isn't known, and no archive goes by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<Vec<LiveHold>>,
}

/// A store that is purged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PurgeStore {
    /// What it is known by: its credentials are the entries `ID.accessKeyId`, `ID.secretAccessKey` and, if there is one,
    /// `ID.sessionToken` of [`paths::STORES`](super::paths::STORES).
    pub id: String,
    /// Where it is.
    pub store: S3Store,
}

/// What a Job that purges reports when it ends: its pod's termination message. No personal data, below 4 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PurgeReport {
    /// Of each store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stores: Vec<StorePurge>,
    /// Why it could not begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl PurgeReport {
    /// Whether nothing is left anywhere that should be gone.
    pub fn is_clean(&self) -> bool {
        self.failure.is_none() && self.stores.iter().all(|store| store.failure.is_none())
    }
}

/// What was done with a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorePurge {
    /// As in [`PurgeStore`].
    pub id: String,
    /// Versions, delete markers and unfinished uploads that were deleted; of expired ones the backups and archives.
    pub deleted: u64,
    /// The look after that; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listing: Option<PurgeListing>,
    /// Why something is left that should be gone, or may be; absent: nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// A look at everything of the connection in a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PurgeListing {
    /// When.
    pub at: Timestamp,
    /// Versions, delete markers and unfinished uploads that are ours.
    pub found: u64,
    /// Objects that are named otherwise; they are left alone.
    pub foreign: u64,
    /// What they are, where those stay whose time hasn't come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<BackupsLeft>,
}

/// Backups whose time hasn't come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupsLeft {
    /// Complete ones.
    pub count: u64,
    /// Complete archives of holds.
    pub archives: u64,
    /// When the newest was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Timestamp>,
    /// When the oldest was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// When the next of them must be gone, complete or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// What should be gone and is still there: 0 unless something is wrong.
    pub overdue: u64,
}
