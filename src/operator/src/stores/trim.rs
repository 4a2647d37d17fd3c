//! What isn't kept of what is watched.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, PodTemplateSpec, Secret},
};
use kube::{Resource, api::PartialObjectMeta};

pub fn without_managed_fields<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

pub fn without_spec(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    pod.spec = None;
}

pub fn without_template(job: &mut Job) {
    job.metadata.managed_fields = None;
    if let Some(spec) = &mut job.spec {
        spec.template = PodTemplateSpec::default();
    }
}

/// Of Secrets, the last applied configuration would hold their contents.
pub fn bare(secret: &mut PartialObjectMeta<Secret>) {
    secret.metadata.managed_fields = None;
    if let Some(annotations) = &mut secret.metadata.annotations {
        annotations.retain(|name, _| name.starts_with("marketrelay.dev/"));
    }
}
