use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use marketrelay_api::labels;

use super::{Plan, strings};

/// The relay's volume: for one pod at a time. Without owner, so that a deleted connection's data stays.
pub fn build(plan: &Plan<'_>) -> PersistentVolumeClaim {
    let mut metadata = plan.unowned(plan.names().volume(), labels::RELAY);
    let marketplace = plan.validated.kind.to_string();
    let labels = strings(&[(labels::CONNECTION_ID, plan.id), (labels::MARKETPLACE, &marketplace)]);
    metadata.labels.get_or_insert_default().extend(labels);
    // A structure of texts always has a JSON form.
    let retention = serde_json::to_string(plan.terms).unwrap_or_default();
    metadata.annotations = Some(strings(&[(labels::RETENTION, &retention)]));
    let requests = [("storage".to_owned(), Quantity(plan.validated.size.clone()))].into();
    PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOncePod".to_owned()]),
            storage_class_name: Some(plan.validated.class.clone()),
            resources: Some(VolumeResourceRequirements { requests: Some(requests), ..Default::default() }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
