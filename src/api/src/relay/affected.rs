use serde::{Deserialize, Serialize};

/// The query of the relay's `GET /v1/affected`: a retention that isn't in effect yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AffectedQuery {
    /// After the order was placed, in seconds; at least 1.
    pub anonymize_after_seconds: i64,
    /// After the first shipment, in seconds; at least 1.
    pub delete_after_shipment_seconds: i64,
}

/// The relay's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Affected {
    /// Orders with PII that would lose it at once, or whose PII would be sealed anew under a key that dies earlier.
    pub orders: u64,
}
