//! What was erased, by the requests that there are: a backup may be older than they are.

use jiff::Timestamp;
use kube::ResourceExt;
use marketrelay_api::{
    ErasureRequest, MarketplaceConnection, SubjectDigest, backup::PastErasure, erasure::ErasureState, labels,
};

use crate::stores::Stores;

/// Of a connection.
pub fn of(stores: &Stores, connection: &MarketplaceConnection, now: Timestamp) -> Vec<PastErasure> {
    let (namespace, name) = (connection.namespace(), connection.name_any());
    let requests = stores.erasures.state_filter(|request| request.namespace() == namespace);
    let mut erasures: Vec<_> = requests.iter().filter_map(|request| past(request, &name, now)).collect();
    erasures.sort_by(|a, b| a.uid.cmp(&b.uid));
    erasures
}

/// That of a request by which the connection's relay has found something, and of which a copy may be left. A relay forgets a
/// request no earlier than that: repeated later it could erase what came after it. One of a lost cluster had found something
/// there.
fn past(request: &ErasureRequest, connection: &str, now: Timestamp) -> Option<PastErasure> {
    let uid = request.uid().unwrap_or_default();
    let erasure = move |subject: &[SubjectDigest]| {
        let subject = subject.to_vec();
        (!subject.is_empty()).then_some(PastErasure { uid, subject })
    };
    let of_spec = request.spec.subject.digests.as_deref();
    let is_recovered = request.labels().get(labels::SOURCE).is_some_and(|source| source == labels::RECOVERED);
    let is_open = request.status.as_ref().is_none_or(|status| status.sealed_copies_until.is_none());
    if is_recovered && is_open {
        let is_of =
            request.spec.connections.is_empty() || request.spec.connections.iter().any(|of| of == connection);
        return erasure(of_spec.filter(|_| is_of)?);
    }
    let status = request.status.as_ref()?;
    let found = status.connections.iter().any(|at| {
        at.name == connection && at.state == ErasureState::Erased && at.matched.unwrap_or_default() > 0
    });
    let has_copies = status.sealed_copies_until.as_ref().is_some_and(|until| until.0 > now);
    erasure(of_spec.unwrap_or(&status.digests)).filter(|_| found && has_copies)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_repeated_where_it_has_found_something_however_its_subject_was_named() {
        let digest = format!("order:{}", "0".repeat(64));
        let request = |spec, matched| {
            let value = json!({"metadata": {"name": "r", "uid": "u"}, "spec": {"subject": spec},
                "status": {"digests": [digest], "sealedCopiesUntil": "2026-12-01T00:00:00Z", "connections": [{"name": "bol", "state": "Erased", "matched": matched}]}});
            serde_json::from_value::<ErasureRequest>(value).expect("a request")
        };
        let now = "2026-11-30T23:59:59Z".parse().expect("a time");
        let past = |request: &ErasureRequest, connection: &str| past(request, connection, now);
        let by_digest = request(json!({"digests": [digest]}), 1);
        let by_secret = request(json!({"secretRef": {"name": "s"}}), 2);
        for request in [&by_digest, &by_secret] {
            let erasure = past(request, "bol").expect("it has found something");
            assert_eq!((erasure.uid.as_str(), erasure.subject.len()), ("u", 1));
        }
        assert_eq!(past(&by_digest, "ebay"), None);
        let later = "2026-12-01T00:00:00Z".parse().expect("a time");
        assert_eq!(super::past(&by_digest, "bol", later), None, "no copy is left");
        assert_eq!(past(&request(json!({"digests": [digest]}), 0), "bol"), None);
        let mut recovered = by_digest.clone();
        (recovered.status, recovered.spec.connections) = (None, vec!["bol".to_owned()]);
        assert_eq!(past(&recovered, "bol"), None, "nobody has looked yet");
        recovered.labels_mut().insert(labels::SOURCE.to_owned(), labels::RECOVERED.to_owned());
        assert!(past(&recovered, "bol").is_some(), "the lost cluster's relay had found something");
        assert_eq!(past(&recovered, "ebay"), None);
    }
}
