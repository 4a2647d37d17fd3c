//! TLS as a client: the public authorities and those of the configuration; TLS 1.2 or newer.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use snafu::{ResultExt, Whatever};

use crate::egress::Egress;

/// What every request says of itself.
pub const USER_AGENT: &str = concat!("marketrelay/", env!("CARGO_PKG_VERSION"), " (Language=Rust)");

/// A client that follows no redirect, uses no proxy and connects to allowed addresses alone.
pub fn http_client(egress: &Egress, extra_ca: &str) -> Result<reqwest::Client, Whatever> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for certificate in CertificateDer::pem_slice_iter(extra_ca.as_bytes()) {
        let certificate = certificate.whatever_context("egress.extraCaCertificates isn't PEM")?;
        roots
            .add(certificate)
            .whatever_context("egress.extraCaCertificates holds no certificate authority")?;
    }
    let mut tls =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .whatever_context("TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(Arc::new(egress.clone()))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .https_only(true)
        .connect_timeout(Duration::from_secs(10))
        .pool_idle_timeout(Duration::from_secs(30))
        .user_agent(USER_AGENT)
        .build()
        .whatever_context("HTTP client")
}
