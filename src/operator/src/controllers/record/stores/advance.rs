//! The attempt that is due begins, once its buckets have room; at the end what served the attempts goes.

use k8s_openapi::api::{batch::v1::Job, core::v1::Secret, networking::v1::NetworkPolicy};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use marketrelay_api::{
    ConnectionRecord, backup::Goes, labels, operator_config::BackupSettings, record::RecordStore,
};

use super::{
    Facts,
    decide::{due, tried},
    facts::selector,
    objects,
    purge::{Purge, What},
    secret,
    withdraw::are_left,
};
use crate::{
    controllers::{
        backup::{Stage, stage},
        connection::Context,
    },
    names,
    secrets::wipe,
};

/// Makes the Job of the attempt that is due, and says whether it did. What it needs comes first, so that a Job that is there has it.
pub async fn advance(
    context: &Context,
    record: &ConnectionRecord,
    purge: &Purge,
    facts: &Facts,
) -> kube::Result<bool> {
    let (Some(status), Some(settings)) = (&record.status, &context.config.backup) else { return Ok(false) };
    if due(purge, facts).is_none_or(|due| context.clock.now() < due) {
        return Ok(false);
    }
    let goes = match (purge.what, &facts.expiry) {
        (What::Everything, _) => Goes::Everything,
        (What::Escrow, _) => Goes::Escrow,
        (What::Expired, Some(expiry)) => Goes::Expired(expiry.clone()),
        (What::Expired, None) => return Ok(false),
    };
    let ids = tried(purge, facts);
    let stores: Vec<_> = status.stores.iter().filter(|store| ids.contains(&store.id.as_str())).collect();
    let _one_at_a_time = context.closures.purges.lock().await;
    if purge.what != What::Everything && !are_still_left(context, record, purge.what, &ids).await? {
        return Ok(false);
    }
    if !has_room(context, settings, &stores).await? {
        return Ok(false);
    }
    let config = objects::config(record, goes, &stores, &context.config);
    if !is_configured(context, record, purge.what, config).await? {
        return Ok(false);
    }
    let policies = Api::<NetworkPolicy>::namespaced(context.client.clone(), &context.namespace);
    let policy = objects::network_policy(record, purge.what, &stores);
    is_new(policies.create(&PostParams::default(), &policy).await)?;
    let job = objects::job(record, purge, &stores, &context.config, settings);
    let jobs = Api::<Job>::namespaced(context.client.clone(), &context.namespace);
    let is_made = is_new(jobs.create(&PostParams::default(), &job).await)?;
    if is_made {
        tracing::info!(name = job.name_any(), what = ?purge.what, "stores are to be purged");
    }
    Ok(is_made)
}

/// A connection that uses a store again asks for the same lock: it waits for the Job, or there is none.
async fn are_still_left(
    context: &Context,
    record: &ConnectionRecord,
    what: What,
    ids: &[&str],
) -> kube::Result<bool> {
    let records = Api::<ConnectionRecord>::namespaced(context.client.clone(), &context.namespace);
    // The operator may list them; it needs no other right for this.
    let only = ListParams::default().fields(&format!("metadata.name={}", record.name_any()));
    let found = records.list(&only).await?.items;
    Ok(found.iter().any(|record| are_left(record, what, ids)))
}

/// Whether a Job removes something of this connection from a store that it has left.
pub async fn is_removing(context: &Context, id: &str) -> kube::Result<bool> {
    let only = ListParams::default().labels(&selector(id));
    let jobs = Api::<Job>::namespaced(context.client.clone(), &context.namespace).list(&only).await?.items;
    let prefixes = What::LEFT.map(|what| format!("{}-", what.policy(id)));
    let is_at_work = |job: &Job| {
        let name = job.name_any();
        prefixes.iter().any(|prefix| name.starts_with(prefix)) && !matches!(stage(job), Stage::Ended(_))
    };
    Ok(jobs.iter().any(is_at_work))
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
    what: What,
    config: String,
) -> kube::Result<bool> {
    changed(context, record, |copies| secret::configure(copies, what, config)).await
}

/// Changes the Secret if `change` says so; whether it is so now.
async fn changed(
    context: &Context,
    record: &ConnectionRecord,
    change: impl FnOnce(&mut Secret) -> bool,
) -> kube::Result<bool> {
    let api = Api::<Secret>::namespaced(context.client.clone(), &context.namespace);
    let name = names::stores(&record.name_any());
    let Some(mut copies) = api.get_opt(&name).await? else { return Ok(false) };
    let written = if change(&mut copies) {
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

/// Drops the credentials of those of these stores that nothing is done with any more; whether they are gone.
pub async fn drop_credentials(
    context: &Context,
    record: &ConnectionRecord,
    stores: &[RecordStore],
) -> kube::Result<bool> {
    context.copies.forget(&record.name_any());
    let are_gone = changed(context, record, |copies| secret::keep_only(copies, stores)).await?;
    Ok(are_gone || !are_remembered(context, record).await?)
}

fn is_new<K>(made: kube::Result<K>) -> kube::Result<bool> {
    match made {
        Err(kube::Error::Api(refusal)) if refusal.is_already_exists() => Ok(false),
        made => made.map(|_| true),
    }
}

/// Deletes the credentials, once no store needs them any more, and what else there was.
pub async fn forget(context: &Context, record: &ConnectionRecord) -> kube::Result<()> {
    for what in What::ALL {
        delete_policy(context, record, what).await?;
    }
    let secrets = Api::<Secret>::namespaced(context.client.clone(), &context.namespace);
    let id = record.name_any();
    is_gone(secrets.delete(&names::stores(&id), &DeleteParams::default()).await)?;
    context.copies.forget(&id);
    Ok(())
}

/// Whether there are credentials.
pub async fn are_remembered(context: &Context, record: &ConnectionRecord) -> kube::Result<bool> {
    let secrets = Api::<Secret>::namespaced(context.client.clone(), &context.namespace);
    Ok(secrets.get_metadata_opt(&names::stores(&record.name_any())).await?.is_some())
}

/// Deletes what lets the Jobs out: an attempt has ended, and the next one may need another way.
pub async fn delete_policy(context: &Context, record: &ConnectionRecord, what: What) -> kube::Result<()> {
    let policies = Api::<NetworkPolicy>::namespaced(context.client.clone(), &context.namespace);
    let name = what.policy(&record.name_any());
    is_gone(policies.delete(&name, &DeleteParams::default()).await)
}

fn is_gone<T>(deleted: kube::Result<T>) -> kube::Result<()> {
    match deleted {
        Err(kube::Error::Api(refusal)) if refusal.is_not_found() => Ok(()),
        deleted => deleted.map(drop),
    }
}
