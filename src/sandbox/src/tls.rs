//! Certificates for a simulator.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use snafu::{ResultExt, Snafu};

/// A certificate, its key and the authority that signed it, all PEM.
pub struct Identity {
    /// Of the authority, for clients to trust.
    pub ca: String,
    /// Of the server.
    pub certificate: String,
    /// Of the server.
    pub key: String,
}

/// Why there is no certificate.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum TlsError {
    #[snafu(display("can't make a certificate: {source}"))]
    Make { source: rcgen::Error },
    #[snafu(display("the certificate or its key can't be read: {source}"))]
    Read { source: rustls::pki_types::pem::Error },
    #[snafu(display("certificate and key are refused: {source}"))]
    Use { source: rustls::Error },
}

/// A new authority and a certificate for `hosts`.
pub fn self_signed(hosts: &[String]) -> Result<Identity, TlsError> {
    let mut params = CertificateParams::new(Vec::new()).context(MakeSnafu)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "marketrelay sandbox CA");
    let ca_key = KeyPair::generate().context(MakeSnafu)?;
    let ca = params.self_signed(&ca_key).context(MakeSnafu)?.pem();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().context(MakeSnafu)?;
    let mut params = CertificateParams::new(hosts.to_vec()).context(MakeSnafu)?;
    params.distinguished_name.push(DnType::CommonName, "marketrelay sandbox");
    let certificate = params.signed_by(&key, &issuer).context(MakeSnafu)?.pem();
    Ok(Identity { ca, certificate, key: key.serialize_pem() })
}

pub(crate) fn server_config(certificate: &str, key: &str) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<_, _>>()
        .context(ReadSnafu)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context(ReadSnafu)?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .context(UseSnafu)?;
    Ok(Arc::new(config))
}
