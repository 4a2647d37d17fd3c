//! What was erased, by the requests that there are: a backup may be older than they are.

use kube::ResourceExt;
use marketrelay_api::{ErasureRequest, MarketplaceConnection, backup::PastErasure, erasure::ErasureState};

use crate::stores::Stores;

/// Of a connection.
pub fn of(stores: &Stores, connection: &MarketplaceConnection) -> Vec<PastErasure> {
    let (namespace, name) = (connection.namespace(), connection.name_any());
    let requests = stores.erasures.state_filter(|request| request.namespace() == namespace);
    let mut erasures: Vec<_> = requests.iter().filter_map(|request| past(request, &name)).collect();
    erasures.sort_by(|a, b| a.uid.cmp(&b.uid));
    erasures
}

/// That of a request by which the connection's relay has found something.
fn past(request: &ErasureRequest, connection: &str) -> Option<PastErasure> {
    let status = request.status.as_ref()?;
    let found = status.connections.iter().any(|at| {
        at.name == connection && at.state == ErasureState::Erased && at.matched.unwrap_or_default() > 0
    });
    let subject = request.spec.subject.digests.as_ref().unwrap_or(&status.digests);
    (found && !subject.is_empty())
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
                "status": {"digests": [digest], "connections": [{"name": "bol", "state": "Erased", "matched": matched}]}});
            serde_json::from_value::<ErasureRequest>(value).expect("a request")
        };
        let by_digest = request(json!({"digests": [digest]}), 1);
        let by_secret = request(json!({"secretRef": {"name": "s"}}), 2);
        for request in [&by_digest, &by_secret] {
            let erasure = past(request, "bol").expect("it has found something");
            assert_eq!((erasure.uid.as_str(), erasure.subject.len()), ("u", 1));
        }
        assert_eq!(past(&by_digest, "ebay"), None);
        assert_eq!(past(&request(json!({"digests": [digest]}), 0), "bol"), None);
    }
}
