//! From Closing to Closed: look, note, delete, until nothing is left.

use std::time::Duration;

use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, Preconditions},
    runtime::controller::Action,
};
use marketrelay_api::{
    ConnectionRecord,
    record::{ClosureCause, RecordPhase},
};
use snafu::ResultExt;

use super::{
    BEHIND, DeleteSnafu, LookSnafu, PurgeSnafu, RecordError, StatusSnafu, closure,
    found::{Found, Object, is_last, look, resources},
    phase, proof, report, status,
    stores::{self, Purge},
    write,
};
use crate::{controllers::connection::Context, names::DIGEST_KEY};

/// Looks of one reconcile; the next goes on.
const PASSES: usize = 6;
/// Pods, claims and volumes take their time to go.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_mins(1);

/// Goes as far as it gets. What is about to go is in the record before it goes.
pub async fn purge(context: &Context, mut record: ConnectionRecord) -> Result<Action, RecordError> {
    context.closures.begins(&record.name_any());
    for _ in 0..PASSES {
        let Some(known) = closure(&record) else {
            return Ok(Action::requeue(BEHIND));
        };
        let cause = known.cause;
        let found = look(context, &record, &known.objects, false).await.context(LookSnafu)?;
        let now = context.clock.now();
        let purge = Purge::of(known);
        let facts = if found.has_writers() {
            None
        } else {
            stores::look(context, &record, &purge).await.context(PurgeSnafu)?
        };
        if found.objects.is_empty() && purge.is_over() && !known.stores.is_empty() {
            stores::forget(context, &record).await.context(PurgeSnafu)?;
            report::forgotten(&record);
        }
        let mut after = status::purging(&record, &found, facts.as_ref(), now);
        after.stores = stores::named_anew(&after.stores, &record.spec.abandon_stores);
        let Some(written) = write::write(context, &record, after).await.context(StatusSnafu)? else {
            return Ok(Action::requeue(BEHIND));
        };
        report::gone(&record, &written);
        report::purged(context, &record, &written).await;
        record = written;
        if phase(&record) == RecordPhase::Closed {
            report::closed(context, &record).await;
            return Ok(Action::await_change());
        }
        if let (Some(facts), Some(proof)) = (&facts, closure(&record)) {
            let purge = Purge::of(proof);
            stores::advance(context, &record, &purge, facts).await.context(PurgeSnafu)?;
        }
        // What goes with its namespace goes by itself.
        let is_idle = cause == ClosureCause::NamespaceDeleted || proof::doomed(&found).next().is_none();
        if is_idle {
            return Ok(Action::requeue(wait(&record, now)));
        }
        destroy(context, &record, &found).await?;
    }
    Ok(Action::requeue(BEHIND))
}

/// The longer it lasts, the less often it is looked at.
fn wait(record: &ConnectionRecord, now: Timestamp) -> Duration {
    let began = closure(record).map(|proof| proof.began_at.0);
    let age = began.and_then(|began| Duration::try_from(now.duration_since(began)).ok()).unwrap_or_default();
    (age / 10).clamp(SOONEST, LATEST)
}

/// Deletes what is there, in its order. What can't be deleted holds up what must come after it.
async fn destroy(context: &Context, record: &ConnectionRecord, found: &Found) -> Result<(), RecordError> {
    let mut failed = None;
    for object in proof::doomed(found) {
        let Some(turn) = object.turn else { continue };
        if failed.as_ref().is_some_and(|(before, _)| proof::holds_up(*before, turn)) {
            break;
        }
        match delete(context, record, object).await {
            Ok(true) => report::deleted(record, object, None),
            Ok(false) => {}
            Err(error) => {
                report::deleted(record, object, Some(&error));
                let named = format!("{} {}", object.kind, object.name);
                failed.get_or_insert((turn, Err(error).context(DeleteSnafu { object: named })));
            }
        }
    }
    failed.map_or(Ok(()), |(_, error)| error)
}

/// Whether it was deleted now.
async fn delete(context: &Context, record: &ConnectionRecord, object: &Object) -> kube::Result<bool> {
    if object.name != DIGEST_KEY {
        return delete_version(context, record, object).await;
    }
    let _nobody_gets_keys = context.closures.namespaces.write().await;
    if !is_last(context, record) {
        return Ok(false);
    }
    context.single_keys.forget(&record.spec.namespace, DIGEST_KEY);
    delete_version(context, record, object).await
}

/// Keys go in the version whose entries are in the record; others whatever their version.
async fn delete_version(context: &Context, record: &ConnectionRecord, object: &Object) -> kube::Result<bool> {
    let Some(resource) = resources().into_iter().find(|resource| resource.kind == object.kind) else {
        return Ok(false);
    };
    let this = Preconditions {
        uid: Some(object.uid.clone()),
        resource_version: object.version.clone().filter(|_| object.is_key()),
    };
    // A Job's pods would stay otherwise.
    let params = DeleteParams { preconditions: Some(this), ..DeleteParams::background() };
    let namespace = &record.spec.namespace;
    let api = Api::<DynamicObject>::namespaced_with(context.client.clone(), namespace, &resource);
    match api.delete(&object.name, &params).await {
        // Gone already, or changed: the next look tells.
        Err(kube::Error::Api(refusal)) if refusal.is_not_found() || refusal.is_conflict() => Ok(false),
        deleted => deleted.map(|_| true),
    }
}
