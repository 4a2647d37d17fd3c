use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use marketrelay_api::{
    labels,
    relay::{KnownDatabase, RelayConfig},
};

use super::{Plan, strings};

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

/// The entry that says which database the relay must find.
pub const KNOWN_DATABASE: &str = "database.yaml";

/// Mounted by the relay. That a database is known is nothing to begin anew for.
pub fn build(plan: &Plan<'_>, file: String) -> ConfigMap {
    let known = plan.known_chain.map(|chain| {
        let known = KnownDatabase { chain: chain.to_owned() };
        (KNOWN_DATABASE.to_owned(), serde_yaml::to_string(&known).unwrap_or_default())
    });
    let files: BTreeMap<_, _> = [("relay.yaml".to_owned(), file)].into_iter().chain(known).collect();
    let mut metadata = plan.owned(plan.names().relay(), labels::RELAY);
    // Comparing sees only what is wanted, and so not that an entry has to go.
    let entries = files.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
    metadata.annotations = Some(strings(&[(labels::ENTRIES, &entries)]));
    ConfigMap { metadata, data: Some(files), ..ConfigMap::default() }
}
