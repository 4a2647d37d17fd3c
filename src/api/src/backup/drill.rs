use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{PastErasures, SiteStore};
use crate::relay::Retention;

/// The configuration file of a Job that drills: it restores the newest backup of a site into a database of its own, and
/// checks that. An unknown field is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrillConfig {
    /// The connection's identity.
    pub connection_id: String,
    /// Its namespace, for logs.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which site, and its store.
    pub site: SiteStore,
    /// The relay's public key, Ed25519, hex: only what it has signed is a backup.
    pub public_key: String,
    /// The audit log of the database that counts: backups of it are taken, and others only if there is none of it. Absent: it
    /// isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// The retention in effect.
    pub retention: Retention,
    /// A newest backup that is older than this, in seconds, fails the drill.
    pub oldest_seconds: i64,
    /// What was erased, so that it is seen to be gone; in [a file of its own](super::paths::ERASURES).
    #[serde(skip)]
    pub erasures: PastErasures,
}

/// A drill that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drilled {
    /// The backup's id.
    pub backup: String,
    /// When its snapshot was taken.
    pub created_at: Timestamp,
    /// When the drill ended.
    pub at: Timestamp,
    /// How long it took from the listing to the checked database, in whole seconds: what a restore takes.
    pub seconds: u64,
    /// Orders whose personal data was opened.
    pub opened: u64,
    /// Orders whose personal data can't be opened any more, since their time has come.
    pub anonymised: u64,
    /// Orders that were erased after the backup, and are gone after a restore.
    pub erased: u64,
    /// Rows that agree with the signed manifest.
    pub rows: u64,
}
