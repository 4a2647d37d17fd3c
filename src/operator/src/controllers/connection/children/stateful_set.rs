use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::api::ObjectMeta;
use marketrelay_api::labels;

use super::{Plan, pod, strings};

/// Keeps the relay's one pod running.
pub fn build(plan: &Plan<'_>, config_digest: &str) -> StatefulSet {
    let mut metadata = plan.owned(plan.names().relay(), labels::RELAY);
    let since = plan.updating_since.map(|since| since.to_string());
    let since = since.as_deref().map(|since| (labels::REVISION_SINCE, since));
    let annotations: Vec<_> = [(labels::REVISION, plan.revision)].into_iter().chain(since).collect();
    metadata.annotations = Some(strings(&annotations));
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(plan.labels(labels::RELAY)),
            annotations: Some(strings(&[(labels::CONFIG_HASH, config_digest)])),
            ..ObjectMeta::default()
        }),
        spec: Some(pod::spec(plan)),
    };
    StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            replicas: Some(i32::from(!plan.at_rest)),
            service_name: Some(plan.names().relay()),
            selector: LabelSelector {
                match_labels: Some(plan.selector(labels::RELAY)),
                ..LabelSelector::default()
            },
            // A pod that never became ready must not keep its successor from starting.
            pod_management_policy: Some("Parallel".to_owned()),
            template,
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}
