use std::{fmt, str::FromStr};

use snafu::{OptionExt, Snafu};

use crate::DestroyAt;

const PREFIX: &str = "backup.";

/// An identity that opens backups, and the recipient that they are encrypted to, by the second at which the identity is
/// destroyed. Written `backup.20261229T000000Z` as an entry of both Secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackupKey(DestroyAt);

/// The text is not the name of a backup identity.
#[derive(Debug, Snafu)]
#[snafu(display("{text:?} is not a backup identity's name such as backup.20261229T000000Z"))]
pub struct InvalidBackupKey {
    text: String,
}

impl BackupKey {
    /// Of the identity that is destroyed then.
    pub fn new(destroy_at: DestroyAt) -> Self {
        Self(destroy_at)
    }

    /// When the identity is destroyed.
    pub fn destroy_at(self) -> DestroyAt {
        self.0
    }
}

impl fmt::Display for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0.stamp()?)
    }
}

impl FromStr for BackupKey {
    type Err = InvalidBackupKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = text.strip_prefix(PREFIX).and_then(DestroyAt::from_stamp);
        at.map(Self).context(InvalidBackupKeySnafu { text })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_backup_identitys_name_is_refused() {
        for text in [
            "backup.",
            "backup.20261229T000000",
            "backup.2026129T000000Z",
            "backup.20261232T000000Z",
            "epoch.20261229T000000Z",
        ] {
            assert!(text.parse::<BackupKey>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn names_read_back_and_sort_by_their_time(second in 0i64..4_000_000_000, later in 1i64..1_000) {
            let key = BackupKey::new(DestroyAt::from_second(second));
            prop_assert_eq!(key.to_string().parse::<BackupKey>().expect("its own name"), key);
            prop_assert!(key < BackupKey::new(DestroyAt::from_second(second + later)));
        }
    }
}
