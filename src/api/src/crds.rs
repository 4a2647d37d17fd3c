//! The CustomResourceDefinitions, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::CustomResourceExt;

use crate::{MarketplaceConnection, RetentionPolicy};

/// Every kind's definition, as it is installed.
pub fn all() -> Vec<CustomResourceDefinition> {
    [MarketplaceConnection::crd(), RetentionPolicy::crd()].into_iter().map(without_null).collect()
}

/// An optional field is absent, never null: CEL's `has()` takes a null for a value, and the API server drops nulls
/// of fields that aren't nullable.
fn without_null(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            clear_nullable(schema);
        }
    }
    crd
}

fn clear_nullable(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(clear_nullable);
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
