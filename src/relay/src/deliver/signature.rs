//! Signatures of the Standard Webhooks specification.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use crate::mounts::{Entries, text};

const PREFIX: &str = "whsec_";
const ENTRIES: [&str; 2] = ["signingSecret", "previousSigningSecret"];

/// The keys that a message is signed with: the current one and, while rotating, the previous one.
pub struct Signer {
    keys: Vec<hmac::Key>,
    secrets: Zeroizing<Vec<u8>>,
}

impl Signer {
    /// From the entries of the signing Secret.
    pub fn from_entries(entries: &Entries) -> Result<Self, String> {
        let (mut keys, mut secrets) = (Vec::new(), Zeroizing::new(Vec::new()));
        for name in ENTRIES {
            match text(entries, name) {
                Some(secret) => {
                    keys.push(key(name, &secret)?);
                    secrets.extend_from_slice(secret.as_bytes());
                }
                None if name == ENTRIES[0] => {
                    return Err(format!("the signing Secret has no entry {name:?}"));
                }
                None => {}
            }
        }
        Ok(Self { keys, secrets })
    }

    /// The secrets themselves, to see whether they changed.
    pub fn identity(&self) -> &[u8] {
        &self.secrets
    }

    /// The value of `webhook-signature`: one signature per key.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let sign = |key| {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{timestamp}.").as_bytes());
            context.update(body);
            format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
        };
        self.keys.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

fn key(name: &str, secret: &str) -> Result<hmac::Key, String> {
    let decoded = secret.strip_prefix(PREFIX).and_then(|text| BASE64_STANDARD.decode(text).ok());
    match decoded.map(Zeroizing::new) {
        Some(bytes) if (24..=64).contains(&bytes.len()) => Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes)),
        _ => {
            Err(format!("entry {name:?} of the signing Secret must be {PREFIX} and 24 to 64 bytes in base64"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(entries: &[(&str, &str)]) -> Result<Signer, String> {
        let entries = entries.iter();
        Signer::from_entries(
            &entries
                .map(|(name, text)| ((*name).to_owned(), Zeroizing::new(text.as_bytes().to_vec())))
                .collect(),
        )
    }

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// The example of the Standard Webhooks specification.
    #[test]
    fn a_message_is_signed_as_the_specification_shows() {
        let signer = signer(&[("signingSecret", SECRET)]).expect("a signer");
        let signature =
            signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_message_carries_both_signatures_while_the_secret_is_rotated() {
        let other = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
        let signer =
            signer(&[("signingSecret", other), ("previousSigningSecret", SECRET)]).expect("a signer");
        let signature =
            signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert!(signature.ends_with(" v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="), "{signature}");
    }

    #[test]
    fn an_unusable_secret_is_refused_by_its_entry_and_never_shown() {
        for entries in [&[][..], &[("signingSecret", "hunter2")], &[("signingSecret", "whsec_AAAA")]] {
            let error = signer(entries).err().expect("refused");
            assert!(error.contains("signingSecret") && !error.contains("hunter2"), "{error}");
        }
    }
}
