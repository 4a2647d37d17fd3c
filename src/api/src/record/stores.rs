//! The stores of a connection's backups: where they are, and that nothing of the connection is left in them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::backup::{S3Store, Site};

/// A store that the connection's backups are or were in. A copy of its credentials is in the Secret ID-stores of this namespace,
/// where ID is the connection's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordStore {
    /// What the entries with its credentials begin with, before a dot: accessKeyId, secretAccessKey and, if there is one,
    /// sessionToken.
    #[schemars(length(max = 63))]
    pub id: String,
    /// onSite or offSite.
    pub site: Site,
    /// Where it is. Absent: AWS, by the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub endpoint: Option<Url>,
    /// The bucket.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// Everything of the connection is under this and a slash.
    pub prefix: String,
    /// The bucket is in the path instead of in the host name.
    pub path_style: bool,
    /// Since when the connection doesn't use it any more, or is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_at: Option<Time>,
    /// When a listing of it found no escrowed keys of the connection any more; only of an off-site store that was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escrow_withdrawn_at: Option<Time>,
    /// Why what may be escrowed there could not be withdrawn, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escrow_failure: Option<StoreFailure>,
    /// What the last listing found of the connection's backups; only of a store that was left. It is pruned daily until there
    /// are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<LeftBackups>,
    /// Why it could not be pruned, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune_failure: Option<StoreFailure>,
    /// As long as nothing can have been written there: every Job that wanted to has told that there is no such bucket. Absent:
    /// something may have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused: Option<Unused>,
    /// When a store that was left, and that nothing can have been written into, said once more that there is no such bucket:
    /// nothing is tried there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never_used_at: Option<Time>,
    /// When it was given up, since spec.abandonStores names it: what was there may still be, and nothing is tried there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandoned_at: Option<Time>,
    /// It was given up before and is used again since: that spec.abandonStores names it counts again once it was taken out there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given_up_before: bool,
}

/// What is known of a store that nothing was written into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unused {
    /// Since when it is known.
    pub since: Time,
    /// The uids of the Jobs that may be writing there, and haven't told yet how they ended. One that goes without a word may
    /// have written something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub jobs: Vec<String>,
}

/// What is left of a connection's backups in a store that it doesn't use any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeftBackups {
    /// When it was listed: all versions, delete markers and unfinished uploads.
    pub at: Time,
    /// How many of them there were of backups and archives of holds. 0 and no nextAt: nothing is left, and nothing more runs.
    pub left: i64,
    /// Complete backups.
    pub count: i64,
    /// Complete archives of holds; they stay as long as their hold.
    pub archives: i64,
    /// When the newest backup was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Time>,
    /// When the oldest one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Time>,
    /// What should be gone and is still there: 0 unless something is wrong.
    pub overdue: i64,
    /// Objects that are named otherwise than what marketrelay writes, and are left alone.
    pub foreign: i64,
    /// Backups and archives that were pruned since the store was left.
    pub pruned: i64,
    /// When it is pruned next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Time>,
}

impl RecordStore {
    /// Whether nothing is to be done any more with it as one that was left.
    pub fn is_settled(&self) -> bool {
        self.never_used_at.is_some() || self.abandoned_at.is_some()
    }

    /// As a Job has it.
    pub fn s3(&self, ca_certificates: &str) -> S3Store {
        S3Store {
            endpoint: self.endpoint.clone(),
            bucket: self.bucket.clone(),
            region: self.region.clone(),
            prefix: self.prefix.clone(),
            path_style: self.path_style,
            ca_certificates: ca_certificates.to_owned(),
        }
    }
}

/// What has become of a store of a closed connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PurgedStore {
    /// onSite or offSite.
    pub site: Site,
    /// Where it is: endpoint, bucket and the connection's prefix.
    pub store: String,
    /// As in status.stores.
    pub id: String,
    /// When a listing of it first found nothing of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged_at: Option<Time>,
    /// When it said that there is no such bucket, though nothing can have been written there before: nothing of the connection
    /// ever was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never_used_at: Option<Time>,
    /// When it was given up, since spec.closure.abandonStores is true or spec.abandonStores names it: what was there may still
    /// be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandoned_at: Option<Time>,
    /// Versions, delete markers and unfinished uploads that were deleted, by all attempts.
    #[serde(default)]
    pub deleted: i64,
    /// The last listing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listing: Option<StoreListing>,
    /// Why it could not be purged, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<StoreFailure>,
}

impl PurgedStore {
    /// Whether nothing is to be done with it any more.
    pub fn is_done(&self) -> bool {
        self.purged_at.is_some() || self.never_used_at.is_some() || self.abandoned_at.is_some()
    }
}

/// A listing of everything of the connection in a store: all versions, delete markers and unfinished uploads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreListing {
    /// When.
    pub at: Time,
    /// How many there were.
    pub found: i64,
    /// Objects that are named otherwise than what marketrelay writes, and were left alone.
    pub foreign: i64,
}

/// A store could not be purged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreFailure {
    /// CamelCase, such as StoreRefused or ObjectLocked.
    pub reason: String,
    /// What happened, and what to do.
    pub message: String,
    /// When.
    pub at: Time,
}
