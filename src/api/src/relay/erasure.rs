use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::SubjectDigest;

/// The body of the relay's `PUT /v1/erasures/{uid}`, and of `POST /v1/subjects`, which only looks. The same uid gets the same
/// answer, whatever it is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Erasure {
    /// Whom or what to erase; 1 to [`MOST`](Self::MOST).
    pub subject: Vec<SubjectDigest>,
}

impl Erasure {
    /// Digests in one request: 100 lines of a Secret, each at three marketplaces.
    pub const MOST: usize = 300;
}

/// The relay's answer: all of it is done, and nothing of it waits for the destination's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErasureAnswer {
    /// Orders that the subject was found in.
    pub matched: u64,
    /// Of them, orders whose personal data was erased.
    pub erased: u64,
    /// Of those found, orders that holds keep until they end.
    #[serde(default)]
    pub held: u64,
    /// When the last key dies that they, or a copy of them, can be sealed under; absent if nothing was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_until: Option<Timestamp>,
}

/// The relay's answer to `POST /v1/subjects`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubjectAnswer {
    /// Orders with personal data that the subject is in.
    pub orders: u64,
}
