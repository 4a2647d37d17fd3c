//! `ErasureRequest`: a person asks to be forgotten.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, connection::SecretRef, digest::SubjectDigest, rules};

/// Erases the personal data of an order or a buyer from every connection of the namespace, and tells the destinations.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "marketrelay.dev",
    version = "v1alpha1",
    kind = "ErasureRequest",
    plural = "erasurerequests",
    shortname = "erasure",
    category = "marketrelay",
    namespaced,
    status = "ErasureRequestStatus",
    derive = "PartialEq",
    doc = "Erases the personal data of an order or a buyer from the namespace's connections, and tells their destinations.",
    printcolumn(
        name = "Complete",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Complete\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Complete\")].reason"
    ),
    printcolumn(name = "Matched", type_ = "integer", json_path = ".status.matched"),
    printcolumn(name = "Erased", type_ = "integer", json_path = ".status.erased"),
    printcolumn(name = "Held", type_ = "integer", json_path = ".status.held"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Complete\")].message",
        priority = 1
    )
)]
#[x_kube(validation = Rule::new("self == oldSelf")
    .message("a request can't be changed once it is made: delete it and make a new one"))]
#[serde(rename_all = "camelCase")]
pub struct ErasureRequestSpec {
    /// Whom or what to erase, without naming anybody in this object.
    pub subject: Subject,
    /// Names of MarketplaceConnections in the same namespace. Empty: every connection of the namespace.
    #[serde(default)]
    #[schemars(length(max = 500), inner(length(max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = rules::connection_names())]
    pub connections: Vec<String>,
    /// How long this object stays after it is complete, or until sealedCopiesUntil if that is later: a backup that is restored
    /// until then is erased in again. Then it is deleted. What was erased stays erased.
    #[serde(default = "days_30")]
    pub ttl_after_completion: Duration,
}

/// Whom or what to erase. Exactly one of digests and secretRef.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.digests) != has(self.secretRef)")
    .message("name the subject in exactly one way: digests or secretRef; a name, an address or an order number never belongs into this object"))]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Keyed digests under the namespace's digest key: `order:` or `buyer:` and 64 hex digits; 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub digests: Option<Vec<SubjectDigest>>,
    /// A Secret with the plaintext, which the operator turns into digests and deletes at once. Entries, one value per line, 100
    /// in all: `orderNumbers`, `emails`, `usernames` (eBay). Each is looked for at all three marketplaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

fn days_30() -> Duration {
    Duration::days(30)
}

/// How far the erasure is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErasureRequestStatus {
    /// The generation of the spec that the rest of the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Complete, with a reason and a message that says what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// What the Secret in spec.subject.secretRef was turned into; kept until the request is complete and no copy is
    /// left that could hold what it erased (sealedCopiesUntil).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 300))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub digests: Vec<SubjectDigest>,
    /// The Secret that the digests were made of, so that no other one is deleted; kept until the request is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_secret: Option<SubjectSecret>,
    /// Orders that the subject was found in, so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<i64>,
    /// Of them, orders whose personal data was erased by this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<i64>,
    /// Of those found, orders that holds keep until they end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<i64>,
    /// When every connection had confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Until when a copy of a volume could still hold what was erased, sealed under keys that die by then; as the relays answered.
    /// A hold whose end is moved later afterwards keeps what it keeps until that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_copies_until: Option<Time>,
    /// The connections that are asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub connections: Vec<ErasureAtConnection>,
}

/// A version of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubjectSecret {
    /// The Secret's uid.
    pub uid: String,
    /// Its version when it was read.
    pub resource_version: String,
}

/// How far the erasure is at one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErasureAtConnection {
    /// The connection's name.
    pub name: String,
    /// Waiting, Retained or Erased.
    pub state: ErasureState,
    /// Orders that the subject was found in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<i64>,
    /// Orders whose personal data was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<i64>,
    /// Orders that holds keep until they end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<i64>,
}

/// How far the erasure is at one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ErasureState {
    /// Its relay hasn't answered yet.
    Waiting,
    /// The connection is deleted, and its volume is still there.
    Retained,
    /// Its relay has confirmed.
    Erased,
}
