use k8s_openapi::api::core::v1::ConfigMap;
use marketrelay_api::{labels, relay::RelayConfig};

use super::Plan;

/// The relay's configuration file.
pub fn file(plan: &Plan<'_>) -> String {
    let validated = plan.validated;
    let config = RelayConfig {
        connection_id: plan.id.to_owned(),
        namespace: validated.namespace.clone(),
        name: validated.name.clone(),
        marketplace: validated.marketplace.clone(),
        endpoints: validated.endpoints.clone(),
        poll_interval_seconds: validated.poll_interval_seconds,
        lookback_seconds: validated.lookback_seconds,
        destination: validated.webhook.clone(),
        retention: plan.terms.into(),
        audit_retention_seconds: validated.audit_retention_seconds,
        egress: (&plan.config.egress).into(),
        suspend: validated.suspend,
        holds: validated.holds.clone(),
    };
    // A structure of texts and numbers always has a YAML form.
    serde_yaml::to_string(&config).unwrap_or_default()
}

/// Mounted by the relay.
pub fn build(plan: &Plan<'_>, file: String) -> ConfigMap {
    ConfigMap {
        metadata: plan.owned(plan.names().relay(), labels::RELAY),
        data: Some([("relay.yaml".to_owned(), file)].into()),
        ..ConfigMap::default()
    }
}
