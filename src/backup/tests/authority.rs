//! Certificates.

use std::sync::Arc;

use marketrelay_mtls::Pem;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::ServerConfig;
use tokio::sync::watch;

/// Whom relay, Job and store trust.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// For a server on this machine, or for a client with that role.
    pub fn issue(&self, role: Option<&str>) -> Issued {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        if let Some(role) = role {
            params.subject_alt_names.push(SanType::URI(role.try_into().expect("a URI")));
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    /// For a server that knows its clients by this authority.
    pub fn server(&self) -> marketrelay_mtls::Current {
        let Issued { certificate, key } = self.issue(None);
        let pem =
            Pem { certificate: certificate.as_bytes(), key: key.as_bytes(), authority: self.pem.as_bytes() };
        let config: Arc<ServerConfig> = Arc::new(marketrelay_mtls::server_config(pem).expect("TLS"));
        watch::channel(Ok(config)).1
    }
}
