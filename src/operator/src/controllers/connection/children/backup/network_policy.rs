use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicySpec,
};
use marketrelay_api::{labels, relay::paths::ADMIN_PORT};

use super::Plan;
use crate::controllers::connection::{
    backup::Wanted,
    children::network_policy::{dns, https, matching, port},
};

/// Nobody reaches a Job; a Job reaches DNS, the connection's relay, and https for the store.
pub fn build(plan: &Plan<'_>, wanted: &Wanted) -> NetworkPolicy {
    let relay = NetworkPolicyPeer {
        pod_selector: Some(matching(plan.selector(labels::RELAY))),
        ..NetworkPolicyPeer::default()
    };
    let relay = NetworkPolicyEgressRule { ports: Some(vec![port("TCP", ADMIN_PORT)]), to: Some(vec![relay]) };
    let stores = https(wanted.stores().filter_map(|(_, store)| store.location.endpoint.as_ref()));
    NetworkPolicy {
        metadata: plan.owned(plan.names().backup(), labels::BACKUP),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(matching(plan.selector(labels::BACKUP))),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: None,
            egress: Some(vec![dns(), relay, stores]),
        }),
    }
}
