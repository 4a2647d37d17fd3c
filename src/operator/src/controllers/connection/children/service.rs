use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use marketrelay_api::{labels, relay::paths::ADMIN_PORT};

use super::Plan;

/// The relay's host name for the operator. Headless, since thousands of tenants would use up the cluster's addresses;
/// it also leads to a relay that isn't ready, since its status says why.
pub fn build(plan: &Plan<'_>) -> Service {
    Service {
        metadata: plan.owned(plan.names().relay(), labels::RELAY),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(plan.selector(labels::RELAY)),
            ports: Some(vec![ServicePort {
                name: Some("admin".to_owned()),
                port: ADMIN_PORT.into(),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
