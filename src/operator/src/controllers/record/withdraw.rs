//! What is escrowed goes from the stores that a connection has left: a copy there would outlive its keys.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::ListParams,
    runtime::{controller::Action, reflector::ObjectRef},
};
use marketrelay_api::{
    ConnectionRecord, labels,
    record::{RecordPhase, RecordStore},
};
use snafu::ResultExt;

use super::{BEHIND, LOOK, PurgeSnafu, RecordError, StatusSnafu, phase, report, status, stores, write};
use crate::controllers::connection::Context;

/// While a Job runs.
const RUNS: Duration = Duration::from_secs(5);
/// A pod that begins after that has the configuration without the store that was left.
const CONFIG_LAG: jiff::SignedDuration = jiff::SignedDuration::from_mins(2);

/// Goes on with it, where there is something to withdraw.
pub async fn withdraw(context: &Context, record: &ConnectionRecord) -> Result<Action, RecordError> {
    let (before, now) = (record.status.clone().unwrap_or_default(), context.clock.now());
    let is_unmarked = |store: &RecordStore| store.left_at.is_none();
    if phase(record) == RecordPhase::Retained && before.stores.iter().any(is_unmarked) {
        let stores = stores::retained(&before.stores, now);
        return noted(context, record, status::withdrawing(&before, stores, None)).await;
    }
    let of = ObjectRef::new(&record.spec.connection).within(&record.spec.namespace);
    let connection = context.stores.connections.get(&of);
    let purge = stores::withdrawal(&before, connection.as_deref(), &context.config, now);
    let Some(purge) = purge else {
        return noted(context, record, status::withdrawing(&before, before.stores.clone(), None)).await;
    };
    if has_writers(context, record).await.context(PurgeSnafu)? {
        let waits = stores::waiting(&purge, None);
        return noted(context, record, status::withdrawing(&before, before.stores.clone(), waits)).await;
    }
    let facts = stores::look(context, record, &purge).await.context(PurgeSnafu)?;
    let Some(facts) = facts else { return Ok(Action::requeue(LOOK)) };
    if facts.attempt.has_ended() {
        stores::close(context, record).await.context(PurgeSnafu)?;
    }
    let purge = stores::noted(&purge, &facts, now);
    let waits = stores::waiting(&purge, Some(&facts));
    let withdrawn = stores::withdrawn(&before, &purge);
    let after = status::withdrawing(&withdrawn, withdrawn.stores.clone(), waits);
    let Some(written) = write::write(context, record, after).await.context(StatusSnafu)? else {
        return Ok(Action::requeue(BEHIND));
    };
    report::withdrawn(context, record, &written).await;
    if !facts.attempt.has_ended() {
        stores::advance(context, &written, &purge, &facts).await.context(PurgeSnafu)?;
        return Ok(Action::requeue(RUNS));
    }
    Ok(Action::requeue(BEHIND))
}

async fn noted(
    context: &Context,
    record: &ConnectionRecord,
    after: marketrelay_api::ConnectionRecordStatus,
) -> Result<Action, RecordError> {
    if record.status.clone().unwrap_or_default() == after {
        return Ok(Action::requeue(LOOK));
    }
    let written = write::write(context, record, after).await.context(StatusSnafu)?;
    Ok(Action::requeue(if written.is_some() { LOOK } else { BEHIND }))
}

/// Whether a pod may still write keys into a store that was left.
async fn has_writers(context: &Context, record: &ConnectionRecord) -> kube::Result<bool> {
    let stores = record.status.iter().flat_map(|status| &status.stores);
    let Some(left) = stores.filter_map(|store| store.left_at.as_ref()).map(|left| left.0).max() else {
        return Ok(false);
    };
    let (name, task) = (&record.spec.connection, labels::TASK);
    let only = ListParams::default().labels(&format!("{}={name},{task}=escrow", labels::CONNECTION));
    let pods = Api::<Pod>::namespaced(context.client.clone(), &record.spec.namespace);
    let pods = pods.list(&only).await?.items;
    Ok(pods.iter().any(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let has_ended = matches!(phase, Some("Succeeded" | "Failed"));
        let made = pod.creation_timestamp().map(|made| made.0);
        !has_ended && made.is_none_or(|made| made < left + CONFIG_LAG)
    }))
}
