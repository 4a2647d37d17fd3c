//! The certificates of one local cluster.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use snafu::ResultExt;

use crate::run::{Result, write};

/// A certificate authority that lives as long as its cluster.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, PEM.
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).whatever_context("CA parameters")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "local cluster CA");
        let key = KeyPair::generate().whatever_context("CA key")?;
        let pem = params.self_signed(&key).whatever_context("CA certificate")?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Its certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// For client and server use; `organization` is a Kubernetes group.
    pub fn issue(&self, name: &str, organization: Option<&str>, hosts: &[String]) -> Result<Identity> {
        let mut params = CertificateParams::new(hosts.to_vec()).whatever_context("certificate parameters")?;
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(organization) = organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().whatever_context("key")?;
        let certificate = params.signed_by(&key, &self.issuer).whatever_context("certificate")?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Identity {
    /// Writes `NAME.crt` and `NAME.key`.
    pub fn write(&self, dir: &Path, name: &str) -> Result<()> {
        write(&dir.join(format!("{name}.crt")), &self.certificate)?;
        write(&dir.join(format!("{name}.key")), &self.key)
    }
}

/// A kubeconfig that names files, all of them in `dir`.
pub fn kubeconfig(context: &str, server: &str, dir: &Path, identity: &str) -> String {
    let dir = dir.display();
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {context}\n\
         clusters: [{{name: {context}, cluster: {{server: \"{server}\", certificate-authority: {dir}/ca.crt}}}}]\n\
         users: [{{name: {context}, user: {{client-certificate: {dir}/{identity}.crt, client-key: {dir}/{identity}.key}}}}]\n\
         contexts: [{{name: {context}, context: {{cluster: {context}, user: {context}}}}}]\n"
    )
}
