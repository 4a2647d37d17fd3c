use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    ResourceExt,
    api::{ObjectMeta, PartialObjectMeta},
};
use marketrelay_api::labels;

use super::strings;
use crate::pki::{Authority, PkiError, Subject};

/// Of a child that is a certificate: unless the one that exists is good for longer.
pub fn build(
    metadata: ObjectMeta,
    subject: &Subject<'_>,
    existing: Option<&PartialObjectMeta<Secret>>,
    authority: &Authority,
    now: Timestamp,
) -> Result<Option<Secret>, PkiError> {
    if existing.is_some_and(|secret| is_good(secret, &metadata, authority, now)) {
        return Ok(None);
    }
    let issued = authority.issue(subject, now)?;
    let renew_after = issued.renew_after.to_string();
    let annotations =
        strings(&[(labels::RENEW_AFTER, &renew_after), (labels::ISSUER, authority.fingerprint())]);
    let entry = |name: &str, pem: &str| (name.to_owned(), ByteString(pem.as_bytes().to_vec()));
    let entries = [
        entry("tls.crt", &issued.certificate),
        entry("tls.key", &issued.key),
        entry("ca.crt", authority.pem()),
    ];
    Ok(Some(Secret {
        metadata: ObjectMeta { annotations: Some(annotations), ..metadata },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(entries.into()),
        ..Secret::default()
    }))
}

fn is_good(
    secret: &PartialObjectMeta<Secret>,
    wanted: &ObjectMeta,
    authority: &Authority,
    now: Timestamp,
) -> bool {
    let annotation = |name: &str| secret.annotations().get(name).map(String::as_str);
    let renew_after = annotation(labels::RENEW_AFTER).and_then(|at| at.parse::<Timestamp>().ok());
    let owner = wanted.owner_references.iter().flatten().map(|reference| &reference.uid).next();
    renew_after.is_some_and(|at| at > now)
        && annotation(labels::ISSUER) == Some(authority.fingerprint())
        && secret.owner_references().iter().any(|reference| Some(&reference.uid) == owner)
}
