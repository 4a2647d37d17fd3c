//! What is escrowed goes from the stores that a connection has left: a copy there would outlive its keys. Backups go as they
//! expire, since no CronJob of the connection prunes them any more.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::ListParams,
    runtime::{controller::Action, reflector::ObjectRef},
};
use marketrelay_api::{
    ConnectionRecord, ConnectionRecordStatus, labels,
    record::{RecordPhase, RecordStore},
};
use snafu::ResultExt;

use super::{
    BEHIND, LOOK, PurgeSnafu, RecordError, StatusSnafu, phase, report, status,
    stores::{self, Attempt, Facts, Purge},
    write,
};
use crate::controllers::{backup::Task, connection::Context};

/// While a Job runs.
const RUNS: Duration = Duration::from_secs(5);
/// A pod that begins after that has the configuration without the store that was left.
const CONFIG_LAG: jiff::SignedDuration = jiff::SignedDuration::from_mins(2);

/// Goes on with it, where something may be left.
pub async fn clear(context: &Context, record: &ConnectionRecord) -> Result<Action, RecordError> {
    let (mut after, now) = (record.status.clone().unwrap_or_default(), context.clock.now());
    let is_unmarked = |store: &RecordStore| store.left_at.is_none();
    if phase(record) == RecordPhase::Retained && after.stores.iter().any(is_unmarked) {
        after.stores = stores::retained(&after.stores, now);
    }
    let heard = stores::heard(context, record, &after.stores);
    after.stores = stores::named_anew(&heard, &record.spec.abandon_stores);
    if record.status.as_ref().is_some_and(|status| status.stores != after.stores) {
        write::write(context, record, after).await.context(StatusSnafu)?;
        return Ok(Action::requeue(BEHIND));
    }
    let of = ObjectRef::new(&record.spec.connection).within(&record.spec.namespace);
    let connection = context.stores.connections.get(&of);
    let (mut waits, mut going) = (Vec::new(), Vec::new());
    for purge in stores::from_left(&after, connection.as_deref(), &context.config, now) {
        let facts = look(context, record, &purge).await.context(PurgeSnafu)?;
        let Some(facts) = facts else {
            waits.extend(stores::waiting(&purge, None));
            continue;
        };
        if facts.attempt.has_ended() {
            stores::delete_policy(context, record, purge.what).await.context(PurgeSnafu)?;
        }
        let purge = stores::noted(&purge, &facts, now);
        after = stores::onto(&after, &purge, &facts);
        waits.extend(stores::waiting(&purge, Some(&facts)));
        going.push((purge, facts));
    }
    waits.extend(stores::remaining(&after.stores, now));
    let after = status::waiting(after, waits);
    // Once the status says so, nobody looks at them again.
    if settled(&after) > record.status.as_ref().map_or(0, settled)
        && !stores::drop_credentials(context, record, &after.stores).await.context(PurgeSnafu)?
    {
        return Ok(Action::requeue(BEHIND));
    }
    let Some(written) = write::write(context, record, after).await.context(StatusSnafu)? else {
        return Ok(Action::requeue(BEHIND));
    };
    report::left(context, record, &written).await;
    advance(context, &written, &going).await.context(PurgeSnafu)?;
    Ok(Action::requeue(pause(&going, now)))
}

/// How many stores nothing is to be done with any more.
fn settled(status: &ConnectionRecordStatus) -> usize {
    status.stores.iter().filter(|store| store.is_settled()).count()
}

/// One Job after the other.
async fn advance(context: &Context, record: &ConnectionRecord, going: &[(Purge, Facts)]) -> kube::Result<()> {
    if going.iter().any(|(_, facts)| facts.attempt != Attempt::Missing) {
        return Ok(());
    }
    for (purge, facts) in going {
        if stores::advance(context, record, purge, facts).await? {
            break;
        }
    }
    Ok(())
}

/// `None`: something may still be written there.
async fn look(context: &Context, record: &ConnectionRecord, purge: &Purge) -> kube::Result<Option<Facts>> {
    if has_writers(context, record, purge.what.writer()).await? {
        return Ok(None);
    }
    stores::look(context, record, purge).await
}

/// Soon while a Job runs or is due; what failed has its own pause.
fn pause(going: &[(Purge, Facts)], now: Timestamp) -> Duration {
    if going.iter().any(|(_, facts)| facts.attempt.has_ended()) {
        return BEHIND;
    }
    let is_due = |(purge, facts): &(Purge, Facts)| stores::due(purge, facts).is_some_and(|due| due <= now);
    let is_going = |one: &(Purge, Facts)| one.1.attempt == Attempt::Runs || is_due(one);
    if going.iter().any(is_going) { RUNS } else { LOOK }
}

/// Whether a pod that does `task` may still write into a store that was left.
async fn has_writers(context: &Context, record: &ConnectionRecord, task: Task) -> kube::Result<bool> {
    let stores = record.status.iter().flat_map(|status| &status.stores);
    let Some(left) = stores.filter_map(|store| store.left_at.as_ref()).map(|left| left.0).max() else {
        return Ok(false);
    };
    let (name, label) = (&record.spec.connection, labels::TASK);
    let only = ListParams::default().labels(&format!("{}={name},{label}={task}", labels::CONNECTION));
    let pods = Api::<Pod>::namespaced(context.client.clone(), &record.spec.namespace);
    let pods = pods.list(&only).await?.items;
    Ok(pods.iter().any(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let has_ended = matches!(phase, Some("Succeeded" | "Failed"));
        let made = pod.creation_timestamp().map(|made| made.0);
        !has_ended && made.is_none_or(|made| made < left + CONFIG_LAG)
    }))
}
