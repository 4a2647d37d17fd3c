//! TLS as a client; TLS 1.2 or newer.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use snafu::{OptionExt, ResultExt, Whatever};

use crate::{egress::Egress, mounts::Entries};

/// What every request says of itself.
pub const USER_AGENT: &str = concat!("marketrelay/", env!("CARGO_PKG_VERSION"), " (Language=Rust)");

/// A client that follows no redirect, uses no proxy and connects to allowed addresses alone.
pub fn http_client(egress: &Egress, extra_ca: &str) -> Result<reqwest::Client, Whatever> {
    let mut tls = public(extra_ca)
        .with_whatever_context(|error| format!("egress.extraCaCertificates can't be used: {error}"))?;
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

/// Trusts the public authorities and these, PEM.
pub fn public(extra_ca: &str) -> Result<ClientConfig, Whatever> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    add(&mut roots, extra_ca.as_bytes())?;
    Ok(builder()?.with_root_certificates(roots).with_no_client_auth())
}

/// Trusts `ca.crt` alone and shows `tls.crt`: the entries of a TLS Secret that the operator issued.
pub fn mutual(entries: &Entries) -> Result<ClientConfig, Whatever> {
    let entry = |name: &str| {
        let bytes = entries.get(name).map(|bytes| bytes.as_slice());
        bytes.with_whatever_context(|| format!("the Secret has no entry {name:?}"))
    };
    let mut roots = RootCertStore::empty();
    let added = add(&mut roots, entry("ca.crt")?);
    added.with_whatever_context(|error| format!("entry \"ca.crt\": {error}"))?;
    let chain = CertificateDer::pem_slice_iter(entry("tls.crt")?).collect::<Result<_, _>>();
    let chain = chain.ok().whatever_context("entry \"tls.crt\" isn't PEM")?;
    let key = PrivateKeyDer::from_pem_slice(entry("tls.key")?);
    let key = key.ok().whatever_context("entry \"tls.key\" isn't a PEM key")?;
    let config = builder()?.with_root_certificates(roots).with_client_auth_cert(chain, key);
    config.with_whatever_context(|error| format!("tls.crt and tls.key: {error}"))
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Whatever> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .whatever_context("TLS")
}

fn add(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), Whatever> {
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.whatever_context("the certificates aren't PEM")?;
        roots
            .add(certificate)
            .with_whatever_context(|error| format!("not a certificate of an authority: {error}"))?;
    }
    Ok(())
}
