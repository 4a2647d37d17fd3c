//! What stands in the way of a connection, for its conditions.

use marketrelay_api::Reason;

/// A reason for machines, and a message that names the field or object and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Why.
    pub reason: Reason,
    /// For a person.
    pub message: String,
}

impl Problem {
    /// Both.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
