//! Making the relay's database of a backup: what is asked for, and what has become of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::JobResult;
use crate::{backup::Site, moment::Moment};

/// A restore on purpose. It is done once for a value: the last one that was restored is remembered, also when the field is removed
/// or when another one that couldn't be restored gives way to it. What is written here afterwards is another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.backup) != has(self.before)")
    .message("name the backup in exactly one way: backup (its id, as marketrelay-backup list shows it) or before (a time: the newest one of then)"))]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// The id of the backup, such as 20261129T003250Z-5f0c1a2b.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$')")
        .message("backup must be a backup's id such as 20261129T003250Z-5f0c1a2b: marketrelay-backup list shows them"))]
    pub backup: Option<String>,
    /// The newest backup that was taken at this time or before it, at whichever site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Moment>,
    /// The connection's id (status.connectionId). What the present database has and the backup hasn't is lost, but for what the
    /// marketplace tells again and for erasures.
    #[schemars(length(max = 253))]
    pub confirm: String,
}

/// The last restore, or the one under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreStatus {
    /// When it began. The relay is at rest from then on until it has ended.
    pub since: Time,
    /// Why.
    pub cause: RestoreCause,
    /// The last value of spec.restore that was taken up, and isn't again. It stays beside a later restore that has another cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Restore>,
    /// The last value of spec.restore that was restored. It isn't again where one that wasn't is withdrawn in its favour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Restore>,
    /// How many Jobs have failed.
    #[serde(default)]
    pub failures: i64,
    /// The last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<JobResult>,
    /// When it ended, with `restored` if a backup was; else the relay goes on with the database that it has. Absent: it is under
    /// way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// What was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<RestoredBackup>,
}

/// Why a database is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestoreCause {
    /// The relay has found none on its volume, though the connection had one.
    VolumeEmpty,
    /// spec.restore asks for it.
    Asked,
}

/// A backup that became the relay's database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoredBackup {
    /// Its id.
    pub backup: String,
    /// Where it was.
    pub site: Site,
    /// When it was taken. What the marketplace has told since is collected again.
    pub taken_at: Time,
    /// Orders with personal data.
    pub orders: i64,
    /// Orders that lost it, since their time has come after the backup.
    pub anonymised: i64,
    /// Orders that were erased after the backup, and are erased again.
    pub erased: i64,
    /// Orders that holds keep.
    pub held: i64,
    /// What came first and could not be used, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<String>,
}
