//! Notification API v1: the public keys that eBay's notices are signed with.

use std::time::Duration;

use reqwest::Client;
use serde::Deserialize;

use super::dress;
use crate::{
    CollectError, Credentials, Endpoints,
    limits::Limit,
    session::Session,
    token::{Grant, Tokens},
    wire::null_as_default,
};

const CALL: &str = "getPublicKey";
const PERIOD: Duration = Duration::from_secs(1);
const BURST: u32 = 10;

/// A public key as eBay describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PublicKey {
    /// `ECDSA`.
    #[serde(deserialize_with = "null_as_default")]
    pub algorithm: String,
    /// `SHA1`.
    #[serde(deserialize_with = "null_as_default")]
    pub digest: String,
    /// PEM of the key, as a rule without line breaks.
    #[serde(deserialize_with = "null_as_default")]
    pub key: String,
}

/// Asks eBay for public keys, as an application and for no seller.
pub struct PublicKeys {
    session: Session,
    limit: Limit,
}

impl PublicKeys {
    /// For the application that `credentials` belong to; they need no refresh token.
    pub fn new(http: Client, endpoints: Endpoints, credentials: Credentials) -> Self {
        let tokens = Tokens::new(endpoints.token, Grant::EbayApplication, credentials);
        Self { session: Session::new(http, endpoints.api, tokens, dress), limit: Limit::new(PERIOD, BURST) }
    }

    /// Takes new credentials; the token of the old ones is forgotten.
    pub fn set_credentials(&mut self, credentials: Credentials) {
        self.session.set_credentials(credentials);
    }

    /// The key of this id; `None` if eBay has none.
    pub async fn get(&mut self, id: &str) -> Result<Option<PublicKey>, CollectError> {
        let url = self.session.url(&["commerce", "notification", "v1", "public_key", id], &[]);
        let answer = self.session.get(&mut self.limit, CALL, url).await?;
        if matches!(answer.status.as_u16(), 400 | 404) {
            return Ok(None);
        }
        answer.failure(CALL).map_or_else(|| answer.parse(CALL).map(Some), Err)
    }
}
