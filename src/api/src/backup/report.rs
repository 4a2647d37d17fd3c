use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Drilled;

/// What a Job reports when it ends: its pod's termination message. No personal data, below 4 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobReport {
    /// What the store is known by, as [`S3Store::identity`](super::S3Store::identity) has it; absent if it isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The backup that was written and read back; absent from a run that only prunes, and from one that failed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
    /// The archives of holds that were written and read back, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<Archived>,
    /// What the store holds; absent if it could not be listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listing: Option<Listing>,
    /// What a drill has found; absent from every other run, and from one that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drilled: Option<Drilled>,
    /// The escrowed keys that were written and read back; absent from every other run, and from one that failed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escrowed: Option<EscrowedKeys>,
    /// Why it failed; absent if it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Keys that are escrowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EscrowedKeys {
    /// What they are known by.
    pub fingerprint: String,
    /// When the store was listed afterwards.
    pub at: Timestamp,
    /// Older versions of them, and unfinished uploads, that could not be removed: they may hold keys whose time has come.
    /// 0 unless something is wrong.
    pub old_versions: u64,
}

/// A backup that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// Its id.
    pub backup: String,
    /// When its snapshot was taken.
    pub created_at: Timestamp,
    /// When it is pruned.
    pub expires_at: Timestamp,
    /// The snapshot's number: it grows with each one of the connection, at whichever site.
    pub sequence: u64,
    /// Orders in it, with personal data or without.
    pub orders: u64,
    /// Bytes in the store.
    pub bytes: u64,
}

/// An archive of a hold that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Archived {
    /// The hold's id.
    pub hold: String,
    /// The archive's id, in the form of a backup's.
    pub backup: String,
    /// When its snapshot was taken.
    pub created_at: Timestamp,
    /// It has what the hold kept up to this one of the revisions that the relay tells.
    pub revision: u64,
    /// Orders in it.
    pub orders: u64,
}

/// Archives that a report has room for, and a Job writes.
pub const MOST_ARCHIVES: usize = 10;

/// What a listing of the store has found, after pruning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// When it was listed.
    pub at: Timestamp,
    /// Complete backups.
    pub backups: u64,
    /// Complete archives of holds.
    #[serde(default)]
    pub archives: u64,
    /// Bytes of all of them, older versions and unfinished uploads included.
    pub bytes: u64,
    /// When the newest complete backup was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Timestamp>,
    /// When the oldest one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// Backups and archives (all versions and parts) that were pruned by this run.
    pub pruned: u64,
    /// Backups, archives, versions and unfinished uploads that should be gone and are still there: 0 unless something is wrong.
    pub overdue: u64,
    /// Objects under the prefix that are none of ours; they are left alone.
    pub foreign: u64,
    /// Backups and archives whose manifest can't be read, isn't theirs or isn't the relay's. They are pruned by their age.
    #[serde(default)]
    pub damaged: u64,
    /// Ids of the newest backups that a restore may take, the newest first: as many as a report has room for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restorable: Vec<String>,
}

/// Why a Job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// CamelCase and bounded: the condition's reason, such as `StoreUnreachable`.
    pub reason: String,
    /// What happened and what to do.
    pub message: String,
}
