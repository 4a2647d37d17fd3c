//! The server's TLS: its own certificate, and client certificates of the operator's authority.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// A certificate chain, its key and the authority of the clients, all PEM: the entries of a TLS Secret.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    /// `tls.crt`
    pub certificate: &'a [u8],
    /// `tls.key`
    pub key: &'a [u8],
    /// `ca.crt`
    pub authority: &'a [u8],
}

fn certificates(entry: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    read.map_err(|error| format!("entry {entry:?} isn't PEM: {error:?}"))
}

/// A client certificate is asked for in the handshake, and its role decides later: the kubelet's probes present none.
pub fn server_config(pem: Pem<'_>) -> Result<ServerConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut authorities = RootCertStore::empty();
    for certificate in certificates("ca.crt", pem.authority)? {
        authorities.add(certificate).map_err(|error| format!("entry \"ca.crt\": {error}"))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| format!("entry \"ca.crt\": {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(pem.key).map_err(|_| "entry \"tls.key\" isn't a PEM key")?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates("tls.crt", pem.certificate)?, key)
        .map_err(|error| format!("tls.crt and tls.key: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
