//! What is mounted.

use std::{collections::BTreeMap, path::Path};

use marketrelay_api::notices::NoticesConfig;
use marketrelay_marketplace::{Credentials, Endpoints, ebay};
use marketrelay_mtls::Pem;
use marketrelay_pod::mounts::{self, Entries, text};
use rustls::ServerConfig;
use snafu::{ResultExt, Whatever};
use zeroize::{Zeroize, Zeroizing};

const VERIFICATION_TOKEN: &str = "verificationToken";

/// The eBay application that is told of deleted accounts.
pub struct Application {
    /// For asking eBay for its keys.
    pub credentials: Credentials,
    /// As it is registered at eBay.
    pub verification_token: Zeroizing<String>,
}

/// Reads the configuration file.
pub fn config(path: &Path) -> Result<NoticesConfig, Whatever> {
    let text = std::fs::read_to_string(path);
    let text = text.with_whatever_context(|error| format!("can't read {}: {error}", path.display()))?;
    NoticesConfig::parse(&text)
        .with_whatever_context(|error| format!("{} can't be used: {error}", path.display()))
}

/// eBay's endpoints.
pub fn endpoints(config: &NoticesConfig) -> Endpoints {
    let told = |endpoints: &marketrelay_api::relay::MarketplaceEndpoints| Endpoints {
        api: endpoints.api.clone(),
        token: endpoints.token.clone(),
    };
    config.endpoints.as_ref().map_or_else(ebay::official_endpoints, told)
}

/// From the Secret's entries.
pub fn application(entries: &Entries) -> Result<Application, String> {
    let mut texts: BTreeMap<String, String> = entries
        .iter()
        .filter_map(|(name, bytes)| Some((name.clone(), std::str::from_utf8(bytes).ok()?.to_owned())))
        .collect();
    let credentials = Credentials::from_entries(&texts, false);
    texts.values_mut().for_each(Zeroize::zeroize);
    let verification_token =
        text(entries, VERIFICATION_TOKEN).filter(|token| is_token(token)).ok_or_else(|| {
            format!("entry {VERIFICATION_TOKEN:?} must be 32 to 80 letters, digits, - and _, as eBay asks")
        })?;
    Ok(Application { credentials: credentials.map_err(|error| error.to_string())?, verification_token })
}

fn is_token(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (32..=80).contains(&text.len()) && text.bytes().all(plain)
}

/// The server's TLS: its own certificate from `entries`, and the operator's authority, of which who reads metrics has a
/// certificate, from `identity`.
pub fn server_config(entries: &Entries, identity: &Path) -> Result<ServerConfig, String> {
    let identity =
        mounts::entries(identity).map_err(|error| format!("can't read {}: {error}", identity.display()))?;
    let pem = Pem {
        certificate: entry(entries, "tls.crt")?,
        key: entry(entries, "tls.key")?,
        authority: entry(&identity, "ca.crt")?,
    };
    marketrelay_mtls::server_config(pem)
}

fn entry<'a>(entries: &'a Entries, name: &str) -> Result<&'a [u8], String> {
    let bytes = entries.get(name).map(|bytes| bytes.as_slice());
    bytes.ok_or_else(|| format!("the Secret has no entry {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verification_token_that_ebay_would_refuse_is_refused() {
        let entries = |token: &str| -> Entries {
            let texts = [("clientId", "a"), ("clientSecret", "b"), (VERIFICATION_TOKEN, token)];
            texts.map(|(name, text)| (name.to_owned(), Zeroizing::new(text.as_bytes().to_vec()))).into()
        };
        assert!(application(&entries(&"a-_9".repeat(8))).is_ok());
        for token in ["", "short", &"a b ".repeat(8), &"a".repeat(81)] {
            let error = application(&entries(token)).err().expect("refused");
            assert!(error.contains("32 to 80"), "{error}");
        }
    }
}
