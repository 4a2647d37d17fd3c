use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, Container, KeyToPath, PodSpec, Volume};
use marketrelay_api::{backup::paths, operator_config::BackupSettings};

use super::{Plan, Which, config_map::entry};
use crate::controllers::{
    backup::Task,
    connection::{
        backup::Store,
        children::pod::{
            MODE, container_security, pod_security, pull_policy, pull_secrets, read_only, resources,
            secret_volume,
        },
    },
};

/// The container's name.
pub const CONTAINER: &str = "backup";
/// To end an upload and to say what became of it.
const GRACE_SECONDS: i64 = 30;

/// A Job's pod: restricted as Pod Security's strictest level wants it, without a token of the API server. It has the
/// store's credentials, and if it takes a snapshot, a certificate for that alone.
pub fn spec(plan: &Plan<'_>, settings: &BackupSettings, store: &Store, which: Which) -> PodSpec {
    PodSpec {
        service_account_name: Some(plan.names().backup()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        image_pull_secrets: pull_secrets(plan),
        security_context: Some(pod_security()),
        containers: vec![container(settings, which)],
        volumes: Some(volumes(plan, store, which)),
        ..PodSpec::default()
    }
}

fn container(settings: &BackupSettings, (_, task): Which) -> Container {
    let tls = (task == Task::Run).then(|| read_only("tls", paths::TLS));
    let mounts = [read_only("job", paths::CONFIG_FOLDER), read_only("store", paths::STORE)];
    Container {
        name: CONTAINER.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: Some(pull_policy(settings.image_pull_policy)),
        args: Some(vec![task.as_str().to_owned()]),
        resources: Some(resources(&settings.resources)),
        security_context: Some(container_security()),
        termination_message_path: Some(paths::TERMINATION.to_owned()),
        termination_message_policy: Some("File".to_owned()),
        volume_mounts: Some(mounts.into_iter().chain(tls).collect()),
        ..Container::default()
    }
}

fn volumes(plan: &Plan<'_>, store: &Store, (site, task): Which) -> Vec<Volume> {
    let file = paths::CONFIG.rsplit('/').next().unwrap_or_default();
    let item = KeyToPath { key: entry(site), path: file.to_owned(), mode: None };
    let config = ConfigMapVolumeSource {
        name: plan.names().backup(),
        default_mode: Some(MODE),
        items: Some(vec![item]),
        ..ConfigMapVolumeSource::default()
    };
    let tls = (task == Task::Run).then(|| secret_volume("tls", plan.names().backup_tls()));
    let job = Volume { name: "job".to_owned(), config_map: Some(config), ..Volume::default() };
    [job, secret_volume("store", store.credentials.clone())].into_iter().chain(tls).collect()
}
