use jiff::Timestamp;
use marketrelay_audit::{Signer, Statement, is_signed};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use snafu::{ResultExt, Snafu, ensure};

/// The version of the format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

const DOMAIN: &[u8] = b"marketrelay backup manifest v1\n";

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The version of the format.
    pub format: u32,
    /// The backup's id, such as `20261129T003250Z-5f0c1a2b`.
    pub backup: String,
    /// The connection's identity.
    pub connection_id: String,
    /// Its namespace when the backup was taken.
    pub namespace: String,
    /// Its name then.
    pub name: String,
    /// amazon, ebay or bol.
    pub marketplace: String,
    /// The version of the database's schema.
    pub schema: u32,
    /// When the snapshot was taken.
    pub created_at: Timestamp,
    /// Up to when the marketplace had told all shipments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_until: Option<Timestamp>,
    /// When the backup is pruned, at the latest.
    pub expires_at: Timestamp,
    /// The name of the backup identity that opens the data, such as `backup.20261229T000000Z`; it dies at that second.
    pub identity: String,
    /// Grows with each snapshot of the connection.
    pub sequence: u64,
    /// The names of the epoch keys that personal data in it is sealed under.
    pub keys: Vec<String>,
    /// What is in it.
    pub tables: Vec<Table>,
    /// The encrypted data.
    pub data: Data,
    /// The signed head of the audit log.
    pub audit: Statement,
    /// The hold whose archive it is: it holds what that keeps and nothing else. Absent from a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<OfHold>,
}

/// What an archive has of a hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfHold {
    /// The hold's id: the digest of its key, hex.
    pub id: String,
    /// Grows with each order that the hold keeps: the archive has those up to this one.
    pub revision: u64,
}

/// A table in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// Its name.
    pub name: String,
    /// How many rows.
    pub rows: u64,
    /// Over its head and its rows as they are in the data before compression, hex.
    pub sha256: String,
}

/// The encrypted data of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    /// How many bytes.
    pub bytes: u64,
    /// Over them, hex.
    pub sha256: String,
}

/// `manifest.json`: the manifest, and the relay's signature over its very bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedManifest {
    manifest: Box<RawValue>,
    public_key: String,
    signature: String,
}

/// What every version of the format has.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// Why a manifest can't be used.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ManifestError {
    #[snafu(display("the manifest can't be read: {source}"))]
    Parse { source: serde_json::Error },
    #[snafu(display(
        "the manifest is of format {format}, this program reads up to {FORMAT}: use a newer version of it"
    ))]
    Format { format: u32 },
    #[snafu(display("the manifest's signature is wrong: it was altered, or isn't signed with {public_key}"))]
    Signature { public_key: String },
    #[snafu(display("the manifest's signature is another key's: {found}, not {expected}"))]
    OtherKey { found: String, expected: String },
}

impl SignedManifest {
    /// Signs.
    pub fn sign(manifest: &Manifest, signer: &Signer) -> Result<Self, ManifestError> {
        let text = serde_json::value::to_raw_value(manifest).context(ParseSnafu)?;
        let signature = signer.sign_bytes(DOMAIN, text.get().as_bytes());
        Ok(Self { manifest: text, public_key: signer.public_key(), signature })
    }

    /// Reads the file, and checks the signature with the key that it names.
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        let signed: Self = serde_json::from_slice(json).context(ParseSnafu)?;
        let text = signed.manifest.get().as_bytes();
        let public_key = &signed.public_key;
        ensure!(
            is_signed(public_key, DOMAIN, text, &signed.signature),
            SignatureSnafu { public_key: public_key.as_str() }
        );
        Ok(signed)
    }

    /// What was signed. `public_key`: hex, the one that is known to be the relay's; `None` takes the file's word for it.
    pub fn manifest(&self, public_key: Option<&str>) -> Result<Manifest, ManifestError> {
        let expected = public_key.unwrap_or(&self.public_key);
        let found = self.public_key.as_str();
        ensure!(found == expected, OtherKeySnafu { found, expected });
        let Version { format } = serde_json::from_str(self.manifest.get()).context(ParseSnafu)?;
        ensure!((1..=FORMAT).contains(&format), FormatSnafu { format });
        serde_json::from_str(self.manifest.get()).context(ParseSnafu)
    }

    /// The key that it was signed with, Ed25519, hex.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// The file.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        serde_json::to_vec(self).context(ParseSnafu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(format: u32) -> (Manifest, Signer) {
        let signer = Signer::new(&[7; 32]).expect("a key");
        let position = marketrelay_audit::Position { sequence: 3, hash: [1; 32] };
        let audit = signer.sign(marketrelay_audit::Kind::Head, "chain", position, Timestamp::UNIX_EPOCH);
        let manifest = Manifest {
            format,
            backup: "20261129T003250Z-5f0c1a2b".to_owned(),
            connection_id: "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34".to_owned(),
            namespace: "acme".to_owned(),
            name: "bol".to_owned(),
            marketplace: "bol".to_owned(),
            schema: 7,
            created_at: Timestamp::UNIX_EPOCH,
            known_until: None,
            expires_at: Timestamp::MAX,
            identity: "backup.20261229T000000Z".to_owned(),
            sequence: 4,
            keys: Vec::new(),
            tables: vec![Table { name: "orders".to_owned(), rows: 2, sha256: "00".repeat(32) }],
            data: Data { bytes: 5, sha256: "11".repeat(32) },
            audit,
            hold: None,
        };
        (manifest, signer)
    }

    #[test]
    fn a_manifest_reads_back_and_no_altered_or_strangers_one_does() {
        let (manifest, signer) = manifest(FORMAT);
        let json =
            SignedManifest::sign(&manifest, &signer).and_then(|signed| signed.to_json()).expect("JSON");
        let read = SignedManifest::parse(&json).expect("its own");
        assert_eq!(read.manifest(Some(&signer.public_key())).expect("its own"), manifest);
        let stranger = Signer::new(&[8; 32]).expect("a key").public_key();
        assert!(matches!(read.manifest(Some(&stranger)), Err(ManifestError::OtherKey { .. })));
        let text = String::from_utf8(json).expect("text");
        for (from, to) in [("\"rows\":2", "\"rows\":3"), ("\"sequence\":4", "\"sequence\":5")] {
            let altered = text.replacen(from, to, 1);
            assert_ne!(altered, text);
            assert!(matches!(
                SignedManifest::parse(altered.as_bytes()),
                Err(ManifestError::Signature { .. })
            ));
        }
    }

    #[test]
    fn a_newer_format_is_named_and_not_guessed_at() {
        let (manifest, signer) = manifest(FORMAT + 1);
        let error = SignedManifest::sign(&manifest, &signer).and_then(|signed| signed.manifest(None));
        assert!(error.expect_err("newer").to_string().contains("format 2"));
    }
}
