use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::ConfigMap};
use marketrelay_api::{
    backup::{DrillConfig, JobConfig, PastErasures, S3Store, Site, SiteStore, paths},
    labels,
    operator_config::BackupSettings,
    relay::paths::ADMIN_PORT,
};
use marketrelay_escrow::erasures::pack;

use super::{Plan, Which, is_escrowed};
use crate::{
    controllers::{
        backup::Task,
        connection::{
            backup::{Store, Wanted, archives},
            children::strings,
        },
    },
    problem::Problem,
};

/// A day: a store is pruned at least as often.
const DAILY: i64 = 86_400;

/// The entry of a site's Jobs that do this.
pub fn entry((site, task): Which) -> String {
    match task {
        Task::Run | Task::Prune | Task::Escrow => format!("{site}.yaml"),
        Task::Drill => format!("{site}-drill.yaml"),
    }
}

/// Two configuration files for each site: of what writes into the store, and of what drills. Those of a site that can't be carried out stay as they are.
pub fn build(
    plan: &Plan<'_>,
    settings: &BackupSettings,
    wanted: &Wanted,
    existing: Option<&ConfigMap>,
) -> ConfigMap {
    let kept = |which| existing?.data.as_ref()?.get(&entry(which)).cloned();
    let file = |(which, store): (Which, Result<&Store, &Problem>)| {
        let made = |store| match which.1 {
            Task::Drill => drill(plan, settings, which.0, store),
            Task::Run | Task::Prune | Task::Escrow => Some(file(plan, settings, which.0, store)),
        };
        // What was erased is kept nowhere longer than it is needed.
        let kept = || if which.1 == Task::Drill { None } else { kept(which) };
        Some((entry(which), store.map_or_else(|_| kept(), made)?))
    };
    let whiches =
        wanted.sites().flat_map(|(site, store)| [Task::Run, Task::Drill].map(|task| ((site, task), store)));
    let files: BTreeMap<_, _> = whiches.filter_map(file).collect();
    let mut metadata = plan.owned(plan.names().backup(), labels::BACKUP);
    // Comparing sees only what is wanted, and so not that an entry has to go.
    let entries = files.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
    metadata.annotations = Some(strings(&[(labels::ENTRIES, &entries)]));
    ConfigMap {
        metadata,
        data: Some(files),
        binary_data: Some(erasures(plan.erasures)),
        ..ConfigMap::default()
    }
}

/// The file with what was erased.
pub fn erasures(erasures: &PastErasures) -> BTreeMap<String, ByteString> {
    // Texts in memory can always be compressed; an empty file would be refused.
    [(file_name(paths::ERASURES), ByteString(pack(erasures).unwrap_or_default()))].into()
}

/// Of a path.
pub fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Everything of the connection in a store is under this.
fn prefix(plan: &Plan<'_>, store: &Store) -> String {
    store.location.prefix.iter().map(String::as_str).chain([plan.id]).collect::<Vec<_>>().join("/")
}

fn file(plan: &Plan<'_>, settings: &BackupSettings, site: Site, store: &Store) -> String {
    let validated = plan.validated;
    let config = JobConfig {
        connection_id: plan.id.to_owned(),
        namespace: validated.namespace.clone(),
        name: validated.name.clone(),
        site,
        store: s3(plan, store),
        relay: relay(plan),
        public_key: plan.public_key.map(str::to_owned),
        backup_retention_seconds: plan.backup_retention().as_secs(),
        // It may wait for its turn, and take its time.
        interval_seconds: store.interval.as_secs().min(DAILY) + i64::from(settings.deadline_seconds),
        holds: archives::live(plan.holds, plan.told.and_then(|backups| backups.site(site))),
        escrow: is_escrowed(settings, site),
    };
    // A structure of texts and numbers always has a YAML form.
    serde_yaml::to_string(&config).unwrap_or_default()
}

/// `None`: nobody knows yet whose signature counts.
fn drill(plan: &Plan<'_>, settings: &BackupSettings, site: Site, store: &Store) -> Option<String> {
    let validated = plan.validated;
    let config = DrillConfig {
        connection_id: plan.id.to_owned(),
        namespace: validated.namespace.clone(),
        name: validated.name.clone(),
        site: SiteStore { site, store: s3(plan, store) },
        public_key: plan.public_key?.to_owned(),
        chain: plan.known_chain.map(str::to_owned),
        retention: plan.terms.into(),
        oldest_seconds: store.interval.as_secs() * 2 + i64::from(settings.deadline_seconds),
        erasures: PastErasures::default(),
    };
    // A structure of texts and numbers always has a YAML form.
    Some(serde_yaml::to_string(&config).unwrap_or_default())
}

/// A store as the programs have it.
pub fn s3(plan: &Plan<'_>, store: &Store) -> S3Store {
    let location = &store.location;
    S3Store {
        endpoint: location.endpoint.clone(),
        bucket: location.bucket.clone(),
        region: location.region.clone(),
        prefix: prefix(plan, store),
        path_style: location.path_style,
        ca_certificates: plan.config.egress.extra_ca_certificates.clone(),
    }
}

fn relay(plan: &Plan<'_>) -> url::Url {
    let host = plan.names().host(&plan.validated.namespace);
    // The names of Kubernetes' objects are made for host names.
    format!("https://{host}:{ADMIN_PORT}/").parse().expect("a URL")
}
