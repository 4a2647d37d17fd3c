//! The CustomResourceDefinitions, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps,
};
use kube::CustomResourceExt;

use crate::{ConnectionRecord, ErasureRequest, MarketplaceConnection, RetentionPolicy, record::RecordPhase};

/// Every kind's definition, as it is installed.
pub fn all() -> Vec<CustomResourceDefinition> {
    [
        active(ConnectionRecord::crd()),
        ErasureRequest::crd(),
        MarketplaceConnection::crd(),
        RetentionPolicy::crd(),
    ]
    .into_iter()
    .map(published)
    .collect()
}

/// A record is Active as soon as it is made, without a second write for its status.
fn active(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let schemas = crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut());
    let roots = schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut());
    for status in roots.filter_map(|root| root.properties.as_mut()?.get_mut("status")) {
        status.default = Some(JSON(serde_json::json!({"phase": RecordPhase::default()})));
    }
    crd
}

fn published(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            each(schema, &|schema| {
                without_null(schema);
                flowing(schema);
            });
        }
    }
    crd
}

fn each(schema: &mut JSONSchemaProps, change: &impl Fn(&mut JSONSchemaProps)) {
    change(schema);
    schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
        .for_each(|field| each(field, change));
}

/// An optional field is absent, never null: CEL's `has()` takes a null for a value, and the API server drops nulls
/// of fields that aren't nullable.
fn without_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
}

/// `kubectl explain` breaks lines itself.
fn flowing(schema: &mut JSONSchemaProps) {
    if let Some(text) = &mut schema.description {
        *text = text.replace('\n', " ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_as_published() {
        for crd in all() {
            insta::assert_yaml_snapshot!(crd.metadata.name.clone().expect("named"), crd);
        }
    }
}
