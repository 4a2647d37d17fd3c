//! Records, each with the hash of the one before.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use serde_json::Value;

use crate::hex;

/// SHA-256.
pub type Hash = [u8; 32];

/// What the first record has in place of the hash of the one before.
pub const NONE: Hash = [0; 32];

/// A record or a statement: texts and whole numbers by name. Sorted, so that its JSON is canonical (RFC 8785).
pub type Fields = BTreeMap<String, Value>;

/// How far a chain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The last record's number; 0 before the first one.
    pub sequence: u64,
    /// The last record's hash; [`NONE`] before the first one.
    pub hash: Hash,
}

impl Position {
    /// Before the first record.
    pub const START: Self = Self { sequence: 0, hash: NONE };
}

/// Without white space, names in order: RFC 8785 for texts and whole numbers.
pub fn line(fields: &Fields) -> String {
    // Texts and numbers always have a JSON form.
    serde_json::to_string(fields).unwrap_or_default()
}

/// What is hashed, or signed: all but the field that holds the outcome.
pub fn canonical(fields: &Fields, without: &str) -> String {
    let mut rest = fields.clone();
    rest.remove(without);
    line(&rest)
}

/// The hash of a record: of all its fields but `hash`.
pub fn hash(fields: &Fields) -> Hash {
    let digest = digest::digest(&digest::SHA256, canonical(fields, "hash").as_bytes());
    let mut bytes = NONE;
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// Makes `fields` the next record of a chain: adds `chain`, `sequence`, `previous` and `hash`. Gives where it then is.
pub fn link(fields: &mut Fields, chain: &str, last: Position) -> Position {
    let sequence = last.sequence + 1;
    fields.insert("chain".to_owned(), chain.into());
    fields.insert("sequence".to_owned(), sequence.into());
    fields.insert("previous".to_owned(), hex(&last.hash).into());
    let hash = hash(fields);
    fields.insert("hash".to_owned(), hex(&hash).into());
    Position { sequence, hash }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with `sha256sum`, so that a third party gets the same.
    #[test]
    fn a_record_has_the_documented_hash() {
        let mut fields = Fields::from([
            ("action".to_owned(), "OrdersAnonymised".into()),
            ("at".to_owned(), "2026-11-24T15:00:00.000Z".into()),
            ("count".to_owned(), 3.into()),
        ]);
        let at = link(&mut fields, "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34", Position::START);
        let text = canonical(&fields, "hash");
        let zeros = "0".repeat(64);
        assert_eq!(
            text,
            format!(
                "{{\"action\":\"OrdersAnonymised\",\"at\":\"2026-11-24T15:00:00.000Z\",\
                 \"chain\":\"3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34\",\"count\":3,\"previous\":\"{zeros}\",\"sequence\":1}}"
            )
        );
        assert_eq!(hex(&at.hash), "ea23e022dc3b0ac2a77e448081b91a8fcccc6c8f90458615a742edcc392c0c27");
        assert_eq!(at.sequence, 1);
    }
}
