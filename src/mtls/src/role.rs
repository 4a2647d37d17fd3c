//! Who calls: the role in the client certificate.

use marketrelay_api::{
    backup::paths::ROLE as BACKUP_ROLE,
    notices::ROLE as NOTICES_ROLE,
    relay::paths::{METRICS_ROLE, OPERATOR_ROLE},
};
use rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, prelude::FromDer, prelude::X509Certificate};

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Operator,
    /// Read the metrics.
    Metrics,
    /// Hand eBay's notices to the operator.
    Notices,
    /// Have a snapshot.
    Backup,
    /// No certificate, or one of another role: health alone.
    Nobody,
}

impl Role {
    /// By the URIs in the certificate's subjectAltName; the chain is verified already.
    pub fn of(certificates: Option<&[CertificateDer<'_>]>) -> Self {
        let Some(certificate) = certificates.and_then(<[_]>::first) else { return Self::Nobody };
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Self::Nobody };
        let Ok(Some(names)) = certificate.subject_alternative_name() else { return Self::Nobody };
        let has = |role: &str| {
            names.value.general_names.iter().any(|name| matches!(name, GeneralName::URI(uri) if *uri == role))
        };
        if has(OPERATOR_ROLE) {
            Self::Operator
        } else if has(METRICS_ROLE) {
            Self::Metrics
        } else if has(NOTICES_ROLE) {
            Self::Notices
        } else if has(BACKUP_ROLE) {
            Self::Backup
        } else {
            Self::Nobody
        }
    }

    /// Whether `/metrics` answers.
    pub fn reads_metrics(self) -> bool {
        matches!(self, Self::Operator | Self::Metrics)
    }
}
