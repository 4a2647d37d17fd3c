//! The CEL expressions of the CRDs that several fields share.

use kube::core::{Message, Rule};

/// A duration's length in seconds, as a CEL expression. CEL's own `duration()` knows no days.
fn seconds(field: &str) -> String {
    format!(
        "int({field}.substring(0, {field}.size() - 1)) * \
         ({field}.endsWith('d') ? 86400 : {field}.endsWith('h') ? 3600 : {field}.endsWith('m') ? 60 : 1)"
    )
}

/// A duration field of at least `min`.
pub fn at_least(min: i64, message: &str) -> Rule {
    Rule::new(format!("{} >= {min}", seconds("self"))).message(message)
}

/// A duration field of at most `max`.
pub fn at_most(max: i64, message: &str) -> Rule {
    Rule::new(format!("{} <= {max}", seconds("self"))).message(message)
}

/// A policy's duration must be a manageable number of epochs.
pub fn epochs(field: &str, path: &str) -> Rule {
    let (length, epoch) = (seconds(field), seconds("self.keyEpoch"));
    Rule::new(format!("{length} >= 2 * ({epoch}) && {length} <= 1000 * ({epoch})"))
        .message(Message::Message(format!(
            "{path} must be between 2 and 1000 times keyEpoch (one key per epoch is kept in a Secret); \
             change keyEpoch or {path}"
        )))
        .field_path(format!(".{path}"))
}

/// The names of the objects that a connection needs are its own with an ending.
pub fn connection_name() -> Rule {
    Rule::new(
        "size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    )
    .message(
        "metadata.name must have at most 40 characters, lowercase letters, digits and '-', and begin with a \
         letter: Services and Pods are named after it; choose a shorter or simpler name",
    )
}
