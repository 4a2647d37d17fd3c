//! Identities are made with the first backup that a connection is to have.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
    runtime::reflector::ObjectRef,
};
use marketrelay_api::labels;
use snafu::ResultExt;

use super::{change::first, facts::judge, wanted};
use crate::{
    controllers::{
        connection::{Context, has_begun},
        keyring::{CreateSnafu, Metadata, ReadSnafu, ReconcileError, facts, report},
    },
    names::Names,
    secrets::wipe,
};

/// Brings what is known of a keyring's identities up to date. Whether there are any; where there never were, nothing is asked.
pub async fn look(context: &Context, keyring: &Metadata, held: &facts::Held) -> Result<bool, ReconcileError> {
    let (Ok(facts), Some(connection)) = (&held.keyring, keyring.labels().get(labels::CONNECTION)) else {
        return Ok(false);
    };
    let (namespace, name) = (keyring.namespace().unwrap_or_default(), Names(connection).backup_identities());
    let (known, secrets) = (&context.identities, &context.stores.secrets);
    let is_there = secrets.get(&ObjectRef::new(&name).within(&namespace)).is_some();
    let was_there = !facts.recipients.is_empty() || known.last(&namespace, &name).is_some();
    if !is_there && !was_there {
        return Ok(false);
    }
    let found = known.get(&context.dated, secrets, &namespace, &name, judge).await;
    Ok(found.context(ReadSnafu)?.is_some())
}

/// Makes them, if the connection is to have backups. Creates, and nothing else: whoever was first, theirs are the identities.
pub async fn make(context: &Context, keyring: &Metadata, held: &facts::Held) -> Result<(), ReconcileError> {
    let (Ok(facts), Some(connection)) = (&held.keyring, keyring.labels().get(labels::CONNECTION)) else {
        return Ok(());
    };
    let id = &facts.id;
    let seen = wanted(context, keyring, Some(id));
    let Some(reach) = seen.reach.filter(|_| seen.agreed && !has_begun(id.as_str(), context)) else {
        return Ok(());
    };
    let namespace = keyring.namespace().unwrap_or_default();
    let api = Api::<Secret>::namespaced(context.dated.clone(), &namespace);
    let mut secret = first(connection, id, &reach, &seen);
    let created = api.create(&PostParams::default(), &secret).await;
    wipe(&mut secret);
    let mut created = match created {
        // The store doesn't show it yet; its event brings this again.
        Err(kube::Error::Api(status)) if status.is_already_exists() => return Ok(()),
        created => created.context(CreateSnafu)?,
    };
    let held = judge(&created);
    wipe(&mut created);
    report::identities_made(&created, held.names.len());
    if !has_begun(id.as_str(), context) {
        context.identities.note(&created, held);
        return Ok(());
    }
    // The closure may have looked before they were there.
    let this = Preconditions { uid: created.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(this), ..DeleteParams::default() };
    match api.delete(&created.name_any(), &params).await {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        deleted => deleted.map(drop).context(CreateSnafu),
    }
}
