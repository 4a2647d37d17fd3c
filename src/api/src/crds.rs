//! The CustomResourceDefinitions, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::CustomResourceExt;

use crate::{ErasureRequest, MarketplaceConnection, RetentionPolicy};

/// Every kind's definition, as it is installed.
pub fn all() -> Vec<CustomResourceDefinition> {
    [ErasureRequest::crd(), MarketplaceConnection::crd(), RetentionPolicy::crd()]
        .into_iter()
        .map(published)
        .collect()
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
