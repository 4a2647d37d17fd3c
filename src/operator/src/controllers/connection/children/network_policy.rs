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

/// Nobody but the operator reaches the relay; the relay reaches DNS, https, and the networks that the operator's
/// configuration allows. Which host names it may reach is beyond a NetworkPolicy: the relay itself checks addresses.
pub fn build(plan: &Plan<'_>) -> NetworkPolicy {
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(selector(&[("kubernetes.io/metadata.name", plan.operator_namespace)])),
        pod_selector: Some(selector(&[(labels::NAME, labels::APP)])),
        ..NetworkPolicyPeer::default()
    };
    let ingress =
        NetworkPolicyIngressRule { from: Some(vec![operator]), ports: Some(vec![port("TCP", ADMIN_PORT)]) };
    NetworkPolicy {
        metadata: plan.owned(plan.names().relay()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(plan.selector()),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(vec![ingress]),
            egress: Some(egress(plan)),
        }),
    }
}

fn egress(plan: &Plan<'_>) -> Vec<NetworkPolicyEgressRule> {
    let dns = NetworkPolicyEgressRule { ports: Some(vec![port("UDP", 53), port("TCP", 53)]), to: None };
    let endpoints = plan.validated.endpoints.iter().flat_map(|endpoints| [&endpoints.api, &endpoints.token]);
    let urls = endpoints.chain([&plan.validated.webhook.url]);
    let mut ports: Vec<_> = urls.filter_map(url::Url::port_or_known_default).chain([HTTPS]).collect();
    ports.sort_unstable();
    ports.dedup();
    let ports = ports.into_iter().map(|number| port("TCP", number)).collect();
    let https = NetworkPolicyEgressRule { ports: Some(ports), to: None };
    let networks: Vec<_> = plan.config.egress.allowed_networks.iter().map(network).collect();
    let inside = NetworkPolicyEgressRule { ports: None, to: Some(networks) };
    let inside = (!plan.config.egress.allowed_networks.is_empty()).then_some(inside);
    [dns, https].into_iter().chain(inside).collect()
}

fn network(network: &ipnet::IpNet) -> NetworkPolicyPeer {
    let block = IPBlock { cidr: network.to_string(), except: None };
    NetworkPolicyPeer { ip_block: Some(block), ..NetworkPolicyPeer::default() }
}

fn selector(labels: &[(&str, &str)]) -> LabelSelector {
    LabelSelector { match_labels: Some(strings(labels)), ..LabelSelector::default() }
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(number.into())),
        protocol: Some(protocol.to_owned()),
        end_port: None,
    }
}
