//! The HTTP client of a store: every answer that isn't a success becomes an error that says what the store said.

use std::time::Duration;

use async_trait::async_trait;
use marketrelay_pod::tls;
use object_store::{
    ClientOptions,
    client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService},
};
use snafu::{ResultExt, Whatever};
use tokio::time::timeout;

const CONNECT: Duration = Duration::from_secs(10);
/// Between two reads of an answer.
const READ: Duration = Duration::from_mins(1);
/// Until an answer begins: the request with its body, which is one part at most, is sent within it.
const ANSWER: Duration = Duration::from_mins(3);

/// The client.
#[derive(Clone, Debug)]
pub(super) struct Client(reqwest::Client);

impl Client {
    /// Trusts the public authorities and these, PEM.
    pub fn new(extra_ca: &str) -> Result<Self, Whatever> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::public(extra_ca)?)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .https_only(true)
            .http1_only()
            .connect_timeout(CONNECT)
            .read_timeout(READ)
            .user_agent(tls::USER_AGENT)
            .build();
        Ok(Self(http.whatever_context("HTTP client")?))
    }
}

impl HttpConnector for Client {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = timeout(ANSWER, self.0.call(request)).await;
        let answer = answer.unwrap_or_else(|late| Err(HttpError::new(HttpErrorKind::Timeout, late)));
        let answer = answer.inspect_err(|error| tracing::debug!(%error, "the store doesn't answer"))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let (status, body) = (answer.status(), answer.into_body().bytes().await);
        let refusal = super::Refusal::new(status, &body.unwrap_or_default());
        // What may pass is tried again, as it would be by the status.
        let kind = if refusal.is_passing() { HttpErrorKind::Request } else { HttpErrorKind::Unknown };
        tracing::debug!(%refusal, "the store refuses");
        Err(HttpError::new(kind, refusal))
    }
}
