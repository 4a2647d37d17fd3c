//! The Job that makes the relay's database of a backup, and its configuration. Pure.

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{
            ConfigMap, ConfigMapVolumeSource, Container, KeyToPath, PersistentVolumeClaimVolumeSource,
            PodSpec, Volume,
        },
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Resource, ResourceExt};
use marketrelay_api::{
    backup::{Choice, PastErasures, RestoreConfig, Site, SiteStore, paths},
    labels,
    operator_config::BackupSettings,
    relay,
};

use super::{
    Plan,
    backup::{data, erasures, file_name, identities, job_container, job_pod, job_spec, s3},
    pod::{MODE, read_only, secret_volume},
    strings,
};
use crate::{controllers::connection::backup::Wanted, names::DIGEST_KEY};

/// The value of [`labels::TASK`], and the program's subcommand.
pub const TASK: (&str, &str) = ("restore", "restore-volume");
/// The ConfigMap's entry, and the file.
const ENTRY: &str = "job.yaml";

/// What an attempt is to do.
pub struct Attempt<'a> {
    /// The Job's name, and its ConfigMap's.
    pub name: &'a str,
    /// Which backup.
    pub choice: Choice,
    /// A database that is there gives way.
    pub replace: bool,
    /// Whose signature counts, hex.
    pub public_key: &'a str,
    /// The audit log of the database that counts, if it is known.
    pub chain: Option<&'a str>,
}

/// The Job. Its pod waits until the ConfigMap is there.
pub fn job(plan: &Plan<'_>, settings: &BackupSettings, wanted: &Wanted, attempt: &Attempt<'_>) -> Job {
    let own = strings(&[(labels::TASK, TASK.0)]);
    let mut metadata = plan.owned(attempt.name.to_owned(), labels::BACKUP);
    metadata.labels.get_or_insert_default().extend(own);
    let labels = metadata.labels.clone().unwrap_or_default();
    Job {
        metadata,
        spec: Some(job_spec(settings, labels, pod(plan, settings, wanted, attempt.name))),
        status: None,
    }
}

/// Its configuration, which goes with it.
pub fn config_map(plan: &Plan<'_>, wanted: &Wanted, attempt: Attempt<'_>, job: &Job) -> ConfigMap {
    let validated = plan.validated;
    let left_out = wanted.sites().filter(|(_, store)| store.is_err()).map(|(site, _)| site);
    let config = RestoreConfig {
        connection_id: plan.id.to_owned(),
        namespace: validated.namespace.clone(),
        name: validated.name.clone(),
        sites: wanted.stores().map(|(site, store)| SiteStore { site, store: s3(plan, store) }).collect(),
        left_out: left_out.collect(),
        choice: attempt.choice,
        public_key: attempt.public_key.to_owned(),
        chain: attempt.chain.map(str::to_owned),
        retention: plan.terms.into(),
        replace: attempt.replace,
        erasures: PastErasures::default(),
    };
    let mut metadata = plan.unowned(attempt.name.to_owned(), labels::BACKUP);
    metadata.owner_references = Some(vec![OwnerReference {
        api_version: Job::api_version(&()).into_owned(),
        kind: Job::kind(&()).into_owned(),
        name: job.name_any(),
        uid: job.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    // A structure of texts and numbers always has a YAML form.
    let text = serde_yaml::to_string(&config).unwrap_or_default();
    ConfigMap {
        metadata,
        data: Some([(ENTRY.to_owned(), text)].into()),
        binary_data: Some(erasures(plan.erasures)),
        ..ConfigMap::default()
    }
}

/// Restricted like every pod. It has the keys, the identities and the stores' credentials, and nobody reaches it.
fn pod(plan: &Plan<'_>, settings: &BackupSettings, wanted: &Wanted, config: &str) -> PodSpec {
    job_pod(plan, container(settings, wanted), volumes(plan, wanted, config))
}

fn container(settings: &BackupSettings, wanted: &Wanted) -> Container {
    let folders = [
        ("job", paths::CONFIG_FOLDER),
        ("keyring", relay::paths::KEYRING),
        ("digest", relay::paths::DIGEST),
        ("database", relay::paths::DATABASE_KEY),
        ("identities", paths::IDENTITIES),
    ];
    let folders = folders.into_iter().map(|(name, path)| read_only(name, path));
    let stores = wanted.stores().map(|(site, _)| {
        let (name, path) = store(site);
        read_only(name, path)
    });
    job_container(settings, TASK.1, folders.chain(stores).chain([data()]).collect())
}

fn store(site: Site) -> (&'static str, &'static str) {
    match site {
        Site::OnSite => ("store-on-site", paths::STORE_ON_SITE),
        Site::OffSite => ("store-off-site", paths::STORE_OFF_SITE),
    }
}

fn volumes(plan: &Plan<'_>, wanted: &Wanted, config: &str) -> Vec<Volume> {
    let names = plan.names();
    let item = |entry: String| KeyToPath { key: entry.clone(), path: entry, mode: None };
    let config = ConfigMapVolumeSource {
        name: config.to_owned(),
        default_mode: Some(MODE),
        items: Some([ENTRY.to_owned(), file_name(paths::ERASURES)].map(item).into()),
        ..ConfigMapVolumeSource::default()
    };
    let claim = PersistentVolumeClaimVolumeSource { claim_name: names.volume(), read_only: None };
    let stores =
        wanted.stores().map(|(site, wanted)| secret_volume(store(site).0, wanted.credentials.clone()));
    let own = vec![
        Volume { name: "job".to_owned(), config_map: Some(config), ..Volume::default() },
        secret_volume("keyring", names.keyring()),
        secret_volume("digest", DIGEST_KEY.to_owned()),
        secret_volume("database", names.database_key()),
        identities(plan),
        Volume { name: "data".to_owned(), persistent_volume_claim: Some(claim), ..Volume::default() },
    ];
    own.into_iter().chain(stores).collect()
}
