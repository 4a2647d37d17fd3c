use std::fmt;

use aws_lc_rs::hmac;

use crate::SecretKey;

/// A keyed digest (HMAC-SHA256): finds a record without naming anybody to who lacks the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key of a customer's digests: one per namespace, so that one request reaches all of a customer's connections.
pub struct DigestKey(hmac::Key);

impl DigestKey {
    /// From the Secret's 32 bytes.
    pub fn new(key: &SecretKey) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// Of an order, by its marketplace and number.
    pub fn order(&self, marketplace: &str, number: &str) -> Digest {
        self.sign("order", &[marketplace.as_bytes(), number.as_bytes()])
    }

    /// Of a buyer, by what the marketplace knows them as (an e-mail address, a user name), without regard to case.
    pub fn buyer(&self, marketplace: &str, identity: &str) -> Digest {
        self.sign("buyer", &[marketplace.as_bytes(), identity.trim().to_lowercase().as_bytes()])
    }

    /// Of a record's whole content, to see whether it changed.
    pub fn content(&self, bytes: &[u8]) -> Digest {
        self.sign("content", &[bytes])
    }

    fn sign(&self, domain: &str, parts: &[&[u8]]) -> Digest {
        let mut context = hmac::Context::with_key(&self.0);
        for part in std::iter::once(domain.as_bytes()).chain(parts.iter().copied()) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.sign().as_ref());
        Digest(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> DigestKey {
        DigestKey::new(&SecretKey::from([byte; 32]))
    }

    #[test]
    fn digests_differ_by_key_kind_and_boundaries() {
        let a = key(1).order("bol", "123");
        assert_eq!(a, key(1).order("bol", "123"));
        for other in [key(2).order("bol", "123"), key(1).buyer("bol", "123"), key(1).order("bol1", "23")] {
            assert_ne!(a, other);
        }
    }

    #[test]
    fn a_buyer_is_found_whatever_the_case() {
        assert_eq!(key(1).buyer("amazon", " A@Example.com"), key(1).buyer("amazon", "a@example.com"));
    }
}
