use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Failure, S3Store};

/// The configuration file of a Job that deletes everything of a closed connection in its stores, or what is escrowed in those
/// that a connection has left. An unknown field is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PurgeConfig {
    /// The connection's identity.
    pub connection_id: String,
    /// Its namespace, for logs.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Only the escrowed keys go, and backups stay.
    #[serde(default)]
    pub escrow_only: bool,
    /// Every store that it has used and that isn't purged yet.
    pub stores: Vec<PurgeStore>,
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
    /// Whether nothing is left anywhere.
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
    /// Versions, delete markers and unfinished uploads that were deleted.
    pub deleted: u64,
    /// The look after that; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listing: Option<PurgeListing>,
    /// Why something is left, or may be; absent: nothing is.
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
}
