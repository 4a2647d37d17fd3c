//! Access tokens: fetched, kept until shortly before they expire, forgotten when refused.

use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use crate::{CollectError, Credentials, http::send};

const CALL: &str = "token";
/// A token is renewed this long before it expires, or earlier in its life's last fifth.
const LEAD: SignedDuration = SignedDuration::from_secs(60);

/// How a marketplace gives tokens.
#[derive(Clone, Copy)]
pub(crate) enum Grant {
    /// Amazon's login: a refresh token, the client's id and secret in the form.
    RefreshTokenForm,
    /// eBay: a refresh token, the client's id and secret as Basic authentication.
    RefreshTokenBasic,
    /// Bol.com: the client's id and secret as Basic authentication.
    ClientCredentials,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: i64,
}

struct Held {
    token: Zeroizing<String>,
    renew_at: Timestamp,
}

pub(crate) struct Tokens {
    endpoint: Url,
    grant: Grant,
    credentials: Credentials,
    held: Option<Held>,
}

impl Tokens {
    pub(crate) fn new(endpoint: Url, grant: Grant, credentials: Credentials) -> Self {
        Self { endpoint, grant, credentials, held: None }
    }

    pub(crate) fn set_credentials(&mut self, credentials: Credentials) {
        self.credentials = credentials;
        self.forget();
    }

    pub(crate) fn forget(&mut self) {
        self.held = None;
    }

    /// A token that is good now.
    pub(crate) async fn get(
        &mut self,
        http: &Client,
        now: Timestamp,
    ) -> Result<Zeroizing<String>, CollectError> {
        if let Some(held) = self.held.as_ref().filter(|held| now < held.renew_at) {
            return Ok(held.token.clone());
        }
        let answer = send(CALL, self.request(http)).await?;
        if answer.status.as_u16() == 400 {
            return Err(CollectError::Unauthorized { call: CALL, status: 400, code: answer.code() });
        }
        if let Some(failure) = answer.failure(CALL) {
            return Err(failure);
        }
        let granted: Granted = answer.parse(CALL)?;
        let life = SignedDuration::from_secs(granted.expires_in.clamp(0, 86_400));
        let token = Zeroizing::new(granted.access_token);
        self.held = Some(Held { token: token.clone(), renew_at: now + (life - LEAD.min(life / 5)) });
        Ok(token)
    }

    fn request(&self, http: &Client) -> RequestBuilder {
        let Credentials { client_id, client_secret, refresh_token } = &self.credentials;
        let refresh = refresh_token.as_deref().unwrap_or_default();
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
            Grant::ClientCredentials => request
                .basic_auth(client_id, Some(client_secret))
                .form(&[("grant_type", "client_credentials")]),
        }
    }
}
