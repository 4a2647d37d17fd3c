use jiff::{SignedDuration, Timestamp};
use marketrelay_api::{
    backup::paths::ROLE as BACKUP_ROLE,
    notices::ROLE as NOTICES_ROLE,
    relay::paths::{METRICS_ROLE, OPERATOR_ROLE},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use snafu::{ResultExt, Snafu};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::compare::hash;

const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(24 * 3_650);
const LIFE: SignedDuration = SignedDuration::from_hours(24 * 30);
/// A third of the life is left for what takes a certificate late.
const RENEW_AFTER: SignedDuration = SignedDuration::from_hours(24 * 20);
/// Clocks of nodes differ.
const BACKDATED: SignedDuration = SignedDuration::from_mins(10);

/// Why a certificate can't be made.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum PkiError {
    #[snafu(display("certificate: {source}"))]
    Certificate { source: rcgen::Error },
    #[snafu(display("the certificate's time is out of range: {source}"))]
    Time { source: time::error::ComponentRange },
}

/// Signs the certificates of relays, of the operator and of who reads metrics.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    fingerprint: String,
}

/// An authority as it is kept, PEM.
pub struct CaFiles {
    /// `tls.crt`
    pub certificate: String,
    /// `tls.key`
    pub key: Zeroizing<String>,
}

/// Whose certificate.
pub enum Subject<'a> {
    /// A server under this host name.
    Server(&'a str),
    /// The operator as a client of relays.
    Operator,
    /// Whoever reads metrics.
    Metrics,
    /// A connection's Jobs of backups, as clients of its relay.
    Backup,
    /// The receiver of eBay's notices: the operator's client, and a server under this host name.
    Notices(&'a str),
}

/// A certificate and its key, PEM.
pub struct Issued {
    /// `tls.crt`
    pub certificate: String,
    /// `tls.key`
    pub key: Zeroizing<String>,
    /// When it is to be replaced.
    pub renew_after: Timestamp,
}

impl Authority {
    /// A new one.
    pub fn generate(now: Timestamp) -> Result<(Self, CaFiles), PkiError> {
        let mut params = CertificateParams::new(Vec::new()).context(CertificateSnafu)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "marketrelay authority");
        validity(&mut params, now, AUTHORITY_LIFE)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context(CertificateSnafu)?;
        let certificate = params.self_signed(&key).context(CertificateSnafu)?.pem();
        let files = CaFiles { certificate, key: Zeroizing::new(key.serialize_pem()) };
        Ok((Self::load(&files)?, files))
    }

    /// One that was kept.
    pub fn load(files: &CaFiles) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(&files.key).context(CertificateSnafu)?;
        let issuer = Issuer::from_ca_cert_pem(&files.certificate, key).context(CertificateSnafu)?;
        let fingerprint = hash(files.certificate.as_bytes());
        Ok(Self { issuer, pem: files.certificate.clone(), fingerprint })
    }

    /// `ca.crt`
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Hex SHA-256 of [`Authority::pem`]: a certificate of another authority is replaced.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// A certificate for 30 days, to be replaced after 20.
    pub fn issue(&self, subject: &Subject<'_>, now: Timestamp) -> Result<Issued, PkiError> {
        let hosts = match subject {
            Subject::Server(host) | Subject::Notices(host) => vec![(*host).to_owned()],
            Subject::Operator | Subject::Metrics | Subject::Backup => Vec::new(),
        };
        let mut params = CertificateParams::new(hosts).context(CertificateSnafu)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match subject {
            Subject::Server(_) => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Subject::Operator | Subject::Metrics | Subject::Backup => {
                vec![ExtendedKeyUsagePurpose::ClientAuth]
            }
            Subject::Notices(_) => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
        };
        let role = match subject {
            Subject::Server(_) => None,
            Subject::Operator => Some(OPERATOR_ROLE),
            Subject::Metrics => Some(METRICS_ROLE),
            Subject::Backup => Some(BACKUP_ROLE),
            Subject::Notices(_) => Some(NOTICES_ROLE),
        };
        if let Some(role) = role {
            params.subject_alt_names.push(SanType::URI(role.try_into().context(CertificateSnafu)?));
        }
        validity(&mut params, now, LIFE)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context(CertificateSnafu)?;
        let certificate = params.signed_by(&key, &self.issuer).context(CertificateSnafu)?.pem();
        let key = Zeroizing::new(key.serialize_pem());
        Ok(Issued { certificate, key, renew_after: now + RENEW_AFTER })
    }
}

fn validity(params: &mut CertificateParams, now: Timestamp, life: SignedDuration) -> Result<(), PkiError> {
    let at = |time: Timestamp| OffsetDateTime::from_unix_timestamp(time.as_second()).context(TimeSnafu);
    params.not_before = at(now - BACKDATED)?;
    params.not_after = at(now + life)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    #[test]
    fn a_kept_authority_issues_what_its_own_certificate_verifies() {
        let now = Timestamp::now();
        let (made, files) = Authority::generate(now).expect("an authority");
        let authority = Authority::load(&files).expect("its own files");
        assert_eq!(authority.fingerprint(), made.fingerprint());
        let issued = authority.issue(&Subject::Server("bol-relay.acme.svc"), now).expect("a certificate");
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
        let (leaf, root) = (der(&issued.certificate), der(authority.pem()));
        let (_, leaf) = X509Certificate::from_der(&leaf).expect("a certificate");
        let (_, root) = X509Certificate::from_der(&root).expect("a certificate");
        assert_eq!(leaf.issuer(), root.subject());
        let life = leaf.validity().not_after.timestamp() - now.as_second();
        assert_eq!(life, LIFE.as_secs());
        assert!(issued.renew_after.as_second() < leaf.validity().not_after.timestamp());
    }
}
