use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use marketrelay_api::{
    backup::{JobConfig, S3Store, Site},
    labels,
    operator_config::BackupSettings,
    relay::paths::ADMIN_PORT,
};

use super::Plan;
use crate::{
    controllers::connection::{
        backup::{Store, Wanted},
        children::strings,
    },
    problem::Problem,
};

/// A day: a store is pruned at least as often.
const DAILY: i64 = 86_400;

/// A site's entry.
pub fn entry(site: Site) -> String {
    format!("{site}.yaml")
}

/// One configuration file for each site. That of a site that can't be carried out stays as it is.
pub fn build(
    plan: &Plan<'_>,
    settings: &BackupSettings,
    wanted: &Wanted,
    existing: Option<&ConfigMap>,
) -> ConfigMap {
    let kept = |site| existing?.data.as_ref()?.get(&entry(site)).cloned();
    let file = |(site, store): (Site, Result<&Store, &Problem>)| {
        let text = store.map_or_else(|_| kept(site), |store| Some(file(plan, settings, site, store)));
        Some((entry(site), text?))
    };
    let files: BTreeMap<_, _> = wanted.sites().filter_map(file).collect();
    let mut metadata = plan.owned(plan.names().backup(), labels::BACKUP);
    // Comparing sees only what is wanted, and so not that an entry has to go.
    let entries = files.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
    metadata.annotations = Some(strings(&[(labels::ENTRIES, &entries)]));
    ConfigMap { metadata, data: Some(files), ..ConfigMap::default() }
}

/// Everything of the connection in a store is under this.
pub fn prefix(plan: &Plan<'_>, store: &Store) -> String {
    store.location.prefix.iter().map(String::as_str).chain([plan.id]).collect::<Vec<_>>().join("/")
}

fn file(plan: &Plan<'_>, settings: &BackupSettings, site: Site, store: &Store) -> String {
    let (validated, location) = (plan.validated, &store.location);
    let config = JobConfig {
        connection_id: plan.id.to_owned(),
        namespace: validated.namespace.clone(),
        name: validated.name.clone(),
        site,
        store: S3Store {
            endpoint: location.endpoint.clone(),
            bucket: location.bucket.clone(),
            region: location.region.clone(),
            prefix: prefix(plan, store),
            path_style: location.path_style,
            ca_certificates: plan.config.egress.extra_ca_certificates.clone(),
        },
        relay: relay(plan),
        backup_retention_seconds: plan.backup_retention().as_secs(),
        // It may wait for its turn, and take its time.
        interval_seconds: store.interval.as_secs().min(DAILY) + i64::from(settings.deadline_seconds),
    };
    // A structure of texts and numbers always has a YAML form.
    serde_yaml::to_string(&config).unwrap_or_default()
}

fn relay(plan: &Plan<'_>) -> url::Url {
    let host = plan.names().host(&plan.validated.namespace);
    // The names of Kubernetes' objects are made for host names.
    format!("https://{host}:{ADMIN_PORT}/").parse().expect("a URL")
}
