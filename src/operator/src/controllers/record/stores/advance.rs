//! The attempt that is due begins, once its buckets have room; at the end what served the attempts goes.

use k8s_openapi::api::{batch::v1::Job, core::v1::Secret, networking::v1::NetworkPolicy};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use marketrelay_api::{ConnectionRecord, labels, operator_config::BackupSettings, record::RecordStore};

use super::{
    Facts,
    decide::{due, tried},
    objects, secret,
};
use crate::{
    controllers::{
        backup::{Stage, stage},
        connection::Context,
    },
    names,
    secrets::wipe,
};

/// Makes the Job of the attempt that is due. What it needs comes first, so that a Job that is there has it.
pub async fn advance(context: &Context, record: &ConnectionRecord, facts: &Facts) -> kube::Result<()> {
    let status = record.status.as_ref();
    let proof = status.and_then(|status| status.closure.as_ref());
    let (Some(status), Some(proof), Some(settings)) = (status, proof, &context.config.backup) else {
        return Ok(());
    };
    if due(proof, facts).is_none_or(|due| context.clock.now() < due) {
        return Ok(());
    }
    let ids = tried(proof, facts);
    let stores: Vec<_> = status.stores.iter().filter(|store| ids.contains(&store.id.as_str())).collect();
    let _one_at_a_time = context.closures.purges.lock().await;
    if !has_room(context, settings, &stores).await? || !is_configured(context, record, &stores).await? {
        return Ok(());
    }
    let policies = Api::<NetworkPolicy>::namespaced(context.client.clone(), &context.namespace);
    let policy = objects::network_policy(record, &status.stores);
    is_new(policies.create(&PostParams::default(), &policy).await)?;
    let job = objects::job(record, &stores, &context.config, settings, proof.purge_attempts);
    let jobs = Api::<Job>::namespaced(context.client.clone(), &context.namespace);
    if is_new(jobs.create(&PostParams::default(), &job).await)? {
        tracing::info!(name = job.name_any(), "the stores of a closed connection are to be purged");
    }
    Ok(())
}

/// As many purge a bucket at the same time as backups work with it: neither keeps the other waiting.
async fn has_room(
    context: &Context,
    settings: &BackupSettings,
    stores: &[&RecordStore],
) -> kube::Result<bool> {
    let only = ListParams::default().labels(&format!("{}={}", labels::COMPONENT, labels::PURGE));
    let jobs = Api::<Job>::namespaced(context.client.clone(), &context.namespace).list(&only).await?.items;
    let at_work: Vec<_> = jobs.iter().filter(|job| !matches!(stage(job), Stage::Ended(_))).collect();
    Ok(stores.iter().map(|store| super::known::bucket(store)).all(|bucket| {
        let there = at_work.iter().filter(|job| objects::buckets(job).any(|one| one == bucket)).count();
        there < settings.concurrent_runs as usize
    }))
}

/// Writes the Job's configuration, unless it is there; whether it is.
async fn is_configured(
    context: &Context,
    record: &ConnectionRecord,
    stores: &[&RecordStore],
) -> kube::Result<bool> {
    let api = Api::<Secret>::namespaced(context.client.clone(), &context.namespace);
    let name = names::stores(&record.name_any());
    let Some(mut copies) = api.get_opt(&name).await? else { return Ok(false) };
    let config = objects::config(record, stores, &context.config);
    let written = if secret::configure(&mut copies, config) {
        api.replace(&name, &PostParams::default(), &copies).await.map(Some)
    } else {
        Ok(None)
    };
    wipe(&mut copies);
    match written {
        // Somebody else was first: the next look tells.
        Err(kube::Error::Api(refusal)) if refusal.is_conflict() || refusal.is_not_found() => Ok(false),
        written => {
            written?.iter_mut().for_each(wipe);
            Ok(true)
        }
    }
}

fn is_new<K>(made: kube::Result<K>) -> kube::Result<bool> {
    match made {
        Err(kube::Error::Api(refusal)) if refusal.is_already_exists() => Ok(false),
        made => made.map(|_| true),
    }
}

/// Deletes the credentials, once no store needs them any more, and what else there was.
pub async fn forget(context: &Context, record: &ConnectionRecord) -> kube::Result<()> {
    let (client, home, id) = (&context.client, &context.namespace, record.name_any());
    let params = DeleteParams::default();
    let policies = Api::<NetworkPolicy>::namespaced(client.clone(), home);
    is_gone(policies.delete(&names::purge(&id), &params).await)?;
    let secrets = Api::<Secret>::namespaced(client.clone(), home);
    is_gone(secrets.delete(&names::stores(&id), &params).await)?;
    context.copies.forget(&id);
    Ok(())
}

fn is_gone<T>(deleted: kube::Result<T>) -> kube::Result<()> {
    match deleted {
        Err(kube::Error::Api(refusal)) if refusal.is_not_found() => Ok(()),
        deleted => deleted.map(drop),
    }
}
