//! Handing a notice to the operator, over mutual TLS.

use std::{net::SocketAddr, time::Duration};

use marketrelay_api::notices::{EbayNotice, HAND_OVER};
use marketrelay_pod::{mounts::Entries, tls};
use reqwest::{Client, StatusCode};
use snafu::{Snafu, ensure};
use url::Url;

/// A little more than the operator gives itself.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(3);

/// Why a notice isn't with the operator.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum HandOverError {
    #[snafu(display("the operator can't be reached"))]
    Unreachable,
    #[snafu(display("the operator answers HTTP {status}"))]
    Status { status: u16 },
}

/// The operator as a server.
pub struct Operator {
    http: Client,
    url: Url,
}

impl Operator {
    /// With the identity that is mounted; at `address` instead of where the cluster's DNS says.
    pub fn new(entries: &Entries, base: &Url, address: Option<SocketAddr>) -> Result<Self, String> {
        let mut url = base.clone();
        url.set_path(HAND_OVER);
        let tls = tls::mutual(entries).map_err(|error| error.to_string())?;
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .https_only(true)
            .http1_only()
            .connect_timeout(CONNECT)
            .timeout(TIMEOUT);
        if let (Some(host), Some(address)) = (base.host_str(), address) {
            // A resolved name has no port: the URL's counts.
            let has_port = url.set_port(Some(address.port())).is_ok();
            debug_assert!(has_port, "an https URL can have a port");
            builder = builder.resolve(host, address);
        }
        let http = builder.build().map_err(|error| format!("HTTP client: {error}"))?;
        Ok(Self { http, url })
    }

    /// Once it is done, the notice has become erasure requests. An error tells nothing of the notice.
    pub async fn hand_over(&self, notice: &EbayNotice) -> Result<(), HandOverError> {
        let sent = self.http.post(self.url.clone()).json(notice).send().await;
        let status = sent.ok().ok_or(HandOverError::Unreachable)?.status();
        ensure!(status == StatusCode::NO_CONTENT, StatusSnafu { status: status.as_u16() });
        Ok(())
    }
}
