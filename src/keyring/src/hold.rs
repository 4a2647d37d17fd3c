use std::{fmt, str::FromStr};

use aws_lc_rs::digest;
use snafu::{OptionExt, Snafu, ensure};

use crate::{DestroyAt, SecretKey};

const PREFIX: &str = "hold.";
const LONGEST_NAME: usize = 40;
const ID_DOMAIN: &[u8] = b"marketrelay hold key id v1";

/// The key of a hold by its name and the second at which it is destroyed, written `hold.tax-2026.20270131T000000Z` as an
/// entry of the keyring Secret. Sorted by the latter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HoldKey {
    destroy_at: DestroyAt,
    name: String,
}

/// The text is not the name of a hold's key.
#[derive(Debug, Snafu)]
#[snafu(display("{text:?} is not a hold key's name such as hold.tax-2026.20270131T000000Z"))]
pub struct InvalidHoldKey {
    text: String,
}

impl HoldKey {
    /// The hold's name: at most 40 lowercase letters, digits and `-`.
    pub fn new(name: &str, destroy_at: DestroyAt) -> Result<Self, InvalidHoldKey> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = name.as_bytes();
        let ends = [bytes.first(), bytes.last()].into_iter().all(|end| end.is_some_and(|byte| letter(*byte)));
        let inner = bytes.iter().all(|byte| letter(*byte) || *byte == b'-');
        let fits = ends && inner && bytes.len() <= LONGEST_NAME;
        fits.then(|| Self { destroy_at, name: name.to_owned() }).context(InvalidHoldKeySnafu { text: name })
    }

    /// The hold's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When the key is destroyed.
    pub fn destroy_at(&self) -> DestroyAt {
        self.destroy_at
    }

    /// Of the same hold, destroyed at another second.
    #[must_use]
    pub fn moved(&self, destroy_at: DestroyAt) -> Self {
        Self { destroy_at, name: self.name.clone() }
    }
}

impl fmt::Display for HoldKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}.{}", self.name, self.destroy_at.stamp()?)
    }
}

impl FromStr for HoldKey {
    type Err = InvalidHoldKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.strip_prefix(PREFIX).and_then(|rest| {
            let (name, stamp) = rest.split_once('.')?;
            Self::new(name, DestroyAt::from_stamp(stamp)?).ok()
        });
        parsed.context(InvalidHoldKeySnafu { text })
    }
}

/// Recognises a hold's key without giving anything of it away: a later hold of the same name has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HoldId([u8; 32]);

impl HoldId {
    /// Of this key.
    pub(crate) fn of(key: &SecretKey) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(ID_DOMAIN);
        context.update(key.expose());
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        Self(id)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for HoldId {
    /// 64 lowercase hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The text is no hold's id.
#[derive(Debug, Snafu)]
#[snafu(display("{text:?} is not a hold's id of 64 lowercase hex digits"))]
pub struct InvalidHoldId {
    text: String,
}

impl FromStr for HoldId {
    type Err = InvalidHoldId;

    /// One id has one text: capitals are none.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = [0; 32];
        let is_id = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        ensure!(is_id, InvalidHoldIdSnafu { text });
        for (place, byte) in id.iter_mut().enumerate() {
            let digits = &text[2 * place..2 * place + 2];
            *byte = u8::from_str_radix(digits, 16).ok().context(InvalidHoldIdSnafu { text })?;
        }
        Ok(Self(id))
    }
}

impl From<[u8; 32]> for HoldId {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_hold_keys_name_is_refused() {
        for text in [
            "hold.tax.2027",
            "hold..20270131T000000Z",
            "hold.-tax.20270131T000000Z",
            "hold.Tax.20270131T000000Z",
            "hold.a.b.20270131T000000Z",
            "hold.tax.20270132T000000Z",
            "hold.aaaaaaaaaabbbbbbbbbbccccccccccddddddddddx.20270131T000000Z",
            "epoch.20270131T000000Z",
        ] {
            assert!(text.parse::<HoldKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_id_reads_back_and_nothing_that_only_looks_like_one_does() {
        let id = HoldId::of(&SecretKey::from([7; 32]));
        let text = id.to_string();
        assert_eq!(text.parse::<HoldId>().expect("its own"), id);
        let wrong = [String::new(), text.to_uppercase(), text[1..].to_owned(), format!("{text}0")];
        for wrong in wrong.into_iter().chain([format!("+{}", &text[1..]), "é".repeat(32)]) {
            assert!(wrong.parse::<HoldId>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn names_read_back_and_sort_by_their_time(
            name in "[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", second in 0_i64..4_000_000_000, later in 1_i64..1_000,
        ) {
            let key = HoldKey::new(&name, DestroyAt::from_second(second)).expect("a name");
            prop_assert_eq!(key.to_string().parse::<HoldKey>().expect("its own name"), key.clone());
            prop_assert!(key < HoldKey::new("0", DestroyAt::from_second(second + later)).expect("a name"));
        }
    }
}
