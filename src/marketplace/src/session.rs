//! Calls with a token, within the rate limit.

use reqwest::{Client, RequestBuilder};
use url::Url;

use crate::{
    CollectError, Credentials,
    http::{Answer, send},
    limits::Limit,
    token::Tokens,
};

/// Puts the token and the marketplace's own headers on a request.
pub(crate) type Dress = fn(RequestBuilder, &str) -> RequestBuilder;

pub(crate) struct Session {
    http: Client,
    api: Url,
    tokens: Tokens,
    dress: Dress,
}

impl Session {
    pub(crate) fn new(http: Client, api: Url, tokens: Tokens, dress: Dress) -> Self {
        Self { http, api, tokens, dress }
    }

    pub(crate) fn set_credentials(&mut self, credentials: Credentials) {
        self.tokens.set_credentials(credentials);
    }

    /// A URL below the API's base; the segments are escaped.
    pub(crate) fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.api.clone();
        // Only a URL that can't be a base has no segments, and such a one has no host to call.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Gets `url`. A refused token is forgotten and the call repeated once with a new one. Every status but those of
    /// refused credentials, of throttling and of the server's own failures is the caller's to judge.
    pub(crate) async fn get(
        &mut self,
        limit: &mut Limit,
        call: &'static str,
        url: Url,
    ) -> Result<Answer, CollectError> {
        let mut answer = self.once(limit, call, url.clone()).await?;
        if matches!(answer.status.as_u16(), 401 | 403) {
            self.tokens.forget();
            answer = self.once(limit, call, url).await?;
        }
        if let Some(pause) = answer.exhausted() {
            limit.rest(pause);
        }
        match answer.failure(call) {
            Some(CollectError::Throttled { call, retry_after }) => {
                Err(CollectError::Throttled { call, retry_after: Some(limit.close(retry_after)) })
            }
            Some(error @ (CollectError::Unauthorized { .. } | CollectError::Unavailable { .. })) => {
                Err(error)
            }
            _ => Ok(answer),
        }
    }

    /// As [`get`](Self::get), but any status other than success is an error.
    pub(crate) async fn get_ok(
        &mut self,
        limit: &mut Limit,
        call: &'static str,
        url: Url,
    ) -> Result<Answer, CollectError> {
        let answer = self.get(limit, call, url).await?;
        answer.failure(call).map_or(Ok(answer), Err)
    }

    /// Gets what needs no token.
    pub(crate) async fn get_public(&self, call: &'static str, url: Url) -> Result<Answer, CollectError> {
        let answer = send(call, self.http.get(url)).await?;
        answer.failure(call).map_or(Ok(answer), Err)
    }

    async fn once(&mut self, limit: &Limit, call: &'static str, url: Url) -> Result<Answer, CollectError> {
        limit.turn(call).await?;
        let token = self.tokens.get(&self.http).await?;
        send(call, (self.dress)(self.http.get(url), &token)).await
    }
}
