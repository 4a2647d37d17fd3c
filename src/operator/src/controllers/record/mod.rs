//! Records of connections, and the closure of accounts: keys first, then what they opened, then the proof.

mod begun;
mod confirm;
mod decide;
mod ensure;
mod found;
mod left;
mod proof;
mod purge;
mod report;
mod status;
mod stores;
mod write;

use std::{sync::Arc, time::Duration};

use kube::{
    ResourceExt,
    runtime::{controller::Action, reflector::ObjectRef},
};
use marketrelay_api::{
    ConnectionRecord, ConnectionRecordStatus, MarketplaceConnection,
    hold::HoldStatus,
    labels,
    record::{ClosureCause, ClosureProof, RecordPhase},
};
use snafu::{ResultExt, Snafu};

use super::connection::Context;
use crate::names::Names;
pub use begun::Closures;
use decide::{Connection, Seen, Step};
pub use ensure::ensure;
use found::NamespaceState;
pub use stores::{Copies, Kept, Source, Used, keep, of as store, with_backups_left};

/// Nothing waits for this but what a watch has missed.
const LOOK: Duration = Duration::from_mins(1);
/// The store is behind what was written.
const BEHIND: Duration = Duration::from_secs(1);

/// Why a record isn't as it should be; it is tried again.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RecordError {
    #[snafu(display("looking for what is left: {source}"))]
    Look { source: kube::Error },
    #[snafu(display("deleting {object}: {source}"))]
    Delete { object: String, source: kube::Error },
    #[snafu(display("purging the stores of its backups: {source}"))]
    Purge { source: kube::Error },
    #[snafu(display("writing the record's status: {source}"))]
    Status { source: kube::Error },
}

impl RecordError {
    /// A bounded name for the metric.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Look { .. } => "load",
            Self::Delete { .. } | Self::Purge { .. } => "apply",
            Self::Status { .. } => "status",
        }
    }
}

/// The phase of a record.
pub fn phase(record: &ConnectionRecord) -> RecordPhase {
    record.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

/// Look, decide, do it.
pub async fn reconcile(record: Arc<ConnectionRecord>, context: Arc<Context>) -> Result<Action, RecordError> {
    let step = decide::next(seen(&record, &context));
    let id = record.name_any();
    if !matches!(step, Some(Step::Begin(_) | Step::Purge)) {
        context.closures.forget(&id);
    }
    match step {
        None if phase(&record) == RecordPhase::Closed => tidy(&record, &context).await,
        None => left::clear(&context, &record).await,
        Some(Step::Mark(phase)) => mark(&record, &context, phase).await,
        Some(Step::Begin(cause)) => begin(&record, &context, cause).await,
        Some(Step::Investigate) => investigate(&record, &context).await,
        Some(Step::Purge) => purge::purge(&context, record.as_ref().clone()).await,
    }
}

/// What the stores know.
fn seen(record: &ConnectionRecord, context: &Context) -> Seen {
    let (id, spec) = (record.name_any(), &record.spec);
    let keyring = ObjectRef::new(&Names(&spec.connection).keyring()).within(&spec.namespace);
    let keyring = context.stores.secrets.get(&keyring);
    let connection = ObjectRef::new(&spec.connection).within(&spec.namespace);
    let connection = context.stores.connections.get(&connection);
    // One that has no id yet is about to adopt what there is.
    let connection = connection.filter(|connection| own_id(connection).is_none_or(|own| own == id));
    let asks = |connection: &Arc<MarketplaceConnection>| {
        connection.metadata.deletion_timestamp.is_none() && asked(connection) == Some(id.as_str())
    };
    Seen {
        phase: phase(record),
        connection: match &connection {
            None => Connection::Absent,
            Some(connection) if asks(connection) => Connection::AsksForClosure,
            Some(_) => Connection::There,
        },
        confirmed: spec.closure.as_ref().is_some_and(|closure| closure.confirm == id),
        has_keyring: keyring.is_some_and(|secret| secret.labels().get(labels::CONNECTION_ID) == Some(&id)),
    }
}

fn own_id(connection: &MarketplaceConnection) -> Option<&str> {
    connection.status.as_ref()?.connection_id.as_deref()
}

/// The id of a connection whose spec asks for its closure.
pub fn asked(connection: &MarketplaceConnection) -> Option<&str> {
    let confirmed = connection.spec.closure.as_ref()?.confirm.as_str();
    own_id(connection).filter(|id| *id == confirmed)
}

async fn mark(
    record: &ConnectionRecord,
    context: &Context,
    phase: RecordPhase,
) -> Result<Action, RecordError> {
    let before = record.status.clone().unwrap_or_default();
    note(record, context, status::marked(&before, phase, context.clock.now())).await
}

async fn note(
    record: &ConnectionRecord,
    context: &Context,
    after: ConnectionRecordStatus,
) -> Result<Action, RecordError> {
    let Some(written) = write::write(context, record, after).await.context(StatusSnafu)? else {
        return Ok(Action::requeue(BEHIND));
    };
    report::marked(context, &written, phase(record)).await;
    Ok(Action::requeue(LOOK))
}

/// Once this is written there is no way back, whoever leads. What has to be confirmed first waits instead.
async fn begin(
    record: &ConnectionRecord,
    context: &Context,
    cause: ClosureCause,
) -> Result<Action, RecordError> {
    let id = record.name_any();
    let found = found::look(context, record, &[], true).await.context(LookSnafu)?;
    if let Some(waits) = confirm::waits(context, &id, cause, &found) {
        context.closures.forget(&id);
        let before = record.status.clone().unwrap_or_default();
        let held = holds(record, context);
        let after = status::awaiting(&before, &waits, &held, &context.namespace, &id, context.clock.now());
        return note(record, context, after).await;
    }
    context.closures.begins(&id);
    let mut before = record.status.clone().unwrap_or_default();
    before.stores = stores::heard(context, record, &before.stores);
    let after = status::begun(before, cause, &found, context.clock.now());
    let Some(written) = write::write(context, record, after).await.context(StatusSnafu)? else {
        return Ok(Action::requeue(BEHIND));
    };
    report::begun(context, &written, cause).await;
    purge::purge(context, written).await
}

/// What the connection told last of its holds.
fn holds(record: &ConnectionRecord, context: &Context) -> Vec<HoldStatus> {
    let of = ObjectRef::new(&record.spec.connection).within(&record.spec.namespace);
    let connection = context.stores.connections.get(&of);
    connection.and_then(|connection| Some(connection.status.as_ref()?.holds.clone())).unwrap_or_default()
}

/// No connection, and no keyring that the stores know of: is it so, and why?
async fn investigate(record: &ConnectionRecord, context: &Context) -> Result<Action, RecordError> {
    let found = found::look(context, record, &[], false).await.context(LookSnafu)?;
    if found.has_keyring() {
        return Ok(Action::requeue(BEHIND));
    }
    if found.namespace != NamespaceState::There {
        return begin(record, context, ClosureCause::NamespaceDeleted).await;
    }
    if !found.has_own() {
        return begin(record, context, ClosureCause::DataDeleted).await;
    }
    if phase(record) != RecordPhase::Retained {
        return mark(record, context, RecordPhase::Retained).await;
    }
    left::clear(context, record).await
}

/// A copy of credentials that was on its way when the closure ended goes, too: each process looks once.
async fn tidy(record: &ConnectionRecord, context: &Context) -> Result<Action, RecordError> {
    let closed = closure(record).and_then(|proof| proof.closed_at.as_ref());
    let has_stores = record.status.as_ref().is_some_and(|status| !status.stores.is_empty());
    let Some(closed) = closed.filter(|_| has_stores) else { return Ok(Action::await_change()) };
    if context.clock.now().duration_since(closed.0).unsigned_abs() < LOOK {
        return Ok(Action::requeue(LOOK));
    }
    if stores::are_remembered(context, record).await.context(PurgeSnafu)? {
        stores::forget(context, record).await.context(PurgeSnafu)?;
        report::forgotten(record);
    }
    Ok(Action::await_change())
}

/// The closure that a record tells of.
fn closure(record: &ConnectionRecord) -> Option<&ClosureProof> {
    record.status.as_ref()?.closure.as_ref()
}
