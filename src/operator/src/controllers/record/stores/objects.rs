//! What purges stores, in the operator's namespace. Pure.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{KeyToPath, SecretVolumeSource, Volume},
    networking::v1::{NetworkPolicy, NetworkPolicySpec},
};
use kube::{ResourceExt, api::ObjectMeta};
use marketrelay_api::{
    ConnectionRecord, OperatorConfig,
    backup::{Goes, PurgeConfig, PurgeStore, paths},
    labels,
    operator_config::BackupSettings,
    record::RecordStore,
};

use super::{
    known::bucket,
    purge::{Purge, What},
    secret::{entries, labels},
};
use crate::{
    controllers::connection::children::{
        backup::{job_container, job_spec, restricted},
        network_policy::{dns, https, matching},
        pod::{MODE, read_only},
    },
    names,
};

/// The program's subcommand.
const TASK: &str = "purge";
/// The Job's configuration, as it is mounted.
const CONFIG: &str = "job.yaml";
/// Between the buckets that a Job works with.
const BETWEEN: &str = " ";

/// The Job's configuration file.
pub fn config(
    record: &ConnectionRecord,
    goes: Goes,
    stores: &[&RecordStore],
    config: &OperatorConfig,
) -> String {
    let authorities = &config.egress.extra_ca_certificates;
    let store = |store: &&RecordStore| PurgeStore { id: store.id.clone(), store: store.s3(authorities) };
    let config = PurgeConfig {
        connection_id: record.name_any(),
        namespace: record.spec.namespace.clone(),
        name: record.spec.connection.clone(),
        goes,
        stores: stores.iter().map(store).collect(),
    };
    // A structure of texts always has a YAML form.
    serde_yaml::to_string(&config).unwrap_or_default()
}

/// The Job of an attempt.
pub fn job(
    record: &ConnectionRecord,
    purge: &Purge,
    stores: &[&RecordStore],
    config: &OperatorConfig,
    settings: &BackupSettings,
) -> Job {
    let (labels, secret) = (labels(record), names::stores(&record.name_any()));
    let mounts = vec![read_only("job", paths::CONFIG_FOLDER), read_only("stores", paths::STORES)];
    let volumes = vec![configuration(secret.clone(), purge.what), credentials(secret, stores)];
    let pod = restricted(names::PURGE.to_owned(), config, job_container(settings, TASK, mounts), volumes);
    let buckets: Vec<_> = stores.iter().map(|store| bucket(store)).collect();
    Job {
        metadata: ObjectMeta {
            name: Some(purge.what.attempt(&record.name_any(), purge.attempts)),
            labels: Some(labels.clone()),
            annotations: Some([(labels::STORE.to_owned(), buckets.join(BETWEEN))].into()),
            ..ObjectMeta::default()
        },
        spec: Some(job_spec(settings, labels, pod)),
        status: None,
    }
}

fn configuration(secret: String, what: What) -> Volume {
    let items = vec![KeyToPath { key: what.entry().to_owned(), path: CONFIG.to_owned(), mode: None }];
    let secret = SecretVolumeSource {
        secret_name: Some(secret),
        default_mode: Some(MODE),
        items: Some(items),
        ..SecretVolumeSource::default()
    };
    Volume { name: "job".to_owned(), secret: Some(secret), ..Volume::default() }
}

/// Of these stores alone; not all have a session token.
fn credentials(secret: String, stores: &[&RecordStore]) -> Volume {
    let item = |name: String| KeyToPath { path: name.clone(), key: name, mode: None };
    let secret = SecretVolumeSource {
        secret_name: Some(secret),
        default_mode: Some(MODE),
        items: Some(stores.iter().flat_map(|store| entries(store)).map(item).collect()),
        optional: Some(true),
    };
    Volume { name: "stores".to_owned(), secret: Some(secret), ..Volume::default() }
}

/// The buckets that a Job works with.
pub fn buckets(job: &Job) -> impl Iterator<Item = &str> {
    job.annotations().get(labels::STORE).into_iter().flat_map(|buckets| buckets.split(BETWEEN))
}

/// Nobody reaches a Job; a Job reaches DNS, and https for the stores.
pub fn network_policy(record: &ConnectionRecord, what: What, stores: &[&RecordStore]) -> NetworkPolicy {
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(what.policy(&record.name_any())),
            labels: Some(labels(record)),
            ..ObjectMeta::default()
        },
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(matching(labels(record))),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: None,
            egress: Some(vec![dns(), https(stores.iter().filter_map(|store| store.endpoint.as_ref()))]),
        }),
    }
}
