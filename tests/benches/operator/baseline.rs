//! A bare client that writes what the operator made.

use futures::{StreamExt, stream};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams, TypeMeta},
};
use marketrelay_api::MarketplaceConnection;

use crate::plane::CONCURRENCY;

/// A connection and its children in the order in which they are written.
pub struct Set {
    connection: DynamicObject,
    children: Vec<(ApiResource, DynamicObject)>,
}

fn kinds() -> [ApiResource; 7] {
    [
        ApiResource::erase::<Secret>(&()),
        ApiResource::erase::<ServiceAccount>(&()),
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<PersistentVolumeClaim>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
        ApiResource::erase::<StatefulSet>(&()),
    ]
}

const LABEL: &str = "marketrelay.dev/connection";

/// What is in a namespace, without what the API server added.
pub async fn taken_from(client: &Client, namespace: &str) -> Vec<Set> {
    let list = async |resource: &ApiResource| {
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, resource);
        let items = api.list(&ListParams::default()).await.expect("a list").items;
        items.into_iter().map(|object| bare(object, resource)).collect::<Vec<_>>()
    };
    let mut sets: Vec<_> = list(&ApiResource::erase::<MarketplaceConnection>(&()))
        .await
        .into_iter()
        .filter(|connection| connection.name_any() != "first")
        .map(|connection| Set { connection, children: Vec::new() })
        .collect();
    for kind in kinds() {
        for object in list(&kind).await {
            let owner = object.labels().get(LABEL).cloned();
            let set = sets.iter_mut().find(|set| owner.as_deref() == Some(&set.connection.name_any()));
            if let Some(set) = set {
                set.children.push((kind.clone(), object));
            }
        }
    }
    sets
}

/// Items of a list don't say what they are.
fn bare(mut object: DynamicObject, resource: &ApiResource) -> DynamicObject {
    let (api_version, kind) = (resource.api_version.clone(), resource.kind.clone());
    object.types = Some(TypeMeta { api_version, kind });
    let metadata = &mut object.metadata;
    (metadata.uid, metadata.resource_version, metadata.managed_fields) = (None, None, None);
    (metadata.creation_timestamp, metadata.generation, metadata.namespace) = (None, None, None);
    if let Some(fields) = object.data.as_object_mut() {
        fields.remove("status");
    }
    object
}

/// Writes all of it into another namespace in the operator's way: keys created, everything else applied.
pub async fn write(client: &Client, namespace: &str, sets: &[Set]) {
    stream::iter(sets).for_each_concurrent(CONCURRENCY, |set| write_one(client, namespace, set)).await;
}

async fn write_one(client: &Client, namespace: &str, set: &Set) {
    let apply = PatchParams::apply("bench");
    let resource = ApiResource::erase::<MarketplaceConnection>(&());
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    let name = set.connection.name_any();
    let made = api.patch(&name, &apply, &Patch::Apply(&set.connection)).await.expect("a connection");
    for (kind, child) in &set.children {
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, kind);
        let mut child = child.clone();
        for owner in child.metadata.owner_references.iter_mut().flatten() {
            owner.uid = made.uid().expect("a uid");
        }
        let is_key = kind.kind == "Secret" && child.owner_references().is_empty();
        let written = if is_key {
            api.create(&PostParams::default(), &child).await
        } else {
            api.patch(&child.name_any(), &apply, &Patch::Apply(&child)).await
        };
        written.unwrap_or_else(|error| panic!("{} {}: {error}", kind.kind, child.name_any()));
    }
}

/// How many objects a set is.
pub fn objects(sets: &[Set]) -> usize {
    sets.iter().map(|set| 1 + set.children.len()).sum()
}
