//! A connection's children, whatever their kinds.

use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};

use crate::support::Space;

/// Kind, group and version, and what follows the connection's name.
pub const APPLIED: [(&str, &str, &str); 7] = [
    ("ServiceAccount", "v1", "-relay"),
    ("ConfigMap", "v1", "-relay"),
    ("Secret", "v1", "-relay-tls"),
    ("PersistentVolumeClaim", "v1", "-data"),
    ("Service", "v1", "-relay"),
    ("NetworkPolicy", "networking.k8s.io/v1", "-relay"),
    ("StatefulSet", "apps/v1", "-relay"),
];
pub const KEYS: [(&str, &str, &str); 2] = [("Secret", "v1", "-keyring"), ("Secret", "v1", "-database-key")];

pub fn api(space: &Space, kind: &str, version: &str) -> Api<DynamicObject> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(space.client.clone(), &space.name, &resource)
}

/// One of the above.
pub async fn child(
    space: &Space,
    connection: &str,
    (kind, version, suffix): (&str, &str, &str),
) -> DynamicObject {
    let name = format!("{connection}{suffix}");
    api(space, kind, version).get(&name).await.unwrap_or_else(|error| panic!("{kind} {name}: {error}"))
}
