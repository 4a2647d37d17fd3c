//! While a connection has backups, its record knows its stores, and a Secret beside it has copies of their credentials: with
//! these its backups can be deleted when it is closed, also once its namespace is gone.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt, api::PostParams, runtime::reflector::ObjectRef};
use marketrelay_api::{ConnectionRecord, ConnectionRecordStatus, record::RecordStore};

use super::{
    super::{report, write::write},
    advance::is_removing,
    known::{known, named_anew},
    secret,
    unused::{heard, new},
    withdraw::leave,
};
use crate::{
    controllers::connection::{Context, has_begun},
    names,
    secrets::wipe,
};

/// A copy that somebody has deleted is made anew after this time at the latest.
const TRUSTED: Duration = Duration::from_hours(1);

/// A store that is used now.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The store.
    pub store: RecordStore,
    /// The name of the customer's Secret.
    pub credentials: String,
}

/// The stores that a connection uses.
#[derive(Clone, Debug, Default)]
pub struct Used {
    /// Those that can be used.
    pub sources: Vec<Source>,
    /// There are no others: what isn't among them was left.
    pub are_all: bool,
    /// How long backups are kept; `None`: there are none.
    pub retention: Option<marketrelay_api::Duration>,
}

/// What was copied lately, by connection.
#[derive(Default)]
pub struct Copies(Mutex<HashMap<String, (Instant, Vec<Version>)>>);

/// A source, and the version of its Secret.
type Version = (Source, Option<String>);

impl Copies {
    fn are_of(&self, id: &str, versions: &[Version]) -> bool {
        let copies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        copies.get(id).is_some_and(|(at, copied)| at.elapsed() < TRUSTED && copied == versions)
    }

    /// They aren't as they were, or the account is closed.
    pub fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    fn note(&self, id: &str, versions: Vec<Version>) {
        let mut copies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        copies.insert(id.to_owned(), (Instant::now(), versions));
    }
}

/// Whether everything is there that a purge will need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is.
    Whole,
    /// Not yet: what it is made from has changed meanwhile, or isn't shown yet.
    Later,
    /// Not until a Job has ended that removes what was left in a store before.
    Removing,
}

/// Sees to it. The record comes first: of a store that it names no missing copy goes unnoticed.
pub async fn keep(context: &Context, id: &str, namespace: &str, used: Used) -> kube::Result<Kept> {
    let Used { sources, are_all, retention } = used;
    let Some(record) = context.stores.records.get(&ObjectRef::new(id).within(&context.namespace)) else {
        return Ok(if sources.is_empty() { Kept::Whole } else { Kept::Later });
    };
    let version = |source: &Source| {
        let secret = context.stores.secrets.get(&ObjectRef::new(&source.credentials).within(namespace));
        secret.and_then(|secret| secret.resource_version())
    };
    let versions: Vec<_> = sources.iter().map(|source| (source.clone(), version(source))).collect();
    let before = record.status.clone().unwrap_or_default();
    let used: Vec<_> = sources.iter().map(|source| source.store.clone()).collect();
    let now = context.clock.now();
    let (mut stores, gave_way) = known(&before.stores, &used, new(context, &record, now).as_ref());
    if are_all {
        stores = leave(&stores, &used, now);
    }
    stores = named_anew(&heard(context, &record, &stores), &record.spec.abandon_stores);
    let after = ConnectionRecordStatus {
        stores,
        backup_retention: retention.or_else(|| before.backup_retention.clone()),
        ..before.clone()
    };
    if after == before && (sources.is_empty() || context.copies.are_of(id, &versions)) {
        return Ok(Kept::Whole);
    }
    if has_begun(id, context) {
        return Ok(Kept::Later);
    }
    let stores = after.stores.clone();
    if after != before {
        context.copies.forget(id);
        let written = match noted(context, &record, &used, after).await? {
            Ok(written) => written,
            Err(kept) => return Ok(kept),
        };
        for store in &gave_way {
            report::gave_way(context, &written, store).await;
        }
    }
    if sources.is_empty() {
        return Ok(Kept::Whole);
    }
    let kept = copy(context, &record, namespace, &sources, &stores).await?;
    if kept == Kept::Whole {
        context.copies.note(id, versions);
    }
    Ok(kept)
}

/// The record names them, or why not yet. A store that was left is used again once no Job removes anything there.
async fn noted(
    context: &Context,
    record: &ConnectionRecord,
    used: &[RecordStore],
    after: ConnectionRecordStatus,
) -> kube::Result<Result<ConnectionRecord, Kept>> {
    let id = record.name_any();
    let before = record.status.iter().flat_map(|status| &status.stores);
    let _no_other_job_is_made = if returns(before, used) {
        let purges = context.closures.purges.lock().await;
        if is_removing(context, &id).await? {
            return Ok(Err(Kept::Removing));
        }
        Some(purges)
    } else {
        None
    };
    if has_begun(&id, context) {
        return Ok(Err(Kept::Later));
    }
    Ok(write(context, record, after).await?.ok_or(Kept::Later))
}

/// Whether a store is used again that was left.
fn returns<'a>(before: impl Iterator<Item = &'a RecordStore>, used: &[RecordStore]) -> bool {
    let mut left = before.filter(|store| store.left_at.is_some());
    left.any(|left| used.iter().any(|used| used.id == left.id))
}

async fn copy(
    context: &Context,
    record: &ConnectionRecord,
    namespace: &str,
    sources: &[Source],
    stores: &[RecordStore],
) -> kube::Result<Kept> {
    let home = Api::<Secret>::namespaced(context.client.clone(), &context.namespace);
    let customers = Api::<Secret>::namespaced(context.client.clone(), namespace);
    let existing = home.get_opt(&names::stores(&record.name_any())).await?;
    let is_there = existing.is_some();
    let mut copies = existing.unwrap_or_else(|| secret::empty(record));
    let mut is_changed = secret::keep_only(&mut copies, stores);
    for source in sources {
        let given = customers.get_opt(&source.credentials).await;
        let mut given = match given {
            Ok(Some(given)) if secret::is_complete(&given) => given,
            incomplete => {
                wipe(&mut copies);
                incomplete?.iter_mut().for_each(wipe);
                return Ok(Kept::Later);
            }
        };
        is_changed |= secret::copy(&mut copies, &source.store, &given);
        wipe(&mut given);
    }
    if has_begun(&record.name_any(), context) {
        wipe(&mut copies);
        return Ok(Kept::Later);
    }
    let written = match (is_there, is_changed) {
        (true, false) => Ok(None),
        (true, true) => home.replace(&copies.name_any(), &PostParams::default(), &copies).await.map(Some),
        (false, _) => home.create(&PostParams::default(), &copies).await.map(Some),
    };
    wipe(&mut copies);
    match written {
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
            Ok(Kept::Later)
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Kept::Later),
        written => {
            if let Some(mut written) = written? {
                wipe(&mut written);
                report::copied(record, &written);
            }
            Ok(Kept::Whole)
        }
    }
}
