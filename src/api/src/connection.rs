//! `MarketplaceConnection`: orders from one account of a marketplace to one destination.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, hold::HoldStatus, record::Closure, rules};

mod backup;
mod marketplace;
mod restore;

pub use backup::{
    Backup, Backups, DrilledBackup, EscrowedKeys, HoldArchive, JobResult, S3, SiteBackups, SiteStore,
};
pub use marketplace::{Amazon, AmazonRegion, Bol, Ebay, MarketplaceKind};
pub use restore::{Restore, RestoreCause, RestoreStatus, RestoredBackup};

/// Relays the orders of one marketplace account to the customer's own system, in a pod, a volume and with keys of its own.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "marketrelay.dev",
    version = "v1alpha1",
    kind = "MarketplaceConnection",
    plural = "marketplaceconnections",
    shortname = "mconn",
    category = "marketrelay",
    namespaced,
    status = "MarketplaceConnectionStatus",
    derive = "PartialEq",
    doc = "Relays the orders of one marketplace account to the customer's own system, in a pod, a volume and with keys of its own.",
    validation = rules::connection_name(),
    validation = rules::connection_confirmation(),
    validation = rules::restore_confirmation(),
    printcolumn(name = "Marketplace", type_ = "string", json_path = ".status.marketplace"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Orders", type_ = "integer", json_path = ".status.relay.orders"),
    printcolumn(name = "Backlog", type_ = "integer", json_path = ".status.relay.backlog"),
    printcolumn(name = "Backup", type_ = "date", json_path = ".status.backups.newest"),
    printcolumn(name = "Drill", type_ = "date", json_path = ".status.backups.drilled"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1)
)]
#[x_kube(validation = Rule::new("[has(self.amazon), has(self.ebay), has(self.bol)].filter(x, x).size() == 1")
    .message("name exactly one marketplace: amazon, ebay or bol; one without settings is written `bol: {}`, since `bol:` alone is nothing; make a connection for each further one"))]
#[x_kube(validation = Rule::new(
    "has(self.amazon) == has(oldSelf.amazon) && has(self.ebay) == has(oldSelf.ebay) && has(self.bol) == has(oldSelf.bol)")
    .message("the marketplace can't be changed: make a new connection and delete this one"))]
#[serde(rename_all = "camelCase")]
pub struct MarketplaceConnectionSpec {
    /// Amazon's Selling Partner API, with its settings. Exactly one of amazon, ebay and bol is set, and stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amazon: Option<Amazon>,
    /// eBay's Fulfillment API. Write `ebay: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebay: Option<Ebay>,
    /// Bol's Retailer API. Write `bol: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bol: Option<Bol>,
    /// The Secret with the credentials for the marketplace. Entries: amazon and ebay need `clientId`, `clientSecret` and
    /// `refreshToken`, bol needs `clientId` and `clientSecret`. It may change at any time.
    pub credentials_secret_ref: SecretRef,
    /// Where the orders go.
    pub destination: Destination,
    /// The RetentionPolicy in the same namespace that says how long personal data is kept. Without one, its defaults hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_policy_ref: Option<PolicyRef>,
    /// The relay's volume.
    #[serde(default)]
    pub storage: Storage,
    /// How often the marketplace is asked for new and changed orders; 5s to 1d. The marketplace's own limits come first.
    #[serde(default = "default_poll_interval")]
    #[x_kube(validation = rules::at_least(5, "pollInterval must be at least 5s; 1m is right for most accounts"))]
    #[x_kube(validation = rules::at_most(86_400, "pollInterval must be at most 1d, marketplaces don't list handled orders for long; 1m is right for most accounts"))]
    pub poll_interval: Duration,
    /// How far back the very first poll looks; at most 30d.
    #[serde(default = "default_lookback")]
    #[x_kube(validation = rules::at_most(2_592_000, "lookback must be at most 30d, older orders are shipped and their data is due for deletion: write 30d or less"))]
    pub lookback: Duration,
    /// Where backups go, and when they are taken. Without it there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
    /// Makes the relay's database of a backup, in the place of the present one. An empty volume needs no such request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
    /// true: collect and deliver nothing, and take no backups. The relay keeps running, and the deadlines of personal data go on.
    #[serde(default)]
    pub suspend: bool,
    /// Closes the account for good: its keys die at once, and volume and children go. Deleting the connection only retains them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closure: Option<Closure>,
}

/// A Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name("a Secret in the same namespace"))]
    pub name: String,
}

/// A RetentionPolicy in the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct PolicyRef {
    /// The RetentionPolicy's name.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name("a RetentionPolicy in the same namespace"))]
    pub name: String,
}

/// Where the orders go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Destination {
    /// Signed batches over https, as in the Standard Webhooks specification.
    pub webhook: Webhook,
}

/// In a URL: port 0, or one above 65535.
const IMPOSSIBLE_PORT: &str = "^[a-zA-Z]+://[^/?#]*:0*(0|[1-9][0-9]{5,}|[7-9][0-9]{4}|6[6-9][0-9]{3}|65[6-9][0-9]{2}|655[4-9][0-9]|6553[6-9])([/?#]|$)";

/// An https endpoint of the customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// The address that batches are posted to; https only. Redirects aren't followed.
    #[schemars(length(max = 2048))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() == 'https' && url(self).getHostname() != ''")
        .message("url must be an https address such as https://erp.acme.example/orders: personal data never travels unencrypted"))]
    #[x_kube(validation = Rule::new("!self.matches('^[a-zA-Z]+://[^/?#]*@') && !self.contains('#')")
        .message("url must not hold a user name, a password or a fragment: the receiver recognises us by the signature (signingSecretRef)"))]
    #[x_kube(validation = Rule::new(format!("!self.matches('{IMPOSSIBLE_PORT}')"))
        .message("url's port must be between 1 and 65535; without one it is 443"))]
    pub url: String,
    /// The Secret that batches are signed with. Entry `signingSecret`: `whsec_` and 24 to 64 bytes in base64. While rotating,
    /// `previousSigningSecret` holds the old one and every batch carries both signatures.
    pub signing_secret_ref: SecretRef,
    /// How events are put together.
    #[serde(default)]
    pub batch: Batch,
}

/// Limits of one webhook message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// Events per message.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default = "default_max_events")]
    pub max_events: i32,
    /// Bytes per message. A single larger event goes alone.
    #[schemars(range(min = 16_384, max = 10_485_760))]
    #[serde(default = "default_max_bytes")]
    pub max_bytes: i32,
}

impl Default for Batch {
    fn default() -> Self {
        Self { max_events: default_max_events(), max_bytes: default_max_bytes() }
    }
}

const IS_SIZE: &str = "self.matches('^[1-9][0-9]*(Mi|Gi|Ti|M|G|T)$')";

/// The relay's volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
    .message("storageClassName can't be changed, a volume stays in its class: make a new connection"))]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Its size, such as 1Gi. It may grow where the StorageClass allows expansion, and never shrinks.
    #[serde(default = "default_size")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(IS_SIZE).message("size must be a whole number and Mi, Gi or Ti, such as 1Gi"))]
    #[x_kube(validation = Rule::new(format!("!{IS_SIZE} || quantity(self).compareTo(quantity('64Mi')) >= 0"))
        .message("size must be at least 64Mi; 1Gi holds about a million orders"))]
    #[x_kube(validation = Rule::new(format!("!{IS_SIZE} || quantity(self).compareTo(quantity(oldSelf)) >= 0"))
        .message("size can't shrink, volumes only grow: keep the old size or make a new connection"))]
    pub size: String,
    /// A StorageClass whose volumes are encrypted; the operator's default if absent. It stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name("a StorageClass (kubectl get storageclasses)"))]
    pub storage_class_name: Option<String>,
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: default_size(), storage_class_name: None }
    }
}

fn default_poll_interval() -> Duration {
    Duration::minutes(1)
}

fn default_lookback() -> Duration {
    Duration::days(7)
}

fn default_max_events() -> i32 {
    100
}

fn default_max_bytes() -> i32 {
    1_048_576
}

fn default_size() -> String {
    "1Gi".to_owned()
}

/// What the operator has found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(oldSelf.connectionId) || (has(self.connectionId) && self.connectionId == oldSelf.connectionId)")
    .message("connectionId can't be changed or removed: volumes, keys and backups are named after it"))]
#[serde(rename_all = "camelCase")]
pub struct MarketplaceConnectionStatus {
    /// The generation of the spec that the rest of the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The connection's identity: minted once, the same in every region and after deleting and re-applying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub connection_id: Option<String>,
    /// amazon, ebay or bol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marketplace: Option<String>,
    /// Ready, Collecting, Delivering, StorageEncrypted, RetentionEnforced, AuditIntact, if there are holds, Held, and for each site of backups BackedUpOnSite and DrilledOnSite, or BackedUpOffSite and DrilledOffSite, each with a reason and a message that says what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// What the relay holds, at most 10 minutes old; live figures are in the metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayFigures>,
    /// The retention in effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionInEffect>,
    /// The holds of the policy, and those that it asks for no more and whose end hasn't come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub holds: Vec<HoldStatus>,
    /// The backups that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<Backups>,
    /// The last restore, or the one under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreStatus>,
    /// The last head of the relay's audit log that continued the one before. After a person has looked into a condition AuditIntact that is False, remove it to have the present head taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<PinnedAudit>,
}

/// The head of an audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PinnedAudit {
    /// The log's id, minted with the volume.
    pub chain: String,
    /// The number of the last record.
    pub sequence: i64,
    /// Its hash, hex.
    pub hash: String,
    /// The key that signed it, Ed25519, hex.
    pub public_key: String,
    /// When the relay told it.
    pub checked_at: Time,
}

/// What the relay holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RelayFigures {
    /// Orders in the database.
    pub orders: i64,
    /// Of them, with personal data.
    pub with_pii: i64,
    /// Events that wait for the destination.
    pub backlog: i64,
    /// When the oldest order with personal data was placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_pii: Option<Time>,
    /// When the next personal data must be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_deadline: Option<Time>,
    /// When these figures were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Time>,
}

/// The retention in effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionInEffect {
    /// After the order was placed.
    pub anonymize_after: Duration,
    /// After the order's first shipment.
    pub delete_after_shipment: Duration,
    /// Of a backup, after it was taken; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_retention: Option<Duration>,
    /// How finely keys are destroyed.
    #[serde(default = "default_key_epoch")]
    pub key_epoch: Duration,
    /// Keys that can still open something.
    pub keys_live: i64,
    /// When the next of them dies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key_destruction: Option<Time>,
    /// What the policy shortens, and waits until it takes effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingRetention>,
}

/// A shorter retention that waits, so that a mistake can be taken back: set the policy back before it takes effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingRetention {
    /// After the order was placed; absent if that doesn't become shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymize_after: Option<Duration>,
    /// After the order's first shipment; absent if that doesn't become shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_after_shipment: Option<Duration>,
    /// Of a backup, after it was taken; absent if that doesn't become shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_retention: Option<Duration>,
    /// Since when it waits.
    pub since: Time,
    /// When it takes effect.
    pub effective_at: Time,
    /// Orders whose personal data would be gone at once or earlier than now, at most 10 minutes old; absent while the
    /// relay can't be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affected: Option<i64>,
}

fn default_key_epoch() -> Duration {
    Duration::days(1)
}
