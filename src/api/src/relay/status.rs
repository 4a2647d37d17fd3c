use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The answer of the relay's `GET /v1/status`: counts and states, no PII, no digests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayStatus {
    /// The connection's identity.
    pub connection_id: String,
    /// The relay's version.
    pub version: String,
    /// Orders in the database.
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
    /// Collecting.
    pub collecting: Activity,
    /// Delivering.
    pub delivering: Activity,
    /// Whether the destination still wants events.
    pub delivery_state: DeliveryState,
    /// Resolved from the mounted files: hex SHA-256 over the configuration file.
    pub config_digest: String,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeliveryState {
    /// It does.
    Active,
    /// It answered 410 Gone: nothing is sent until its URL or signing Secret changes.
    Disabled,
}
