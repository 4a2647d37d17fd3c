//! Access tokens: fetched, kept until shortly before they expire, forgotten when refused.

use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use crate::{
    CollectError, Credentials,
    http::{Answer, send},
};

const CALL: &str = "token";
/// A token is renewed this long before it expires, or in the last fifth of a short life.
const LEAD: Duration = Duration::from_mins(1);
const LONGEST_LIFE: u64 = 86_400;
const EBAY_PUBLIC_DATA: &str = "https://api.ebay.com/oauth/api_scope";

/// How a marketplace gives tokens.
#[derive(Clone, Copy)]
pub(crate) enum Grant {
    /// Amazon's login: a refresh token, the client's id and secret in the form.
    RefreshTokenForm,
    /// eBay: a refresh token, the client's id and secret as Basic authentication.
    RefreshTokenBasic,
    /// eBay, for what belongs to no seller: the client's id and secret as Basic authentication, for public data.
    EbayApplication,
    /// Bol.com: the client's id and secret as Basic authentication. Its refresh tokens belong to the code flow and are
    /// good for a single use; this grant needs none.
    ClientCredentials,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: i64,
    #[serde(default)]
    refresh_token: Option<String>,
}

struct Held {
    token: Zeroizing<String>,
    renew_at: Instant,
}

pub(crate) struct Tokens {
    endpoint: Url,
    grant: Grant,
    credentials: Credentials,
    /// The refresh token that the last answer put in the place of the one that it used up.
    successor: Option<Zeroizing<String>>,
    held: Option<Held>,
}

impl Tokens {
    pub(crate) fn new(endpoint: Url, grant: Grant, credentials: Credentials) -> Self {
        Self { endpoint, grant, credentials, successor: None, held: None }
    }

    pub(crate) fn set_credentials(&mut self, credentials: Credentials) {
        self.credentials = credentials;
        self.successor = None;
        self.forget();
    }

    pub(crate) fn forget(&mut self) {
        self.held = None;
    }

    /// A token that is good now.
    pub(crate) async fn get(&mut self, http: &Client) -> Result<Zeroizing<String>, CollectError> {
        if let Some(held) = self.held.as_ref().filter(|held| Instant::now() < held.renew_at) {
            return Ok(held.token.clone());
        }
        let asked = Instant::now();
        let mut answer = send(CALL, self.request(http)).await?;
        if refused(&answer) && self.successor.take().is_some() {
            // The Secret's own refresh token may be the one that still counts.
            answer = send(CALL, self.request(http)).await?;
        }
        if answer.status.as_u16() == 400 {
            return Err(CollectError::Unauthorized { call: CALL, status: 400, code: answer.code() });
        }
        if let Some(failure) = answer.failure(CALL) {
            return Err(failure);
        }
        let granted: Granted = answer.parse(CALL)?;
        let life = Duration::from_secs(u64::try_from(granted.expires_in).unwrap_or(0).min(LONGEST_LIFE));
        let token = Zeroizing::new(granted.access_token);
        self.held =
            Some(Held { token: token.clone(), renew_at: asked + life.saturating_sub(LEAD.min(life / 5)) });
        if let Some(successor) = granted.refresh_token.filter(|token| !token.is_empty()) {
            self.successor = Some(Zeroizing::new(successor));
        }
        Ok(token)
    }

    fn request(&self, http: &Client) -> RequestBuilder {
        let Credentials { client_id, client_secret, refresh_token } = &self.credentials;
        let successor = self.successor.as_deref().map(String::as_str);
        let refresh = successor.or(refresh_token.as_deref()).unwrap_or_default();
        let request = http.post(self.endpoint.clone());
        match self.grant {
            Grant::RefreshTokenForm => request.form(&[
                ("grant_type", "refresh_token"),
                ("refresh_token", refresh),
                ("client_id", client_id),
                ("client_secret", client_secret),
            ]),
            Grant::RefreshTokenBasic => request
                .basic_auth(client_id, Some(client_secret))
                .form(&[("grant_type", "refresh_token"), ("refresh_token", refresh)]),
            Grant::EbayApplication => request
                .basic_auth(client_id, Some(client_secret))
                .form(&[("grant_type", "client_credentials"), ("scope", EBAY_PUBLIC_DATA)]),
            Grant::ClientCredentials => request
                .basic_auth(client_id, Some(client_secret))
                .form(&[("grant_type", "client_credentials")]),
        }
    }
}

fn refused(answer: &Answer) -> bool {
    matches!(answer.status.as_u16(), 400 | 401)
}
