//! Signed statements of a chain.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use snafu::{OptionExt, Snafu};

use crate::{Fields, Position, canonical, from_hex, hex};

/// What a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The chain has reached this record.
    Head,
    /// The records up to this one were pruned because of their age.
    Checkpoint,
    /// An export was asked for that begins after this record.
    Start,
}

/// A chain reached a record, and who signs says so. Its fields are declared in order, so that its JSON is canonical.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// When it was signed.
    pub at: Timestamp,
    /// The chain's id: a UUID that is minted with the database.
    pub chain: String,
    /// The record's hash, hex; zeros before the first one.
    pub hash: String,
    /// What it is about.
    pub kind: Kind,
    /// Ed25519, hex.
    pub public_key: String,
    /// The record's number; 0 before the first one.
    pub sequence: u64,
    /// Ed25519 over all other fields as canonical JSON, hex.
    pub signature: String,
}

impl Statement {
    /// Whether it was signed with the private half of this key (hex).
    pub fn is_signed_by(&self, public_key: &str) -> bool {
        let (Some(key), Some(signature)) = (from_hex::<32>(public_key), from_hex::<64>(&self.signature))
        else {
            return false;
        };
        let signed = UnparsedPublicKey::new(&ED25519, key).verify(self.signed().as_bytes(), &signature);
        self.public_key == public_key && signed.is_ok()
    }

    /// Which record it is about; `None` if its hash isn't one.
    pub fn position(&self) -> Option<Position> {
        Some(Position { sequence: self.sequence, hash: from_hex(&self.hash)? })
    }

    /// As a line of an export.
    pub fn line(&self) -> String {
        // Texts and numbers always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn signed(&self) -> String {
        let fields: Fields = serde_json::from_str(&self.line()).unwrap_or_default();
        canonical(&fields, "signature")
    }
}

/// The seed isn't a key.
#[derive(Debug, Snafu)]
#[snafu(display("the audit log's signing key can't be used"))]
pub struct InvalidSeed;

/// Signs statements.
pub struct Signer(Ed25519KeyPair);

impl Signer {
    /// From the seed (RFC 8032).
    pub fn new(seed: &[u8; 32]) -> Result<Self, InvalidSeed> {
        Ed25519KeyPair::from_seed_unchecked(seed).ok().map(Self).context(InvalidSeedSnafu)
    }

    /// Ed25519, hex.
    pub fn public_key(&self) -> String {
        hex(self.0.public_key().as_ref())
    }

    /// Signs bytes of another kind than statements, hex. `domain` tells the kinds apart, and ends with a line break.
    pub fn sign_bytes(&self, domain: &[u8], bytes: &[u8]) -> String {
        hex(self.0.sign(&[domain, bytes].concat()).as_ref())
    }

    /// Says where a chain is.
    pub fn sign(&self, kind: Kind, chain: &str, position: Position, at: Timestamp) -> Statement {
        let mut statement = Statement {
            at,
            chain: chain.to_owned(),
            hash: hex(&position.hash),
            kind,
            public_key: self.public_key(),
            sequence: position.sequence,
            signature: String::new(),
        };
        statement.signature = hex(self.0.sign(statement.signed().as_bytes()).as_ref());
        statement
    }
}

/// Whether [`Signer::sign_bytes`] has signed them with the private half of this key; key and signature are hex.
pub fn is_signed(public_key: &str, domain: &[u8], bytes: &[u8], signature: &str) -> bool {
    let (Some(key), Some(signature)) = (from_hex::<32>(public_key), from_hex::<64>(signature)) else {
        return false;
    };
    UnparsedPublicKey::new(&ED25519, key).verify(&[domain, bytes].concat(), &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_holds_for_its_own_words_and_key_alone() {
        let signer = Signer::new(&[7; 32]).expect("a key");
        let position = Position { sequence: 9, hash: [3; 32] };
        let said = signer.sign(Kind::Head, "chain", position, Timestamp::UNIX_EPOCH);
        assert!(said.is_signed_by(&signer.public_key()));
        assert_eq!(said.position(), Some(position));
        let other = Signer::new(&[8; 32]).expect("a key").public_key();
        assert!(!said.is_signed_by(&other));
        let lies: [fn(&mut Statement); 6] = [
            |said| said.sequence = 8,
            |said| said.kind = Kind::Checkpoint,
            |said| said.chain.push('x'),
            |said| said.hash.replace_range(0..1, "4"),
            |said| said.at = Timestamp::from_second(1).expect("in range"),
            |said| said.signature = said.signature.chars().rev().collect(),
        ];
        for lie in lies {
            let mut other = said.clone();
            lie(&mut other);
            assert!(!other.is_signed_by(&signer.public_key()), "{other:?}");
        }
        // The signature of somebody else's key under our name.
        let mut forged =
            Signer::new(&[8; 32]).expect("a key").sign(Kind::Head, "chain", position, Timestamp::UNIX_EPOCH);
        forged.public_key = signer.public_key();
        assert!(!forged.is_signed_by(&signer.public_key()));
    }
}
