//! Certificates as the operator issues them.

use std::{path::Path, sync::Arc, time::Duration};

use marketrelay_api::relay::paths;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::write;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "marketrelay");
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Issued {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    /// For a server on this machine.
    pub fn server(&self) -> Issued {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("parameters");
        self.issue(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For a client of this role.
    pub fn client(&self, role: &str) -> Issued {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.subject_alt_names.push(SanType::URI(role.try_into().expect("a URI")));
        self.issue(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// Mounts a new certificate of the admin API below `root`.
    pub fn mount(&self, root: &Path) {
        let Issued { certificate, key } = self.server();
        for (entry, text) in [("ca.crt", &self.pem), ("tls.crt", &certificate), ("tls.key", &key)] {
            write(root, &format!("{}/{entry}", paths::TLS), text);
        }
    }

    /// A client that trusts this authority and presents `certificate`.
    pub fn http(&self, certificate: Option<&Issued>) -> reqwest::Client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM")).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("TLS").with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some(Issued { certificate, key }) => {
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
                let chain = chain.collect::<Result<_, _>>().expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        // Each request shakes hands anew.
        let builder = reqwest::Client::builder().tls_backend_preconfigured(config).pool_max_idle_per_host(0);
        builder.timeout(Duration::from_secs(10)).no_proxy().build().expect("a client")
    }
}
