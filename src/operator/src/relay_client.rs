//! The operator as a client of its relays' admin API.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use marketrelay_api::relay::{
    Affected, AffectedQuery, Erasure, ErasureAnswer, RelayStatus, SubjectAnswer, paths,
};
use reqwest::{
    Client, Method, RequestBuilder,
    dns::{Addrs, Name, Resolve, Resolving},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde::de::DeserializeOwned;
use snafu::{ResultExt, Snafu};

use crate::{
    names::Names,
    pki::{Authority, PkiError, Subject},
};

/// For a whole call; a slow relay must not hold up the others.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Relays on a lost node must not use up the workers.
const CONNECT: Duration = Duration::from_secs(1);
/// A buyer of many orders takes a relay longer than a look at its status.
const ERASING: Duration = Duration::from_secs(20);
/// A status is about a kilobyte.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Why a relay can't be asked.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum AskError {
    #[snafu(display("no answer: {detail}"))]
    Unreachable { detail: String },
    #[snafu(display("HTTP {status}"))]
    Status { status: u16 },
    #[snafu(display("the answer isn't a relay's"))]
    Unreadable,
}

/// Why the client can't be made.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ClientError {
    #[snafu(display("{source}"), context(false))]
    Pki { source: PkiError },
    #[snafu(display("TLS: {source}"), context(false))]
    Tls { source: rustls::Error },
    #[snafu(display("PEM: {source}"))]
    Pem { source: rustls::pki_types::pem::Error },
    #[snafu(display("HTTP client: {source}"), context(false))]
    Http { source: reqwest::Error },
}

/// Where a relay is, by its host name, in place of the cluster's DNS.
pub type Addresses = Arc<dyn Fn(&str) -> SocketAddr + Send + Sync>;

/// Asks relays, with a certificate that is replaced while it runs.
pub struct RelayClient {
    current: ArcSwap<(Client, Timestamp)>,
    authority: Arc<Authority>,
    addresses: Option<Addresses>,
}

impl RelayClient {
    /// With a certificate of the operator's role; without `addresses` the cluster's DNS says where relays are.
    pub fn new(
        authority: Arc<Authority>,
        addresses: Option<Addresses>,
        now: Timestamp,
    ) -> Result<Self, ClientError> {
        let current = ArcSwap::from_pointee(client(&authority, addresses.clone(), now)?);
        Ok(Self { current, authority, addresses })
    }

    /// The status of a connection's relay.
    pub async fn status(&self, namespace: &str, name: &str) -> Result<RelayStatus, AskError> {
        answer(self.request(Method::GET, namespace, name, "status")).await
    }

    /// How many orders a shorter retention concerns.
    pub async fn affected(
        &self,
        namespace: &str,
        name: &str,
        query: AffectedQuery,
    ) -> Result<Affected, AskError> {
        answer(self.request(Method::GET, namespace, name, "affected").query(&query)).await
    }

    /// Has a connection's relay erase; the same uid gets the same answer.
    pub async fn erase(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        erasure: &Erasure,
    ) -> Result<ErasureAnswer, AskError> {
        let request = self.request(Method::PUT, namespace, name, &format!("erasures/{uid}"));
        answer(request.json(erasure).timeout(ERASING)).await
    }

    /// How many orders of a connection's relay have the subject in them.
    pub async fn knows(
        &self,
        namespace: &str,
        name: &str,
        subject: &Erasure,
    ) -> Result<SubjectAnswer, AskError> {
        answer(self.request(Method::POST, namespace, name, "subjects").json(subject)).await
    }

    fn request(&self, method: Method, namespace: &str, name: &str, path: &str) -> RequestBuilder {
        let url = format!("https://{}:{}/v1/{path}", Names(name).host(namespace), paths::ADMIN_PORT);
        self.client().request(method, url)
    }

    fn client(&self) -> Client {
        let now = Timestamp::now();
        let current = self.current.load();
        if current.1 > now {
            return current.0.clone();
        }
        match client(&self.authority, self.addresses.clone(), now) {
            Ok(renewed) => {
                let http = renewed.0.clone();
                self.current.store(Arc::new(renewed));
                http
            }
            Err(error) => {
                tracing::error!(%error, "the client certificate can't be renewed");
                current.0.clone()
            }
        }
    }
}

async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, AskError> {
    let unreachable = |error: reqwest::Error| UnreachableSnafu { detail: innermost(&error) }.build();
    let mut response = request.send().await.map_err(unreachable)?;
    snafu::ensure!(response.status().is_success(), StatusSnafu { status: response.status().as_u16() });
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        snafu::ensure!(body.len() + chunk.len() <= LARGEST_ANSWER, UnreadableSnafu);
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).ok().ok_or(AskError::Unreadable)
}

/// A client, and when its certificate is to be replaced. Connections aren't kept: thousands of idle ones would cost
/// more memory than a handshake every few seconds costs time.
fn client(
    authority: &Authority,
    addresses: Option<Addresses>,
    now: Timestamp,
) -> Result<(Client, Timestamp), ClientError> {
    let issued = authority.issue(&Subject::Operator, now)?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).context(PemSnafu)?)?;
    let chain = vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).context(PemSnafu)?];
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).context(PemSnafu)?;
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    let builder = match addresses {
        Some(addresses) => Client::builder().dns_resolver(Arc::new(Book(addresses))),
        None => Client::builder(),
    };
    let http = builder
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .https_only(true)
        .http1_only()
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT)
        .timeout(TIMEOUT)
        .build()?;
    Ok((http, issued.renew_after))
}

fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("nothing within {} s", TIMEOUT.as_secs());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

struct Book(Addresses);

impl Resolve for Book {
    fn resolve(&self, name: Name) -> Resolving {
        let address = (self.0)(name.as_str());
        let addresses: Addrs = Box::new(std::iter::once(address));
        Box::pin(std::future::ready(Ok(addresses)))
    }
}
