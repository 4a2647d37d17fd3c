use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
        NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use marketrelay_api::{labels, relay::paths::ADMIN_PORT};

use super::{Plan, strings};

const HTTPS: u16 = 443;

/// Nobody but the operator, and the connection's backups if there are any, reaches the relay; the relay reaches DNS, https, and the networks that the operator's
/// configuration allows. Which host names it may reach is beyond a NetworkPolicy: the relay itself checks addresses.
pub fn build(plan: &Plan<'_>) -> NetworkPolicy {
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(selector(&[("kubernetes.io/metadata.name", plan.operator_namespace)])),
        pod_selector: Some(selector(&[(labels::NAME, labels::APP)])),
        ..NetworkPolicyPeer::default()
    };
    let backups = plan.backups.map(|_| NetworkPolicyPeer {
        pod_selector: Some(matching(plan.selector(labels::BACKUP))),
        ..NetworkPolicyPeer::default()
    });
    let ingress = NetworkPolicyIngressRule {
        from: Some([operator].into_iter().chain(backups).collect()),
        ports: Some(vec![port("TCP", ADMIN_PORT)]),
    };
    NetworkPolicy {
        metadata: plan.owned(plan.names().relay(), labels::RELAY),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(matching(plan.selector(labels::RELAY))),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(vec![ingress]),
            egress: Some(egress(plan)),
        }),
    }
}

fn egress(plan: &Plan<'_>) -> Vec<NetworkPolicyEgressRule> {
    let endpoints = plan.validated.endpoints.iter().flat_map(|endpoints| [&endpoints.api, &endpoints.token]);
    let https = https(endpoints.chain([&plan.validated.webhook.url]));
    let networks: Vec<_> = plan.config.egress.allowed_networks.iter().map(network).collect();
    let inside = NetworkPolicyEgressRule { ports: None, to: Some(networks) };
    let inside = (!plan.config.egress.allowed_networks.is_empty()).then_some(inside);
    [dns(), https].into_iter().chain(inside).collect()
}

/// To resolve names.
pub fn dns() -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule { ports: Some(vec![port("UDP", 53), port("TCP", 53)]), to: None }
}

/// The ports of these addresses and the usual one, wherever.
pub fn https<'a>(urls: impl Iterator<Item = &'a url::Url>) -> NetworkPolicyEgressRule {
    let mut ports: Vec<_> = urls.filter_map(url::Url::port_or_known_default).chain([HTTPS]).collect();
    ports.sort_unstable();
    ports.dedup();
    let ports = ports.into_iter().map(|number| port("TCP", number)).collect();
    NetworkPolicyEgressRule { ports: Some(ports), to: None }
}

/// By labels.
pub fn matching(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}

fn network(network: &ipnet::IpNet) -> NetworkPolicyPeer {
    let block = IPBlock { cidr: network.to_string(), except: None };
    NetworkPolicyPeer { ip_block: Some(block), ..NetworkPolicyPeer::default() }
}

fn selector(labels: &[(&str, &str)]) -> LabelSelector {
    matching(strings(labels))
}

/// One port.
pub fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(number.into())),
        protocol: Some(protocol.to_owned()),
        end_port: None,
    }
}
