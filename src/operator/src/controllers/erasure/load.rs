//! Everything that a reconcile reads before it decides.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::{Api, ResourceExt};
use marketrelay_api::{
    ConnectionRecord, ErasureRequest, ErasureRequestStatus, MarketplaceConnection, erasure::SubjectSecret,
    labels,
};
use marketrelay_keyring::{DIGEST_KEY_ENTRY, DigestKey, SecretKey};

use super::subject::{self, Plaintext};
use crate::{controllers::connection::Context, names::DIGEST_KEY, secrets::wipe, stores::Stores};

/// What was read.
pub(super) struct Loaded {
    /// The namespace's connections.
    pub(super) connections: BTreeSet<String>,
    /// Deleted connections of the namespace whose volumes are still there.
    pub(super) retained: BTreeSet<String>,
    /// Connections that are or were in the namespace and whose keys are destroyed: nothing of them can be read any more.
    pub(super) closed: BTreeSet<String>,
    /// Some of the connections have backups.
    pub(super) restorable: bool,
    /// The Secret that `secretRef` names.
    pub(super) secret: SecretState,
    /// The namespace's digest key, where a Secret is to be digested.
    pub(super) digest_key: Option<DigestKey>,
}

/// The Secret that `secretRef` names.
pub(super) enum SecretState {
    /// The subject needs none, or it has been read and is gone.
    NotNeeded,
    /// It hasn't been read, and it isn't there.
    Missing,
    /// It is to be read, or to be read again because it changed.
    Fresh(Plaintext, SubjectSecret),
    /// It has been read as it is, and is still there.
    Remains(SubjectSecret),
}

/// Reads from the stores, and the Secret from the API server: the stores may lag, and this one must be gone for sure.
pub(super) async fn load(
    request: &ErasureRequest,
    before: &ErasureRequestStatus,
    context: &Context,
) -> kube::Result<Loaded> {
    let namespace = request.namespace().unwrap_or_default();
    let api = Api::<Secret>::namespaced(context.client.clone(), &namespace);
    let secret = match &request.spec.subject.secret_ref {
        None => SecretState::NotNeeded,
        Some(reference) => secret(&api, &reference.name, before.subject_secret.as_ref()).await?,
    };
    let digest_key = match &secret {
        SecretState::Fresh(..) => digest_key(&api).await?,
        _ => None,
    };
    let closed = closed(&context.stores, &namespace);
    let connections = connections(&context.stores, &namespace, &closed);
    let retained = retained(&context.stores, &namespace, &closed).difference(&connections).cloned().collect();
    let closed = closed.into_values().collect();
    let restorable = restorable(request, &context.stores);
    Ok(Loaded { connections, retained, closed, restorable, secret, digest_key })
}

async fn secret(api: &Api<Secret>, name: &str, read: Option<&SubjectSecret>) -> kube::Result<SecretState> {
    if let Some(read) = read {
        let Some(found) = api.get_metadata_opt(name).await? else { return Ok(SecretState::NotNeeded) };
        let version = version(&found);
        if version.uid != read.uid {
            // Another one of the same name, which isn't this request's.
            return Ok(SecretState::NotNeeded);
        }
        if version == *read {
            return Ok(SecretState::Remains(version));
        }
    }
    let Some(mut found) = api.get_opt(name).await? else {
        return Ok(if read.is_some() { SecretState::NotNeeded } else { SecretState::Missing });
    };
    let plaintext = subject::read(&found);
    wipe(&mut found);
    Ok(SecretState::Fresh(plaintext, version(&found)))
}

fn version(secret: &impl ResourceExt) -> SubjectSecret {
    SubjectSecret {
        uid: secret.uid().unwrap_or_default(),
        resource_version: secret.resource_version().unwrap_or_default(),
    }
}

/// The namespace's digest key; `None` if there is none that can be used.
pub(crate) async fn digest_key(api: &Api<Secret>) -> kube::Result<Option<DigestKey>> {
    let Some(mut found) = api.get_opt(DIGEST_KEY).await? else { return Ok(None) };
    let bytes = found.data.as_ref().and_then(|data| data.get(DIGEST_KEY_ENTRY));
    let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.0.as_slice()).ok());
    wipe(&mut found);
    Ok(key.map(|bytes| DigestKey::new(&SecretKey::from(bytes))))
}

/// Whether a backup of some connection that is asked could be restored, and hold what the request erases.
pub(super) fn restorable(request: &ErasureRequest, stores: &Stores) -> bool {
    let (namespace, names) = (request.namespace(), &request.spec.connections);
    let is_asked = |name: &String| names.is_empty() || names.contains(name);
    let has_backups = |connection: &MarketplaceConnection| {
        connection.namespace() == namespace
            && connection.spec.backup.is_some()
            && is_asked(&connection.name_any())
    };
    stores.connections.find(has_backups).is_some()
}

/// By id, the connections whose keys are destroyed, as their records say.
fn closed(stores: &Stores, namespace: &str) -> BTreeMap<String, String> {
    let are_destroyed = |record: &ConnectionRecord| {
        let closure = record.status.as_ref().and_then(|status| status.closure.as_ref());
        closure.is_some_and(|closure| closure.keys_destroyed_at.is_some())
    };
    let here =
        stores.records.state_filter(|record| record.spec.namespace == namespace && are_destroyed(record));
    here.iter().map(|record| (record.name_any(), record.spec.connection.clone())).collect()
}

fn connections(stores: &Stores, namespace: &str, closed: &BTreeMap<String, String>) -> BTreeSet<String> {
    let is_open = |connection: &MarketplaceConnection| {
        let id = connection.status.as_ref().and_then(|status| status.connection_id.as_ref());
        id.is_none_or(|id| !closed.contains_key(id))
    };
    let here = stores.connections.state_filter(|connection| {
        connection.metadata.namespace.as_deref() == Some(namespace) && is_open(connection)
    });
    here.iter().map(|connection| connection.name_any()).collect()
}

fn retained(stores: &Stores, namespace: &str, closed: &BTreeMap<String, String>) -> BTreeSet<String> {
    let is_sealed = |claim: &PersistentVolumeClaim| {
        claim.labels().get(labels::CONNECTION_ID).is_some_and(|id| closed.contains_key(id))
    };
    let here = stores
        .claims
        .state_filter(|claim| claim.metadata.namespace.as_deref() == Some(namespace) && !is_sealed(claim));
    here.iter().filter_map(|claim| claim.labels().get(labels::CONNECTION).cloned()).collect()
}
