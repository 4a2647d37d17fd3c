//! Audit records: one line of JSON for each deed, under a target of its own that no log level hides. They hold no
//! personal data and no key.

use jiff::Timestamp;

/// The target of the records.
pub const TARGET: &str = "marketrelay::audit";

/// A deed on a key.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// What was done, CamelCase and bounded.
    pub action: &'static str,
    /// The Secret's namespace.
    pub namespace: &'a str,
    /// The Secret's name.
    pub secret: &'a str,
    /// The key's entry in it.
    pub key: &'a str,
    /// Whose key it was.
    pub connection_id: &'a str,
    /// `None`: it was done. Otherwise why it wasn't.
    pub error: Option<&'a str>,
    /// When the key had to die, and how many seconds later it did.
    pub destroyed: Option<(Timestamp, f64)>,
}

/// A deed of a closure.
#[derive(Clone, Debug)]
pub struct ClosureRecord<'a> {
    /// What was done, CamelCase and bounded.
    pub action: &'static str,
    /// The connection's namespace.
    pub namespace: &'a str,
    /// The connection's name.
    pub connection: &'a str,
    /// The connection's id, which its ConnectionRecord is named after.
    pub connection_id: &'a str,
    /// Why, or to which object: `Kind/name`.
    pub object: Option<&'a str>,
    /// `None`: it was done. Otherwise why it wasn't.
    pub error: Option<&'a str>,
}

impl ClosureRecord<'_> {
    /// Writes it.
    pub fn write(&self) {
        let Self { action, namespace, connection, connection_id, object, error } = self;
        let result = if error.is_some() { "failed" } else { "done" };
        tracing::info!(target: TARGET, action, namespace, connection, connection_id, object, result, error, "audit");
    }
}

impl Record<'_> {
    /// Writes it.
    pub fn write(&self) {
        let Self { action, namespace, secret, key, connection_id, error, destroyed } = self;
        let result = if error.is_some() { "failed" } else { "done" };
        let destroy_at = destroyed.map(|(at, _)| tracing::field::display(at));
        let late_seconds = destroyed.map(|(_, seconds)| seconds);
        tracing::info!(
            target: TARGET, action, namespace, secret, key, connection_id, result, error, destroy_at, late_seconds, "audit"
        );
    }
}
