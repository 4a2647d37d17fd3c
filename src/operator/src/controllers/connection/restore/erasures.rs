//! What was erased, by the requests that there are: a backup may be older than they are.

use jiff::Timestamp;
use kube::ResourceExt;
use marketrelay_api::{ErasureRequest, MarketplaceConnection, backup::PastErasure, erasure::ErasureState};

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
/// request no earlier than that: repeated later it could erase what came after it.
fn past(request: &ErasureRequest, connection: &str, now: Timestamp) -> Option<PastErasure> {
    let status = request.status.as_ref()?;
    let found = status.connections.iter().any(|at| {
        at.name == connection && at.state == ErasureState::Erased && at.matched.unwrap_or_default() > 0
    });
    let has_copies = status.sealed_copies_until.as_ref().is_some_and(|until| until.0 > now);
    let subject = request.spec.subject.digests.as_ref().unwrap_or(&status.digests);
    (found && has_copies && !subject.is_empty())
        .then(|| PastErasure { uid: request.uid().unwrap_or_default(), subject: subject.clone() })
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
        let past = |request, connection| past(request, connection, now);
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
    }
}
