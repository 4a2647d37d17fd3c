//! Escrowed keys: one document for each connection, encrypted with age to the recipients of the operator's configuration,
//! which lies with the off-site backups. Whoever has one of the identities can restore the connection in another cluster.
//! Pure: no clock, no file, no network.

mod entries;
pub mod erasures;

use std::io::{Read, Write};

use marketrelay_api::backup::PastErasures;
use serde::{Deserialize, Serialize};
use snafu::{ResultExt, Snafu, ensure};
use zeroize::Zeroizing;

pub use entries::Entries;
use erasures::ErasuresError;

/// Whoever can open the document: public, `age1…`.
pub type Recipient = age::x25519::Recipient;
/// What opens it: `AGE-SECRET-KEY-1…`. It zeroizes itself.
pub type Identity = age::x25519::Identity;

/// The version of the document that this version writes, and the only one that it reads.
pub const VERSION: u32 = 2;

/// Everything that a connection's backups can't be restored without.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Escrow {
    /// [`VERSION`].
    pub version: u32,
    /// The connection's identity.
    pub connection_id: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// amazon, ebay or bol.
    pub marketplace: String,
    /// The audit log of its database, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// The entries of its keyring, without volume keys and recipients: those of the lost cluster open nothing here.
    pub keyring: Entries,
    /// The entries of its backups' identities.
    pub identities: Entries,
    /// The entries of its namespace's digest key.
    pub digest_key: Entries,
    /// What was erased: an older backup may still have it. Compressed, behind the rest: no key goes through a compressor, which
    /// would keep copies of it.
    #[serde(skip)]
    pub erasures: PastErasures,
}

/// A document can't be made or read.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum EscrowError {
    #[snafu(display("there is no recipient to encrypt to"))]
    NoRecipient,
    #[snafu(display("the escrowed keys can't be encrypted: {source}"))]
    Encrypt { source: age::EncryptError },
    #[snafu(display("the escrowed keys can't be opened with this identity: {source}"))]
    Decrypt { source: age::DecryptError },
    #[snafu(display("the escrowed keys can't be read: {source}"))]
    Read { source: std::io::Error },
    // serde's words show what it has read.
    #[snafu(display("what the escrowed keys say isn't understood (line {line}, column {column})"))]
    Document { line: usize, column: usize },
    #[snafu(display("what was erased, which is escrowed with the keys, can't be used: {source}"))]
    Erasures { source: ErasuresError },
    #[snafu(display("the escrowed keys are of version {version}, this program reads version {VERSION}"))]
    Version { version: u32 },
}

/// Between the keys and what was erased: JSON has none of its own as it is written.
const END: u8 = b'\n';

/// Read before anything else.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Escrow {
    /// Encrypted, so that each of the recipients can open it alone.
    pub fn seal(&self, recipients: &[Recipient]) -> Result<Vec<u8>, EscrowError> {
        ensure!(!recipients.is_empty(), NoRecipientSnafu);
        let document = Zeroizing::new(serde_json::to_vec(self).map_err(not_understood)?);
        let erasures = erasures::pack(&self.erasures).context(ErasuresSnafu)?;
        let recipients = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).context(EncryptSnafu)?;
        let mut sealed = Vec::new();
        let mut writer = encryptor.wrap_output(&mut sealed).context(ReadSnafu)?;
        for part in [&document[..], &[END], &erasures] {
            writer.write_all(part).context(ReadSnafu)?;
        }
        writer.finish().context(ReadSnafu)?;
        Ok(sealed)
    }

    /// Opens what [`Escrow::seal`] made, with one of the identities.
    pub fn open(sealed: &[u8], identity: &Identity) -> Result<Self, EscrowError> {
        let decryptor = age::Decryptor::new(sealed).context(DecryptSnafu)?;
        let identity: &dyn age::Identity = identity;
        let mut reader = decryptor.decrypt(std::iter::once(identity)).context(DecryptSnafu)?;
        let mut document = Zeroizing::new(Vec::new());
        reader.read_to_end(&mut document).context(ReadSnafu)?;
        let end = document.iter().position(|byte| *byte == END).unwrap_or(document.len());
        let (keys, erasures) = document.split_at(end);
        let Versioned { version } = serde_json::from_slice(keys).map_err(not_understood)?;
        ensure!(version == VERSION, VersionSnafu { version });
        let escrow: Self = serde_json::from_slice(keys).map_err(not_understood)?;
        let erasures = erasures::unpack(erasures.get(1..).unwrap_or_default()).context(ErasuresSnafu)?;
        Ok(Self { erasures, ..escrow })
    }
}

// By value, as `map_err` gives it.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err is given")]
fn not_understood(error: serde_json::Error) -> EscrowError {
    EscrowError::Document { line: error.line(), column: error.column() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Escrow {
        let entries = |name: &str, text: &[u8]| Entries::from_iter([(name.to_owned(), text.to_vec())]);
        Escrow {
            version: VERSION,
            connection_id: "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34".to_owned(),
            namespace: "acme".to_owned(),
            name: "bol".to_owned(),
            marketplace: "bol".to_owned(),
            chain: None,
            keyring: entries("epoch.20261229T000000Z", &[7; 32]),
            identities: entries("backup.20261229T000000Z", b"AGE-SECRET-KEY-1"),
            digest_key: entries("digest-key", &[9; 32]),
            erasures: PastErasures::default(),
        }
    }

    #[test]
    fn each_recipient_opens_it_alone_and_nobody_else_does() {
        let [first, second, other] = [(); 3].map(|()| Identity::generate());
        let sealed = sample().seal(&[first.to_public(), second.to_public()]).expect("sealed");
        for identity in [&first, &second] {
            assert_eq!(Escrow::open(&sealed, identity).expect("opened"), sample());
        }
        assert!(matches!(Escrow::open(&sealed, &other), Err(EscrowError::Decrypt { .. })));
        assert!(matches!(sample().seal(&[]), Err(EscrowError::NoRecipient)));
    }

    #[test]
    fn a_truncated_or_altered_one_and_one_of_another_version_are_refused() {
        let identity = Identity::generate();
        let mut sealed = sample().seal(&[identity.to_public()]).expect("sealed");
        assert!(Escrow::open(&sealed[..sealed.len() - 1], &identity).is_err());
        *sealed.last_mut().expect("bytes") ^= 1;
        assert!(Escrow::open(&sealed, &identity).is_err());
        let newer = Escrow { version: 3, ..sample() }.seal(&[identity.to_public()]).expect("sealed");
        assert!(matches!(Escrow::open(&newer, &identity), Err(EscrowError::Version { version: 3 })));
    }

    #[test]
    fn keys_never_show() {
        let shown = format!("{:?}", sample());
        assert!(shown.contains("keyring: Entries(..)") && !shown.contains("SECRET"), "{shown}");
    }
}
