//! What operator, relay and the Jobs of backups say to each other: a Job's configuration file, the mounted paths, and what
//! a Job reports when it ends.

mod drill;
pub mod fingerprint;
mod job;
pub mod paths;
mod purge;
mod report;
mod restore;

pub use drill::{DrillConfig, Drilled};
pub use job::{JobConfig, LiveHold, S3Store, Site};
pub use purge::{BackupsLeft, Expiry, Goes, PurgeConfig, PurgeListing, PurgeReport, PurgeStore, StorePurge};
pub use report::{Archived, EscrowedKeys, Failure, JobReport, Listing, MOST_ARCHIVES, Written};
pub use restore::{
    AuditHead, Choice, PastErasure, PastErasures, RestoreConfig, RestoreReport, Restored, SiteStore,
};

use serde::{Deserialize, Serialize};

/// The body of the relay's `POST /v1/snapshot`. The answer is a snapshot as docs/backup-format.md describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotRequest {
    /// The id of the backup that it becomes, such as `20261129T003250Z-5f0c1a2b`.
    pub backup: String,
    /// Where it goes, for the audit log.
    pub site: Site,
    /// The id of a hold, 64 hex digits: the answer is its archive, with what it keeps and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
}
