//! `ConnectionRecord`: what the operator remembers of a connection in its own namespace, and the proof of its closure.

mod stores;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, rules};
pub use stores::{LeftBackups, PurgedStore, RecordStore, StoreFailure, StoreListing, Unused};

/// Where a connection is, and once it is closed, the proof of what was destroyed. Made by the operator in its own
/// namespace, named after the connection's id; it outlives the connection and holds no personal data.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "marketrelay.dev",
    version = "v1alpha1",
    kind = "ConnectionRecord",
    plural = "connectionrecords",
    shortname = "connrec",
    category = "marketrelay",
    namespaced,
    status = "ConnectionRecordStatus",
    derive = "PartialEq",
    doc = "Where a connection is, and once it is closed, the proof of what was destroyed. Made by the operator in its own namespace, named after the connection's id; holds no personal data.",
    validation = rules::record_confirmation(),
    validation = rules::known_stores(),
    printcolumn(name = "Tenant", type_ = "string", json_path = ".spec.namespace"),
    printcolumn(name = "Connection", type_ = "string", json_path = ".spec.connection"),
    printcolumn(name = "Marketplace", type_ = "string", json_path = ".spec.marketplace"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Cause", type_ = "string", json_path = ".status.closure.cause"),
    printcolumn(name = "Keys gone", type_ = "date", json_path = ".status.closure.keysDestroyedAt"),
    printcolumn(name = "Closed", type_ = "date", json_path = ".status.closure.closedAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[x_kube(validation = Rule::new(
    "self.__namespace__ == oldSelf.__namespace__ && self.connection == oldSelf.connection && self.marketplace == oldSelf.marketplace && self.volume == oldSelf.volume")
    .message("a record is about one connection for good: only closure and abandonStores may be set"))]
#[serde(rename_all = "camelCase")]
pub struct ConnectionRecordSpec {
    /// The namespace of the connection.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// The connection's name.
    #[schemars(length(max = 63))]
    pub connection: String,
    /// amazon, ebay or bol.
    #[schemars(length(max = 63))]
    pub marketplace: String,
    /// The name of the volume claim.
    #[schemars(length(max = 63))]
    pub volume: String,
    /// Closes the account, also of a connection that was deleted and retained, and also one that waits for it because many
    /// closures began within an hour or holds keep orders of it. Keys die at once, and volume and children go; this can't be undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closure: Option<RecordClosure>,
    /// The ids, as in status.stores, of stores that are gone for good. One that the connection has left, or that a closure purges,
    /// is given up once it was tried in vain or can't be tried: what is in it stays there, and what was escrowed of the keys there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub abandon_stores: Vec<String>,
}

/// The confirmation of an account's closure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Closure {
    /// The connection's id, as in status.connectionId and in the name of its ConnectionRecord.
    #[schemars(length(max = 253))]
    pub confirm: String,
}

/// The confirmation of an account's closure on its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordClosure {
    /// The connection's id, which is the record's own name.
    #[schemars(length(max = 253))]
    pub confirm: String,
    /// true: a store that can't be purged holds the closure up no longer. What is in it stays there, and what was
    /// escrowed of the keys there; otherwise it is unreadable since its keys are destroyed. The proof says so.
    #[serde(default)]
    pub abandon_stores: bool,
}

/// What the operator has found and done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionRecordStatus {
    /// Active, Retained (the connection is deleted, its data and keys are still there), AwaitingConfirmation (many closures began
    /// within an hour, or holds keep orders of the account, and this one waits for spec.closure), Closing or Closed.
    #[serde(default)]
    pub phase: RecordPhase,
    /// Since when, unless it has been so from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// What the phase means, and what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The stores that the connection's backups are in, or were; the one that was used first is the first, at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub stores: Vec<RecordStore>,
    /// How many Jobs that withdraw escrowed keys from stores that were left have ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub withdraw_attempts: i64,
    /// How long backups are kept, as it was in force last: so long those stay that are in stores that were left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_retention: Option<Duration>,
    /// How many Jobs that prune stores that were left have ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prune_attempts: i64,
    /// The closure, from its beginning on, and its proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closure: Option<ClosureProof>,
}

/// How far a connection is on its way.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum RecordPhase {
    /// It exists.
    #[default]
    Active,
    /// It is deleted, and what it stored is still there.
    Retained,
    /// Its closure waits for a confirmation on the record.
    AwaitingConfirmation,
    /// It is being closed. There is no way back.
    Closing,
    /// Nothing of it is left.
    Closed,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClosureCause {
    /// `spec.closure.confirm` of the connection.
    ConnectionConfirmed,
    /// `spec.closure.confirm` of the record.
    RecordConfirmed,
    /// Its namespace was deleted, and its keys with it.
    NamespaceDeleted,
    /// Its retained keys and volume were deleted by hand.
    DataDeleted,
}

/// What was destroyed, when, and that nothing is left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClosureProof {
    /// ConnectionConfirmed, RecordConfirmed, NamespaceDeleted or DataDeleted.
    pub cause: ClosureCause,
    /// When it began.
    pub began_at: Time,
    /// When no key was left: from then on no copy of the data can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_destroyed_at: Option<Time>,
    /// When nothing was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Time>,
    /// Everything that was found, and when each was seen to be gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub objects: Vec<ClosedObject>,
    /// The stores of its backups, and when a listing of each found nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub stores: Vec<PurgedStore>,
    /// How many Jobs that purge stores have ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub purge_attempts: i64,
    /// The last look, which found nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listing: Option<Listing>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// An object of the connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClosedObject {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// How many keys a key Secret held, its other entries included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_count: Option<i64>,
    /// The names of the entries of a key Secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub entries: Vec<String>,
    /// When it was seen to be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_at: Option<Time>,
}

/// A look at everything that could be left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// When.
    pub at: Time,
    /// In this namespace.
    pub namespace: String,
    /// Whether the namespace still existed; in one that doesn't there is nothing to list.
    pub namespace_exists: bool,
    /// Objects with these labels.
    pub selector: String,
    /// Of these kinds.
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub kinds: Vec<String>,
    /// How many there were.
    pub found: i64,
}
