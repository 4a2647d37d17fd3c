//! A look at everything of a connection that is there, at the API server itself: the stores may lag.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    batch::v1::{CronJob, Job},
    core::v1::{
        ConfigMap, Namespace, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
    },
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, PartialObjectMeta},
};
use marketrelay_api::{
    ConnectionRecord, labels,
    record::{ClosedObject, RecordPhase},
};

use super::{own_id, phase};
use crate::{
    controllers::{
        connection::Context,
        keyring::{escrow::is_escrow, identities::facts::is_identities},
    },
    names::DIGEST_KEY,
    secrets::{is_key, wipe},
};

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where the connection was.
    pub namespace: NamespaceState,
    /// What is there, in the order in which it goes.
    pub objects: Vec<Object>,
    /// Other connections of the namespace need its digest key.
    pub digest_key_is_shared: bool,
}

/// What has become of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceState {
    /// It is there, as when the connection was made.
    There,
    /// It is being deleted, or has been deleted and made anew.
    Lost,
    /// It is gone.
    Gone,
}

/// Something that is there.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its version.
    pub version: Option<String>,
    /// When it goes; `None`: it goes by itself or isn't the operator's to delete.
    pub turn: Option<Turn>,
    /// Somebody deletes it already.
    pub is_leaving: bool,
    /// The entries of a key Secret.
    pub entries: Option<Vec<String>>,
    /// Why it stays, if that is known.
    pub stays: Option<&'static str>,
    /// The id of the connection that it was made for, where it says so.
    pub connection_id: Option<String>,
}

/// The order in which things go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// What would start the relay or a backup again.
    Relay,
    /// The identities of backups, and the escrowed keys.
    Identities,
    /// The keyring.
    Keyring,
    /// Other keys.
    Keys,
    /// The volume claim.
    Volume,
    /// Everything else.
    Rest,
}

impl Found {
    /// Whether the connection's keyring is there.
    pub fn has_keyring(&self) -> bool {
        self.objects.iter().any(|object| object.turn == Some(Turn::Keyring))
    }

    /// The names of the holds that there are keys of, whatever can be said of the keys otherwise.
    pub fn holds(&self) -> BTreeSet<&str> {
        let entries = self.objects.iter().flat_map(|object| object.entries.iter().flatten());
        let named = entries.filter_map(|entry| entry.strip_prefix("hold."));
        named.map(|named| named.rsplit_once('.').map_or(named, |(name, _)| name)).collect()
    }

    /// Whether anything is left that could write a backup, or start what does.
    pub fn has_writers(&self) -> bool {
        let kinds = ["StatefulSet", "CronJob", "Job", "Pod"];
        self.objects.iter().any(|object| kinds.contains(&object.kind.as_str()))
    }

    /// Whether anything is left that was the connection's alone, its PersistentVolume aside.
    pub fn has_own(&self) -> bool {
        self.objects.iter().any(|object| object.name != DIGEST_KEY && object.kind != "PersistentVolume")
    }
}

impl Object {
    fn of(resource: &ApiResource, object: &impl ResourceExt) -> Self {
        let id = object.labels().get(labels::CONNECTION_ID).cloned();
        let turn = match resource.kind.as_str() {
            "StatefulSet" | "CronJob" | "Job" => Some(Turn::Relay),
            "Secret" if is_identities(object) || is_escrow(object) => Some(Turn::Identities),
            "Secret" if is_key(object) && id.is_some() => Some(Turn::Keyring),
            "Secret" if is_key(object) => Some(Turn::Keys),
            "PersistentVolumeClaim" => Some(Turn::Volume),
            "Pod" => None,
            _ => Some(Turn::Rest),
        };
        Self {
            kind: resource.kind.clone(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            version: object.resource_version(),
            turn,
            is_leaving: object.meta().deletion_timestamp.is_some(),
            entries: None,
            stays: None,
            connection_id: id,
        }
    }

    /// Whether it holds keys.
    pub fn is_key(&self) -> bool {
        matches!(self.turn, Some(Turn::Identities | Turn::Keyring | Turn::Keys))
    }
}

/// The kinds that a connection's objects are of, beside its PersistentVolume.
pub fn resources() -> [ApiResource; 10] {
    [
        ApiResource::erase::<StatefulSet>(&()),
        ApiResource::erase::<CronJob>(&()),
        ApiResource::erase::<Job>(&()),
        ApiResource::erase::<Pod>(&()),
        ApiResource::erase::<Secret>(&()),
        ApiResource::erase::<PersistentVolumeClaim>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<ServiceAccount>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
    ]
}

/// What the operator's objects of a connection are listed by.
pub fn selector(record: &ConnectionRecord) -> String {
    let connection = &record.spec.connection;
    format!("{}={},{}={connection}", labels::MANAGED_BY, labels::OPERATOR, labels::CONNECTION)
}

/// Looks. `known`: volumes among it are looked for too; `whole`: all volumes that were ever bound to the claim are.
pub async fn look(
    context: &Context,
    record: &ConnectionRecord,
    known: &[ClosedObject],
    whole: bool,
) -> kube::Result<Found> {
    let client = &context.client;
    let namespace = namespace(client, record).await?;
    let mut objects = match namespace {
        NamespaceState::Gone => Vec::new(),
        NamespaceState::There | NamespaceState::Lost => children(client, record).await?,
    };
    let is_other = |object: &Object| {
        object.connection_id.as_ref().is_some_and(|id| Some(id) != record.metadata.name.as_ref())
    };
    let others: Vec<_> = objects.iter().filter(|object| is_other(object)).map(|o| o.uid.clone()).collect();
    // A new connection of the same name has taken over: what isn't labelled is its own.
    objects.retain(|object| !is_other(object) && (others.is_empty() || object.connection_id.is_some()));
    let digest_key_is_shared = !is_last(context, record) || !others.is_empty();
    if !digest_key_is_shared && namespace != NamespaceState::Gone {
        objects.extend(digest_key(client, record).await?);
    }
    objects.extend(volumes(client, record, &objects, &others, known, whole).await?);
    objects.sort_by(|a, b| (a.turn.is_none(), a.turn, &a.name).cmp(&(b.turn.is_none(), b.turn, &b.name)));
    Ok(Found { namespace, objects, digest_key_is_shared })
}

async fn namespace(client: &Client, record: &ConnectionRecord) -> kube::Result<NamespaceState> {
    let found = Api::<Namespace>::all(client.clone()).get_opt(&record.spec.namespace).await?;
    let Some(found) = found else { return Ok(NamespaceState::Gone) };
    let is_younger =
        found.creation_timestamp().map(|time| time.0) > record.creation_timestamp().map(|time| time.0);
    let is_lost = is_younger || found.metadata.deletion_timestamp.is_some();
    Ok(if is_lost { NamespaceState::Lost } else { NamespaceState::There })
}

async fn children(client: &Client, record: &ConnectionRecord) -> kube::Result<Vec<Object>> {
    let only = ListParams::default().labels(&selector(record));
    let mut objects = Vec::new();
    for resource in resources() {
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), &record.spec.namespace, &resource);
        for listed in api.list_metadata(&only).await?.items {
            objects.extend(completed(client, record, Object::of(&resource, &listed)).await?);
        }
    }
    Ok(objects)
}

/// With the names of a key Secret's entries. `None`: it is gone meanwhile.
async fn completed(
    client: &Client,
    record: &ConnectionRecord,
    object: Object,
) -> kube::Result<Option<Object>> {
    if !object.is_key() {
        return Ok(Some(object));
    }
    let api = Api::<Secret>::namespaced(client.clone(), &record.spec.namespace);
    let Some(mut secret) = api.get_opt(&object.name).await? else { return Ok(None) };
    let entries = secret.data.iter().flatten().map(|(name, _)| name.clone()).collect();
    wipe(&mut secret);
    Ok(Some(Object { version: secret.resource_version(), entries: Some(entries), ..object }))
}

/// Whether no other connection of the namespace has keys, or is about to get some.
pub fn is_last(context: &Context, record: &ConnectionRecord) -> bool {
    let (stores, id, spec) = (&context.stores, record.name_any(), &record.spec);
    let is_closed = |id: &str| {
        let record = stores.records.find(|record| record.name_any() == id);
        record.is_some_and(|record| phase(&record) == RecordPhase::Closed)
    };
    let has_record = stores.records.find(|other| {
        other.spec.namespace == spec.namespace
            && other.name_any() != id
            && phase(other) != RecordPhase::Closed
    });
    let has_connection = stores.connections.find(|other| {
        other.metadata.namespace.as_ref() == Some(&spec.namespace)
            && own_id(other).is_none_or(|other| other != id && !is_closed(other))
    });
    let has_claim = stores.claims.find(|claim| {
        claim.metadata.namespace.as_ref() == Some(&spec.namespace)
            && claim.labels().get(labels::CONNECTION_ID) != Some(&id)
    });
    has_record.is_none() && has_connection.is_none() && has_claim.is_none()
}

async fn digest_key(client: &Client, record: &ConnectionRecord) -> kube::Result<Option<Object>> {
    let api = Api::<Secret>::namespaced(client.clone(), &record.spec.namespace);
    let Some(metadata) = api.get_metadata_opt(DIGEST_KEY).await?.filter(is_key_of_ours) else {
        return Ok(None);
    };
    completed(client, record, Object::of(&ApiResource::erase::<Secret>(&()), &metadata)).await
}

fn is_key_of_ours(secret: &PartialObjectMeta<Secret>) -> bool {
    is_key(secret)
}

/// The claim's volumes. They are never deleted by the operator: that is for whoever provisioned them.
async fn volumes(
    client: &Client,
    record: &ConnectionRecord,
    objects: &[Object],
    others: &[String],
    known: &[ClosedObject],
    whole: bool,
) -> kube::Result<Vec<Object>> {
    let kind = PersistentVolume::kind(&());
    let api = Api::<PersistentVolume>::all(client.clone());
    let mut volumes = Vec::new();
    if whole {
        let all = api.list(&ListParams::default()).await?.items;
        volumes.extend(all.into_iter().filter(|volume| is_bound(volume, record, others)));
    }
    let mut names: Vec<_> = known.iter().filter(|at| at.kind == kind && at.gone_at.is_none()).collect();
    names.retain(|at| volumes.iter().all(|volume| volume.uid().as_ref() != Some(&at.uid)));
    for at in names {
        volumes.extend(api.get_opt(&at.name).await?.filter(|volume| volume.uid().as_ref() == Some(&at.uid)));
    }
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &record.spec.namespace);
    for claim in objects.iter().filter(|object| object.turn == Some(Turn::Volume)) {
        let bound = claims.get_opt(&claim.name).await?.and_then(|claim| claim.spec?.volume_name);
        let unknown = bound.filter(|name| volumes.iter().all(|volume| volume.name_any() != *name));
        if let Some(name) = unknown {
            volumes.extend(api.get_opt(&name).await?);
        }
    }
    Ok(volumes.iter().map(volume).collect())
}

/// Whether the volume is or was bound to the connection's claim.
fn is_bound(volume: &PersistentVolume, record: &ConnectionRecord, others: &[String]) -> bool {
    let Some(claim) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    claim.namespace.as_ref() == Some(&record.spec.namespace)
        && claim.name.as_ref() == Some(&record.spec.volume)
        && claim.uid.as_ref().is_none_or(|uid| !others.contains(uid))
}

fn volume(volume: &PersistentVolume) -> Object {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let failed = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed");
    let stays = match policy {
        Some("Delete") if failed => Some("its provisioner could not delete it: look at its events"),
        Some("Delete") => None,
        _ => Some("its reclaim policy is Retain: delete it, and its disk"),
    };
    let object = Object::of(&ApiResource::erase::<PersistentVolume>(&()), volume);
    Object { turn: None, connection_id: None, stays, ..object }
}

#[cfg(test)]
impl Object {
    /// For tests; its uid is its name.
    pub fn sample(kind: &str, name: &str, turn: Option<Turn>, entries: Option<&[&str]>) -> Self {
        let entries = entries.map(|entries| entries.iter().map(|entry| (*entry).to_owned()).collect());
        Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
            version: None,
            turn,
            is_leaving: false,
            entries,
            stays: None,
            connection_id: None,
        }
    }
}
