//! What stays when its connection is deleted is labelled so, and the label goes when the connection comes back.

use std::{fmt::Debug, sync::Arc, time::Duration};

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{PersistentVolumeClaim, Secret},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::reflector::ObjectRef,
};
use marketrelay_api::{MarketplaceConnection, labels};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::Notify;

use crate::{secrets::is_key, stores::Stores};

/// Looked at this often even if nothing rings.
const INTERVAL: Duration = Duration::from_mins(1);

/// For one call; the next look tries again.
const CALL: Duration = Duration::from_secs(30);

/// Runs until dropped.
pub async fn run(client: Client, stores: Arc<Stores>, bell: Arc<Notify>) {
    loop {
        for claim in stores.claims.state() {
            mark::<PersistentVolumeClaim>(&client, &stores, claim.as_ref()).await;
        }
        for secret in stores.secrets.state_filter(is_key) {
            mark::<Secret>(&client, &stores, secret.as_ref()).await;
        }
        let _rung = tokio::time::timeout(INTERVAL, bell.notified()).await;
    }
}

async fn mark<K>(client: &Client, stores: &Stores, object: &impl ResourceExt)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let Some(connection) = object.labels().get(labels::CONNECTION) else { return };
    let namespace = object.namespace().unwrap_or_default();
    let reference = ObjectRef::<MarketplaceConnection>::new(connection).within(&namespace);
    let retained = stores.connections.get(&reference).is_none();
    let marked = object.labels().contains_key(labels::RETAINED);
    if retained == marked || object.meta().deletion_timestamp.is_some() {
        return;
    }
    let label = retained.then_some("true");
    let patch = Patch::Merge(json!({"metadata": {"labels": {labels::RETAINED: label}}}));
    let name = object.name_any();
    let api = Api::<K>::namespaced(client.clone(), &namespace);
    let kind = K::kind(&());
    let params = PatchParams::default();
    let patching = tokio::time::timeout(CALL, api.patch(&name, &params, &patch));
    let Ok(patched) = patching.await else {
        tracing::warn!(%kind, namespace, name, "can't be marked as retained in time");
        return;
    };
    match patched {
        Ok(_) if retained => {
            tracing::info!(%kind, namespace, name, connection, "retained: its connection is deleted");
        }
        Ok(_) => tracing::info!(%kind, namespace, name, connection, "adopted by its connection"),
        // Its namespace is being deleted.
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        Err(error) => tracing::warn!(%kind, namespace, name, %error, "can't be marked as retained"),
    }
}
