use k8s_openapi::{
    api::core::v1::{
        ConfigMapVolumeSource, Container, EmptyDirVolumeSource, KeyToPath, PodSpec, Volume, VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use marketrelay_api::{OperatorConfig, backup::paths, operator_config::BackupSettings, relay};

use super::{
    Plan, Which,
    config_map::{entry, file_name},
};
use crate::{
    controllers::{
        backup::Task,
        connection::{
            backup::Store,
            children::pod::{
                MODE, container_security, pod_security, pull_policy, pull_secrets, read_only, resources,
                secret_volume,
            },
        },
    },
    names::DIGEST_KEY,
};

/// The container's name.
pub const CONTAINER: &str = "backup";
/// To end or undo what was begun, and to say what became of it.
const GRACE_SECONDS: i64 = 30;

/// A Job's pod: restricted as Pod Security's strictest level wants it, without a token of the API server. It has the
/// store's credentials; if it takes a snapshot, a certificate for that alone; if it drills, the keys; if it escrows them, their encrypted copy.
pub fn spec(plan: &Plan<'_>, settings: &BackupSettings, store: &Store, which: Which) -> PodSpec {
    job_pod(plan, container(settings, which), volumes(plan, store, which))
}

/// The pod of any Job that works with backups.
pub fn job_pod(plan: &Plan<'_>, container: Container, volumes: Vec<Volume>) -> PodSpec {
    restricted(plan.names().backup(), plan.config, container, volumes)
}

/// The same, for any account.
pub fn restricted(
    service_account: String,
    config: &OperatorConfig,
    container: Container,
    volumes: Vec<Volume>,
) -> PodSpec {
    PodSpec {
        service_account_name: Some(service_account),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        image_pull_secrets: pull_secrets(config),
        security_context: Some(pod_security()),
        containers: vec![container],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

fn container(settings: &BackupSettings, (_, task): Which) -> Container {
    let mounts = [read_only("job", paths::CONFIG_FOLDER), read_only("store", paths::STORE)];
    let own = match task {
        Task::Run => vec![read_only("tls", paths::TLS)],
        Task::Prune => Vec::new(),
        Task::Escrow => vec![read_only("escrow", paths::ESCROW)],
        Task::Drill => vec![
            read_only("keyring", relay::paths::KEYRING),
            read_only("digest", relay::paths::DIGEST),
            read_only("identities", paths::IDENTITIES),
            data(),
        ],
    };
    job_container(settings, task.as_str(), mounts.into_iter().chain(own).collect())
}

/// Its container; `command`: the program's.
pub fn job_container(settings: &BackupSettings, command: &str, mounts: Vec<VolumeMount>) -> Container {
    Container {
        name: CONTAINER.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: Some(pull_policy(settings.image_pull_policy)),
        args: Some(vec![command.to_owned()]),
        resources: Some(resources(&settings.resources)),
        security_context: Some(container_security()),
        termination_message_path: Some(paths::TERMINATION.to_owned()),
        termination_message_policy: Some("File".to_owned()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// Where a drill's database is made.
pub fn data() -> VolumeMount {
    VolumeMount {
        name: "data".to_owned(),
        mount_path: relay::paths::DATA.to_owned(),
        ..VolumeMount::default()
    }
}

fn volumes(plan: &Plan<'_>, store: &Store, (site, task): Which) -> Vec<Volume> {
    let item = |key: String, path: &str| KeyToPath { key, path: file_name(path), mode: None };
    let mut items = vec![item(entry((site, task)), paths::CONFIG)];
    if task == Task::Drill {
        items.push(item(file_name(paths::ERASURES), paths::ERASURES));
    }
    let config = ConfigMapVolumeSource {
        name: plan.names().backup(),
        default_mode: Some(MODE),
        items: Some(items),
        ..ConfigMapVolumeSource::default()
    };
    let names = plan.names();
    let own = match task {
        Task::Run => vec![secret_volume("tls", names.backup_tls())],
        Task::Prune => Vec::new(),
        Task::Escrow => vec![secret_volume("escrow", names.escrow())],
        Task::Drill => vec![
            secret_volume("keyring", names.keyring()),
            secret_volume("digest", DIGEST_KEY.to_owned()),
            identities(plan),
            scratch(plan),
        ],
    };
    let job = Volume { name: "job".to_owned(), config_map: Some(config), ..Volume::default() };
    [job, secret_volume("store", store.credentials.clone())].into_iter().chain(own).collect()
}

/// What opens the backups. The program says better than a pod that doesn't start that it is missing.
pub fn identities(plan: &Plan<'_>) -> Volume {
    let mut volume = secret_volume("identities", plan.names().backup_identities());
    volume.secret.iter_mut().for_each(|secret| secret.optional = Some(true));
    volume
}

/// As large as the relay's volume; what is written there is encrypted, and goes with the pod.
fn scratch(plan: &Plan<'_>) -> Volume {
    let size_limit = Some(Quantity(plan.validated.size.clone()));
    let empty_dir = Some(EmptyDirVolumeSource { size_limit, ..EmptyDirVolumeSource::default() });
    Volume { name: "data".to_owned(), empty_dir, ..Volume::default() }
}
