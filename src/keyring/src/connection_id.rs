use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use snafu::Snafu;

/// A connection's identity: a lowercase UUID, minted once by the operator and the same in every region and after
/// re-applying. It is bound into every envelope.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConnectionId(String);

/// The text is not a lowercase UUID.
#[derive(Debug, Snafu)]
#[snafu(display(
    "connection id {text:?} is not a lowercase UUID such as 3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34"
))]
pub struct InvalidConnectionId {
    text: String,
}

impl ConnectionId {
    /// The UUID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConnectionId {
    type Err = InvalidConnectionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = text.len() == 36
            && text.bytes().enumerate().all(|(i, b)| match i {
                8 | 13 | 18 | 23 => b == b'-',
                _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
            });
        if shape { Ok(Self(text.to_owned())) } else { InvalidConnectionIdSnafu { text }.fail() }
    }
}

impl TryFrom<String> for ConnectionId {
    type Error = InvalidConnectionId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ConnectionId> for String {
    fn from(id: ConnectionId) -> Self {
        id.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lowercase_uuids_are_connection_ids() {
        let id = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34";
        assert_eq!(id.parse::<ConnectionId>().expect("a UUID").as_str(), id);
        for bad in ["", "3F6C2A90-5D1E-4C57-9A0B-6D2F8E1C7B34", "3f6c2a905d1e4c579a0b6d2f8e1c7b34", &id[1..]]
        {
            assert!(bad.parse::<ConnectionId>().is_err(), "{bad}");
        }
    }
}
