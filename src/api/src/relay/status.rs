use jiff::Timestamp;
use marketrelay_audit::Statement;
use serde::{Deserialize, Serialize};

/// The answer of the relay's `GET /v1/status`: counts and states, no PII, no digests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayStatus {
    /// The connection's identity.
    pub connection_id: String,
    /// The relay's version.
    pub version: String,
    /// Orders that are kept, with PII or without.
    pub orders: u64,
    /// Of them, with PII.
    pub with_pii: u64,
    /// Events that wait for the destination.
    pub backlog: u64,
    /// When the oldest waiting event was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_event: Option<Timestamp>,
    /// When the oldest order with PII was placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_pii: Option<Timestamp>,
    /// The next deadline of an order with PII.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_deadline: Option<Timestamp>,
    /// Up to when the marketplace has told all shipments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_until: Option<Timestamp>,
    /// Orders that arrived past their deadline and were dropped.
    pub dropped_past_deadline: u64,
    /// Orders that were reduced to what identifies nobody.
    #[serde(default)]
    pub anonymised: u64,
    /// Orders that still have PII after their deadline: 0 unless something is wrong.
    #[serde(default)]
    pub overdue: u64,
    /// Events that were given up because their orders' PII had to go first.
    #[serde(default)]
    pub given_up: u64,
    /// Events that wait and whose orders' PII must go soon: within three days, or a tenth of the retention if that is
    /// shorter.
    #[serde(default)]
    pub deliveries_at_risk: u64,
    /// How the mounted keyring is used; absent while it can't be used, and from relays that don't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<KeyringUse>,
    /// The signed head of the audit log; absent while there is no key to sign it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Statement>,
    /// The holds whose keys are mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<HoldUse>,
    /// Collecting.
    pub collecting: Activity,
    /// Delivering.
    pub delivering: Activity,
    /// Anonymising, re-sealing, the volume key's replacement.
    #[serde(default)]
    pub keeping_deadlines: Activity,
    /// Whether the destination still wants events.
    pub delivery_state: DeliveryState,
    /// Resolved from the mounted files: hex SHA-256 over the configuration file.
    pub config_digest: String,
}

/// How the relay uses the keyring that it has mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyringUse {
    /// The newest volume key's generation in the mount.
    pub mounted_generation: u32,
    /// The oldest volume key that a stored record is wrapped under, and that anything in the database's files still
    /// needs; [`mounted_generation`](Self::mounted_generation) once nothing needs an older one.
    pub oldest_generation: u32,
    /// When the first epoch or hold key dies that is still in the mount, whatever the relay's own clock says: in the past as
    /// long as the kubelet hasn't brought the news of its destruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_mounted: Option<Timestamp>,
    /// The mount has no key to sign the audit log with, and the relay would know how to use one.
    #[serde(default)]
    pub audit_key_missing: bool,
    /// How many recipients of backups the mount has. Absent from a relay that doesn't know what they are, and refuses a keyring
    /// that has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients: Option<u32>,
}

/// What a hold keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldUse {
    /// Its name.
    pub name: String,
    /// When its key dies.
    pub until: Timestamp,
    /// Orders that it keeps.
    pub orders: u64,
    /// Everything that it selects is kept.
    pub complete: bool,
    /// Its id, the digest of its key, 64 hex digits; empty from relays that don't tell.
    #[serde(default)]
    pub id: String,
    /// Grows with each order that it keeps: an archive of the hold with this revision, or a higher one, has all of them. After a
    /// restore it is higher than ever before.
    #[serde(default)]
    pub revision: u64,
    /// The same, without the orders that have come since the hold's selection was last looked at.
    #[serde(default)]
    pub selected_revision: u64,
}

/// How one of the relay's activities goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// The last time that it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// Since when it fails; absent while it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// CamelCase and bounded, such as `CredentialsRejected`; absent while it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happened and what to do, without PII; absent while it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Whether the destination still wants events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeliveryState {
    /// It does.
    #[default]
    Active,
    /// It answered 410 Gone: nothing is sent until its URL or signing Secret changes.
    Disabled,
}
