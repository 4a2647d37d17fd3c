use std::collections::BTreeMap;

use k8s_openapi::api::{
    batch::v1::{JobSpec, PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule},
    core::v1::{PodSpec, PodTemplateSpec},
};
use kube::api::ObjectMeta;
use marketrelay_api::operator_config::BackupSettings;

/// How long a finished Job and its pod stay: what they report is read within seconds, or when the operator is back.
const KEPT_SECONDS: i32 = 6 * 3_600;

/// Of any Job that works with backups: it tries once, and not for ever. `labels`: of its pod.
pub fn job_spec(settings: &BackupSettings, labels: BTreeMap<String, String>, pod: PodSpec) -> JobSpec {
    JobSpec {
        active_deadline_seconds: Some(settings.deadline_seconds.into()),
        backoff_limit: Some(0),
        pod_failure_policy: Some(unless_disrupted()),
        ttl_seconds_after_finished: Some(KEPT_SECONDS),
        template: PodTemplateSpec {
            metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
            spec: Some(pod),
        },
        ..JobSpec::default()
    }
}

/// A pod that had to leave its node is replaced; another failure is the Job's.
fn unless_disrupted() -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![PodFailurePolicyRule {
            action: "Ignore".to_owned(),
            on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                type_: "DisruptionTarget".to_owned(),
                status: "True".to_owned(),
            }]),
            ..PodFailurePolicyRule::default()
        }],
    }
}
