//! The admin API's TLS: its own certificate, and client certificates of the operator's authority.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use crate::mounts::Entries;

/// From the mounted Secret. A client certificate is asked for in the handshake, and its role decides later: the
/// kubelet's probes present none.
pub fn server_config(entries: &Entries) -> Result<ServerConfig, String> {
    let entry = |name: &str| {
        entries
            .get(name)
            .map(|bytes| bytes.as_slice())
            .ok_or_else(|| format!("the Secret has no entry {name:?}"))
    };
    let certificates = |name: &str| {
        CertificateDer::pem_slice_iter(entry(name)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("entry {name:?} isn't PEM: {error:?}"))
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut authorities = RootCertStore::empty();
    for certificate in certificates("ca.crt")? {
        authorities.add(certificate).map_err(|error| format!("entry \"ca.crt\": {error}"))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| format!("entry \"ca.crt\": {error}"))?;
    let key =
        PrivateKeyDer::from_pem_slice(entry("tls.key")?).map_err(|_| "entry \"tls.key\" isn't a PEM key")?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates("tls.crt")?, key)
        .map_err(|error| format!("tls.crt and tls.key: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
