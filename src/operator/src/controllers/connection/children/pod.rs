use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, ContainerPort, HTTPGetAction, LocalObjectReference,
        PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, Probe, ResourceRequirements,
        SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use marketrelay_api::{
    OperatorConfig,
    operator_config::{PullPolicy, Resources},
    relay::paths,
};

use super::Plan;
use crate::names::DIGEST_KEY;

/// Of the images' only user.
const USER: i64 = 65_532;
/// Readable by the pod's group alone.
pub const MODE: i32 = 0o440;
/// The longest request that the relay finishes before it ends, and some time for the database.
const GRACE_SECONDS: i64 = 30;

/// The relay's pod: restricted as Pod Security's strictest level wants it, without a token of the API server.
pub fn spec(plan: &Plan<'_>) -> PodSpec {
    PodSpec {
        service_account_name: Some(plan.names().relay()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        image_pull_secrets: pull_secrets(plan.config),
        security_context: Some(pod_security()),
        containers: vec![container(plan)],
        volumes: Some(volumes(plan)),
        ..PodSpec::default()
    }
}

/// Those with which the images of a connection's pods are pulled.
pub fn pull_secrets(config: &OperatorConfig) -> Option<Vec<LocalObjectReference>> {
    let secrets = config.relay.image_pull_secrets.iter();
    let secrets: Vec<_> = secrets.map(|name| LocalObjectReference { name: name.clone() }).collect();
    (!secrets.is_empty()).then_some(secrets)
}

/// Of every pod.
pub fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..Default::default() }),
        ..PodSecurityContext::default()
    }
}

/// Of every container.
pub fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

/// As Kubernetes writes it.
pub fn pull_policy(policy: PullPolicy) -> String {
    let policy = match policy {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    };
    policy.to_owned()
}

/// As Kubernetes writes them.
pub fn resources(resources: &Resources) -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(resources.requests.clone()),
        limits: Some(resources.limits.clone()),
        ..ResourceRequirements::default()
    }
}

/// A Secret as a volume.
pub fn secret_volume(name: &str, secret: String) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(MODE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Where a volume is found, to be read.
pub fn read_only(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

fn container(plan: &Plan<'_>) -> Container {
    let relay = &plan.config.relay;
    Container {
        name: "relay".to_owned(),
        image: Some(relay.image.clone()),
        image_pull_policy: Some(pull_policy(relay.image_pull_policy)),
        ports: Some(vec![ContainerPort {
            name: Some("admin".to_owned()),
            container_port: paths::ADMIN_PORT.into(),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(resources(&relay.resources)),
        security_context: Some(container_security()),
        liveness_probe: Some(probe("/livez", 10, 6)),
        readiness_probe: Some(probe("/readyz", 3, 3)),
        // The last line of the log says why a relay ended.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts()),
        ..Container::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("admin".to_owned()),
            scheme: Some("HTTPS".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(6),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn mounts() -> Vec<VolumeMount> {
    let folders = [
        ("config", paths::CONFIG_FOLDER),
        ("keyring", paths::KEYRING),
        ("digest", paths::DIGEST),
        ("database", paths::DATABASE_KEY),
        ("credentials", paths::CREDENTIALS),
        ("signing", paths::SIGNING),
        ("tls", paths::TLS),
    ];
    let folders = folders.into_iter().map(|(name, path)| read_only(name, path));
    let data =
        VolumeMount { name: "data".to_owned(), mount_path: paths::DATA.to_owned(), ..VolumeMount::default() };
    folders.chain([data]).collect()
}

fn volumes(plan: &Plan<'_>) -> Vec<Volume> {
    let names = plan.names();
    let config =
        ConfigMapVolumeSource { name: names.relay(), default_mode: Some(MODE), ..Default::default() };
    let claim = PersistentVolumeClaimVolumeSource { claim_name: names.volume(), read_only: None };
    vec![
        Volume { name: "config".to_owned(), config_map: Some(config), ..Volume::default() },
        secret_volume("keyring", names.keyring()),
        secret_volume("digest", DIGEST_KEY.to_owned()),
        secret_volume("database", names.database_key()),
        secret_volume("credentials", plan.validated.credentials.clone()),
        secret_volume("signing", plan.validated.signing.clone()),
        secret_volume("tls", names.tls()),
        Volume { name: "data".to_owned(), persistent_volume_claim: Some(claim), ..Volume::default() },
    ]
}
