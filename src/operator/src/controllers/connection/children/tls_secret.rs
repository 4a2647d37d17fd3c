use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{ResourceExt, api::PartialObjectMeta};
use marketrelay_api::labels;

use super::{Plan, strings};
use crate::pki::{Authority, PkiError, Subject};

/// The admin API's certificate, unless the one that exists is good for longer.
pub fn build(
    plan: &Plan<'_>,
    existing: Option<&PartialObjectMeta<Secret>>,
    authority: &Authority,
    now: Timestamp,
) -> Result<Option<Secret>, PkiError> {
    let owner = plan.validated.uid.as_str();
    if existing.is_some_and(|secret| is_good(secret, owner, authority, now)) {
        return Ok(None);
    }
    let host = plan.names().host(&plan.validated.namespace);
    let issued = authority.issue(&Subject::Server(&host), now)?;
    let mut metadata = plan.owned(plan.names().tls());
    let renew_after = issued.renew_after.to_string();
    metadata.annotations =
        Some(strings(&[(labels::RENEW_AFTER, &renew_after), (labels::ISSUER, authority.fingerprint())]));
    let entry = |name: &str, pem: &str| (name.to_owned(), ByteString(pem.as_bytes().to_vec()));
    let entries = [
        entry("tls.crt", &issued.certificate),
        entry("tls.key", &issued.key),
        entry("ca.crt", authority.pem()),
    ];
    Ok(Some(Secret {
        metadata,
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(entries.into()),
        ..Secret::default()
    }))
}

fn is_good(secret: &PartialObjectMeta<Secret>, owner: &str, authority: &Authority, now: Timestamp) -> bool {
    let annotation = |name: &str| secret.annotations().get(name).map(String::as_str);
    let renew_after = annotation(labels::RENEW_AFTER).and_then(|at| at.parse::<Timestamp>().ok());
    renew_after.is_some_and(|at| at > now)
        && annotation(labels::ISSUER) == Some(authority.fingerprint())
        && secret.owner_references().iter().any(|reference| reference.uid == owner)
}
