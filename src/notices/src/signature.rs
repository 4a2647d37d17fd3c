//! eBay's signature of a notice: ECDSA over P-256 and SHA-1 of the body as it came, in the header `X-EBAY-SIGNATURE`.

use aws_lc_rs::{
    digest::{Digest, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest},
    signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use marketrelay_marketplace::ebay::PublicKey;
use serde::Deserialize;

/// The header's name.
pub const HEADER: &str = "x-ebay-signature";

/// eBay's are about 300 bytes.
const LONGEST_HEADER: usize = 2048;
/// eBay's are UUIDs.
const LONGEST_ID: usize = 64;
const P256_BYTES: usize = 32;

/// The decoded header. What it says of the algorithm is the sender's word and isn't used.
#[derive(Debug, PartialEq, Eq)]
pub struct Signature {
    /// Id of the key: letters, digits, `-` and `_`.
    pub key_id: String,
    der: Vec<u8>,
}

#[derive(Deserialize)]
struct Decoded {
    kid: String,
    signature: String,
}

impl Signature {
    /// Reads the header; `None` if it isn't one of eBay's.
    pub fn parse(header: &[u8]) -> Option<Self> {
        if header.len() > LONGEST_HEADER {
            return None;
        }
        let Decoded { kid, signature } =
            serde_json::from_slice(&BASE64_STANDARD.decode(header.trim_ascii()).ok()?).ok()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let is_id = (1..=LONGEST_ID).contains(&kid.len()) && kid.chars().all(plain);
        let der = BASE64_STANDARD.decode(signature).ok()?;
        is_id.then_some(Self { key_id: kid, der })
    }
}

/// One of eBay's keys.
#[derive(Debug)]
pub struct VerifyingKey(ParsedPublicKey);

impl VerifyingKey {
    /// From eBay's answer; `None` if it isn't a P-256 key for ECDSA with SHA-1.
    pub fn parse(key: &PublicKey) -> Option<Self> {
        let says = |said: &str, word: &str| said.eq_ignore_ascii_case(word);
        if !says(&key.algorithm, "ECDSA") || !says(&key.digest, "SHA1") {
            return None;
        }
        let inner = key.key.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?;
        let inner = inner.strip_suffix("-----END PUBLIC KEY-----")?;
        let base64: String = inner.split_ascii_whitespace().collect();
        let der = BASE64_STANDARD.decode(base64).ok()?;
        ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, der).ok().map(Self)
    }

    /// Whether the signature is of this body.
    pub fn verifies(&self, body: &[u8], signature: &Signature) -> bool {
        number(body).is_some_and(|number| self.0.verify_digest_sig(&number, &signature.der).is_ok())
    }
}

/// What ECDSA signs is a number of 256 bits. SHA-1's 160 bits, with zeros before them, are the same number, and come so past
/// the library, which offers no ECDSA with SHA-1.
fn number(body: &[u8]) -> Option<Digest> {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, body);
    let mut number = [0; P256_BYTES];
    number[P256_BYTES - hash.as_ref().len()..].copy_from_slice(hash.as_ref());
    Digest::import_less_safe(&number, &SHA256).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // The test vector that eBay publishes with its SDKs for event notifications.
    const HEADER: &str = "eyJhbGciOiJlY2RzYSIsImtpZCI6Ijk5MzYyNjFhLTdkN2ItNDYyMS1hMGYxLTk2Y2NiNDI4YWY0OSIsInNpZ25hdHVyZSI6Ik1FWUNJUUNmeGZJV3V4bVdjSUJRSjljNS9YN2lHREpxczJSQ0dzQkVhQWppbnlycmZBSWhBSVY2d0djVGlCdVY1S0pVaWYyaG9reXJMK1E5c3NIa2FkK214Mm5FRTI1dyIsImRpZ2VzdCI6IlNIQTEifQ==";
    const BODY: &str = r#"{"metadata":{"topic":"MARKETPLACE_ACCOUNT_DELETION","schemaVersion":"1.0","deprecated":false},"notification":{"notificationId":"49feeaeb-4982-42d9-a377-9645b8479411_33f7e043-fed8-442b-9d44-791923bd9a6d","eventDate":"2021-03-19T20:43:59.462Z","publishDate":"2021-03-19T20:43:59.679Z","publishAttemptCount":1,"data":{"username":"test_user","userId":"ma8vp1jySJC","eiasToken":"nY+sHZ2PrBmdj6wVnY+sEZ2PrA2dj6wJnY+gAZGEpwmdj6x9nY+seQ=="}}}"#;
    const PEM: &str = "-----BEGIN PUBLIC KEY-----MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEZhhxXKtR+TOvtDbgTPCkSof02qgBB7IsYOyf76ilExJ/upAa/vKIKheOoCyOpcLmi4t0b4uepb7LLjmMr90FUg==-----END PUBLIC KEY-----";

    fn public_key(key: &str) -> PublicKey {
        PublicKey { algorithm: "ECDSA".to_owned(), digest: "SHA1".to_owned(), key: key.to_owned() }
    }

    fn header(kid: &str, signature: &str) -> String {
        let json = serde_json::json!({"alg": "ecdsa", "kid": kid, "signature": signature, "digest": "SHA1"});
        BASE64_STANDARD.encode(json.to_string())
    }

    #[test]
    fn a_signature_of_ebays_holds_for_its_body_and_for_no_other() {
        let signature = Signature::parse(HEADER.as_bytes()).expect("a header");
        assert_eq!(signature.key_id, "9936261a-7d7b-4621-a0f1-96ccb428af49");
        let key = VerifyingKey::parse(&public_key(PEM)).expect("a key");
        assert!(key.verifies(BODY.as_bytes(), &signature));
        assert!(!key.verifies(BODY.replace("test_user", "test_usel").as_bytes(), &signature));
        assert!(!key.verifies(b"", &signature));
        let other = "MEUCIQCGcSnmAkTfrK+Z2Vg0bWEos8a/teBqi7Pe68+hGmLMCQIgeFvkrto+8ds8RVwI3Ggn1mMGCrNMEZJ3SRlO2fx/qrI=";
        let other = Signature::parse(header("k", other).as_bytes()).expect("a header");
        assert!(!key.verifies(BODY.as_bytes(), &other));
    }

    #[test]
    fn a_key_is_read_with_and_without_line_breaks_and_of_no_other_algorithm() {
        let broken =
            PEM.replace("-----MFkw", "-----\nMFkw").replace("==-----", "==\n-----").replace("Az", "Az\n");
        assert!(VerifyingKey::parse(&public_key(&broken)).is_some());
        for (algorithm, digest, key) in [
            ("RSA", "SHA1", PEM),
            ("ECDSA", "MD5", PEM),
            ("ECDSA", "SHA1", "MFkw"),
            ("ECDSA", "SHA1", "-----BEGIN PUBLIC KEY-----AAAA-----END PUBLIC KEY-----"),
        ] {
            let key = PublicKey { algorithm: algorithm.into(), digest: digest.into(), key: key.into() };
            assert!(VerifyingKey::parse(&key).is_none(), "{algorithm} {digest}");
        }
    }

    #[test]
    fn an_id_that_could_be_more_than_an_id_is_refused() {
        for kid in ["", "../../oauth2/token", "a b", "ä", &"a".repeat(65)] {
            assert_eq!(Signature::parse(header(kid, "AAAA").as_bytes()), None, "{kid}");
        }
    }

    proptest! {
        #[test]
        fn no_header_and_no_body_is_a_crash(
            kid in "[a-z-]{1,8}",
            der in prop::collection::vec(any::<u8>(), 0..80),
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = (Signature::parse(&bytes), Signature::parse(BASE64_STANDARD.encode(&bytes).as_bytes()));
            let signature = Signature::parse(header(&kid, &BASE64_STANDARD.encode(der)).as_bytes());
            let key = VerifyingKey::parse(&public_key(PEM)).expect("a key");
            prop_assert!(!key.verifies(&bytes, &signature.expect("a header")));
        }

        #[test]
        fn no_key_is_a_crash(text in "(-----BEGIN PUBLIC KEY-----)?[A-Za-z0-9+/=\\s]*(-----END PUBLIC KEY-----)?|\\PC*") {
            let _ = VerifyingKey::parse(&public_key(&text));
        }
    }
}
