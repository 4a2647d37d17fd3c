//! The keyed digests that name whom an erasure is about.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use snafu::Snafu;

use crate::rules;

/// What the API server and [`SubjectDigest::from_str`] accept.
pub const PATTERN: &str = "^(order|buyer):[0-9a-f]{64}$";

/// More than any digest has, so that a longer text gets the sentence that says how to write one.
const MAX_LENGTH: u32 = 128;

/// An order or a buyer by a keyed digest, written `order:` or `buyer:` and 64 hex digits. It names nobody to who lacks
/// the namespace's digest key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SubjectDigest {
    /// Of a marketplace and an order number.
    Order([u8; 32]),
    /// Of a marketplace and an e-mail address or user name.
    Buyer([u8; 32]),
}

/// The text is not a digest. It isn't shown: it may be what was to be digested.
#[derive(Debug, PartialEq, Eq, Snafu)]
#[snafu(display("not a digest: write order: or buyer: and 64 lowercase hex digits"))]
pub struct InvalidSubjectDigest;

impl FromStr for SubjectDigest {
    type Err = InvalidSubjectDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, hex) = text.split_once(':').ok_or(InvalidSubjectDigest)?;
        let bytes = bytes(hex).ok_or(InvalidSubjectDigest)?;
        match kind {
            "order" => Ok(Self::Order(bytes)),
            "buyer" => Ok(Self::Buyer(bytes)),
            _ => Err(InvalidSubjectDigest),
        }
    }
}

fn bytes(hex: &str) -> Option<[u8; 32]> {
    let digits = hex.as_bytes();
    let lowercase = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if digits.len() != 64 || !lowercase {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

impl TryFrom<String> for SubjectDigest {
    type Error = InvalidSubjectDigest;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SubjectDigest> for String {
    fn from(digest: SubjectDigest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for SubjectDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, bytes) = match self {
            Self::Order(bytes) => ("order", bytes),
            Self::Buyer(bytes) => ("buyer", bytes),
        };
        write!(f, "{kind}:")?;
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// For logs and events, where no digest belongs.
impl fmt::Debug for SubjectDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Order(_) => "order:…",
            Self::Buyer(_) => "buyer:…",
        })
    }
}

impl JsonSchema for SubjectDigest {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SubjectDigest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": MAX_LENGTH,
            "x-kubernetes-validations": [rules::subject_digest()],
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_digest_reads_back_and_is_not_shown(bytes in any::<[u8; 32]>(), order in any::<bool>()) {
            let digest = if order { SubjectDigest::Order(bytes) } else { SubjectDigest::Buyer(bytes) };
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
            let shown = format!("{digest:?}");
            prop_assert!(!shown.contains(&digest.to_string()[6..14]));
        }

        #[test]
        fn what_the_schema_accepts_is_accepted(text in "(order|buyer):[0-9a-f]{64}") {
            prop_assert!(text.parse::<SubjectDigest>().is_ok());
        }

        #[test]
        fn anything_else_is_refused_without_being_repeated(text in "(order|buyer|name)?:?[0-9a-fA-F+]{60,66}|\\PC*") {
            prop_assume!(!(text.len() == 70 && text.is_char_boundary(6) && bytes(&text[6..]).is_some()));
            let error = text.parse::<SubjectDigest>().expect_err("refused").to_string();
            prop_assert!(text.len() < 8 || !error.contains(&text));
        }
    }
}
