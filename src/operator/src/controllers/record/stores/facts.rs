//! What is known of a purge of stores, from the API server itself.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, Secret},
};
use kube::{Api, ResourceExt, api::ListParams, runtime::reflector::ObjectRef};
use marketrelay_api::{ConnectionRecord, ConnectionRecordSpec, backup::Expiry, labels};

use super::{
    attempt::Attempt,
    expired,
    purge::{Purge, What},
    secret,
    unused::is_unused,
};
use crate::{
    controllers::{
        connection::Context,
        keyring::facts::{judge, lost},
    },
    names::{self, Names},
    secrets::wipe,
};

/// What is known.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The ids of the stores whose credentials are there.
    pub credentials: BTreeSet<String>,
    /// Of the Job that is this attempt's.
    pub attempt: Attempt,
    /// The operator's configuration has the image.
    pub is_possible: bool,
    /// The ids of the stores that are given up once they were tried in vain.
    pub abandoned: BTreeSet<String>,
    /// The ids of those that nothing can have been written into.
    pub unused: BTreeSet<String>,
    /// When the time of backups has come; only where those go that have expired.
    pub expiry: Option<Expiry>,
    /// The operator's namespace.
    pub home: String,
}

/// Looks. `None`: there is nothing to purge any more.
pub async fn look(
    context: &Context,
    record: &ConnectionRecord,
    purge: &Purge,
) -> kube::Result<Option<Facts>> {
    if purge.is_over() {
        return Ok(None);
    }
    let status = record.status.as_ref();
    let (client, home, id) = (&context.client, &context.namespace, record.name_any());
    let copies = Api::<Secret>::namespaced(client.clone(), home).get_opt(&names::stores(&id)).await?;
    let stores = status.map(|status| status.stores.as_slice()).unwrap_or_default();
    let credentials = copies.map(|mut copies| {
        let complete = secret::complete(&copies, stores);
        wipe(&mut copies);
        complete
    });
    let name = purge.what.attempt(&id, purge.attempts);
    let only = ListParams::default().labels(&selector(&id));
    let jobs = Api::<Job>::namespaced(client.clone(), home).list(&only).await?.items;
    let pods = Api::<Pod>::namespaced(client.clone(), home).list(&only).await?.items;
    let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
    let expiry = match purge.what {
        What::Everything | What::Escrow => None,
        What::Expired => Some(expiry(context, record).await?),
    };
    Ok(Some(Facts {
        credentials: credentials.unwrap_or_default(),
        attempt: Attempt::of(&name, &jobs, &pods, context.clock.now()),
        is_possible: context.config.backup.is_some(),
        abandoned: abandoned(record, purge),
        unused: stores.iter().filter(|store| is_unused(store)).map(|store| store.id.clone()).collect(),
        expiry,
        home: home.clone(),
    }))
}

fn abandoned(record: &ConnectionRecord, purge: &Purge) -> BTreeSet<String> {
    let ConnectionRecordSpec { closure, abandon_stores, .. } = &record.spec;
    let all = closure.as_ref().is_some_and(|closure| closure.abandon_stores);
    let stores = record.status.as_ref().map_or(&[][..], |status| &status.stores);
    let counts = |id: &String| !stores.iter().any(|store| store.id == *id && store.given_up_before);
    let is_named =
        |id: &&String| all && purge.what == What::Everything || abandon_stores.contains(id) && counts(id);
    purge.stores.iter().map(|store| &store.id).filter(is_named).cloned().collect()
}

fn connection_exists(context: &Context, record: &ConnectionRecord) -> bool {
    let ConnectionRecordSpec { namespace, connection, .. } = &record.spec;
    let reference = ObjectRef::new(connection).within(namespace);
    context.stores.connections.get(&reference).is_some_and(|connection| {
        let id = connection.status.as_ref().and_then(|status| status.connection_id.as_deref());
        id == Some(record.name_any().as_str())
    })
}

/// Archives of holds stay as long as their keys, which the keyring tells; while it can't, all stay.
async fn expiry(context: &Context, record: &ConnectionRecord) -> kube::Result<Expiry> {
    let ConnectionRecordSpec { namespace, connection, .. } = &record.spec;
    let (secrets, name) = (&context.stores.secrets, Names(connection).keyring());
    let held = context.keyrings.get(&context.client, secrets, namespace, &name, judge).await?;
    let keyring = match held.map(|held| held.keyring).transpose() {
        // Somebody may bring it back; what its holds keep must be there then.
        Ok(None) if connection_exists(context, record) => Err(lost(&name, "it isn't there")),
        keyring => keyring,
    };
    let keyring = keyring
        .as_ref()
        .map(|found| found.as_ref().filter(|keyring| keyring.id.as_str() == record.name_any()));
    let retention = record.status.as_ref().and_then(|status| status.backup_retention.as_ref());
    let deadline = context.config.backup.as_ref().map_or(0, |backup| backup.deadline_seconds);
    Ok(expired::expiry(retention, deadline, keyring))
}

/// The Jobs of a connection that purge, and their pods.
pub fn selector(id: &str) -> String {
    format!("{}={},{}={id}", labels::COMPONENT, labels::PURGE, labels::CONNECTION_ID)
}
