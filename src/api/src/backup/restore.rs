use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Failure, S3Store, Site};
use crate::{SubjectDigest, relay::Retention};

/// The configuration file of a Job that makes a volume's database of a backup. An unknown field is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreConfig {
    /// The connection's identity.
    pub connection_id: String,
    /// Its namespace, for logs.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where its backups are, at least one; of equally new ones the first site's is taken.
    pub sites: Vec<SiteStore>,
    /// Sites that have backups too, and whose stores can't be used: what isn't at the others may be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Site>,
    /// Which backup.
    pub choice: Choice,
    /// The relay's public key, Ed25519, hex: only what it has signed is a backup.
    pub public_key: String,
    /// The audit log of the database that counts: backups of it are taken, and others only if there is none of it. Absent: it
    /// isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// The retention in effect.
    pub retention: Retention,
    /// A database that is there gives way, and is kept as [`paths::REPLACED`](super::paths::REPLACED). Otherwise it stays, and the Job fails.
    pub replace: bool,
    /// What was erased, so that it is erased again; in [a file of its own](super::paths::ERASURES).
    #[serde(skip)]
    pub erasures: PastErasures,
}

/// A site's store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteStore {
    /// Which site.
    pub site: Site,
    /// Where its backups are.
    pub store: S3Store,
}

/// Which backup is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Choice {
    /// The newest good one; one that can't be used gives way to the next.
    Newest,
    /// This one alone.
    Backup(String),
    /// The newest good one that was taken at this time or before it.
    Before(Timestamp),
}

/// Erasures that a backup may not know of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PastErasures {
    /// By the requests' uids.
    pub requests: Vec<PastErasure>,
    /// There were more until then than there is room for: a backup that was taken before would bring back what they erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// An erasure that was completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PastErasure {
    /// The request's uid: a database that knows it has done it.
    pub uid: String,
    /// Whom or what it erased.
    pub subject: Vec<SubjectDigest>,
}

/// What a Job that restores reports when it ends: its pod's termination message. No personal data, below 4 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreReport {
    /// What was restored; absent if it failed, and then the volume is as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
    /// Why it failed; absent if it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// The backup's id.
    pub backup: String,
    /// Where it was.
    pub site: Site,
    /// When its snapshot was taken.
    pub created_at: Timestamp,
    /// The snapshot's number.
    pub sequence: u64,
    /// Orders with personal data.
    pub orders: u64,
    /// Orders that lost it, since their time has come after the backup.
    pub anonymised: u64,
    /// Orders that were erased after the backup, and are erased again.
    pub erased: u64,
    /// Orders that holds keep.
    pub held: u64,
    /// The end of the audit log as the backup's manifest has it, which the restored one continues.
    pub audit: AuditHead,
    /// Sites and backups that came first and could not be used, at most three, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<String>,
}

/// The end of an audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditHead {
    /// The log's id.
    pub chain: String,
    /// The number of the last record.
    pub sequence: u64,
    /// Its hash, hex.
    pub hash: String,
}
