//! A connection whose account is being closed, or is closed: nothing is made for it any more.

use std::sync::Arc;

use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use marketrelay_api::{
    ConditionType, ConnectionRecord, MarketplaceConnection, MarketplaceConnectionStatus, Reason,
    record::RecordPhase,
};

use super::Context;
use crate::{
    conditions::{Status, Verdict, condition},
    controllers::record::{asked, phase},
    problem::Problem,
};

/// How far a connection's closure is.
pub enum Stage {
    /// Nobody asks for it.
    Open,
    /// It is asked for, and its record hasn't said yet what becomes of it.
    Asked(String),
    /// It waits for a confirmation on the record.
    Awaits(Problem),
    /// It has begun, or is over.
    Begun(Verdict),
}

/// From the records, and from what has begun before they show it.
pub fn stage(connection: &MarketplaceConnection, context: &Context) -> Stage {
    let home = &context.namespace;
    let Some(id) = connection.status.as_ref().and_then(|status| status.connection_id.clone()) else {
        return predecessor(connection, context)
            .map_or(Stage::Open, |record| Stage::Begun(taken(&record, home)));
    };
    let record = context.stores.records.get(&ObjectRef::new(&id).within(home));
    let phase = record.as_deref().map(phase).unwrap_or_default();
    if has_begun(&id, context) {
        return Stage::Begun(begun(phase, &id, home));
    }
    match (asked(connection), phase) {
        (None, _) => Stage::Open,
        (Some(_), RecordPhase::AwaitingConfirmation) => {
            let message = record.as_ref().and_then(|record| record.status.as_ref()?.message.clone());
            Stage::Awaits(Problem::new(Reason::ClosureAwaitsConfirmation, message.unwrap_or_default()))
        }
        (Some(_), _) => Stage::Asked(id),
    }
}

/// Whether the closure of a connection's account has begun, by its record or before that shows it.
pub fn has_begun(id: &str, context: &Context) -> bool {
    let record = context.stores.records.get(&ObjectRef::new(id).within(&context.namespace));
    record.is_some_and(|record| phase(&record) >= RecordPhase::Closing) || context.closures.has_begun(id)
}

/// An earlier connection of this name, of which not everything is gone yet.
fn predecessor(connection: &MarketplaceConnection, context: &Context) -> Option<Arc<ConnectionRecord>> {
    let (namespace, name) = (connection.namespace().unwrap_or_default(), connection.name_any());
    context.stores.records.find(|record| {
        let is_closing = phase(record) == RecordPhase::Closing
            || phase(record) < RecordPhase::Closing && context.closures.has_begun(&record.name_any());
        record.spec.namespace == namespace && record.spec.connection == name && is_closing
    })
}

fn look(id: &str, home: &str) -> String {
    format!("kubectl -n {home} get connrec {id} -o yaml")
}

fn taken(record: &ConnectionRecord, home: &str) -> Verdict {
    let id = record.name_any();
    let message = format!(
        "an earlier connection of this name is still being closed ({}); this one begins when nothing of that is left",
        look(&id, home)
    );
    Verdict::new(Status::False, Reason::Closing, message)
}

fn begun(phase: RecordPhase, id: &str, home: &str) -> Verdict {
    let look = look(id, home);
    if phase == RecordPhase::Closed {
        let message = format!(
            "the account is closed and nothing of it is left; proof: {look}. Delete this connection; applied again without \
             spec.closure it begins anew, with a new id"
        );
        return Verdict::new(Status::False, Reason::Closed, message);
    }
    let message = format!(
        "the account is being closed: its keys are destroyed first, then volume and children; there is no way back, also \
         if spec.closure is removed. How far it is: {look}"
    );
    Verdict::new(Status::False, Reason::Closing, message)
}

/// Of a connection that is being closed or is closed. There is nothing left that the other conditions could be about.
pub fn status(
    connection: &MarketplaceConnection,
    verdict: &Verdict,
    now: Timestamp,
) -> MarketplaceConnectionStatus {
    let before = connection.status.clone().unwrap_or_default();
    let generation = connection.metadata.generation;
    let activity =
        Verdict { message: "the account is being closed, or is closed".to_owned(), ..verdict.clone() };
    let conditions = [
        (ConditionType::Ready, verdict.clone()),
        (ConditionType::Collecting, activity.clone()),
        (ConditionType::Delivering, activity),
    ];
    let told = conditions
        .into_iter()
        .map(|(kind, verdict)| condition(kind, verdict, &before.conditions, generation, now));
    MarketplaceConnectionStatus {
        observed_generation: generation,
        connection_id: before.connection_id,
        marketplace: connection.spec.marketplace().map(|kind| kind.to_string()),
        conditions: told.collect(),
        relay: None,
        retention: None,
        restore: before.restore,
        backups: None,
        audit: before.audit,
        holds: Vec::new(),
    }
}
