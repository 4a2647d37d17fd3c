//! What was done is told: an audit record for each step, and events where they concern a person.

use kube::{
    Resource, ResourceExt,
    runtime::{
        events::{Event, EventType},
        reflector::ObjectRef,
    },
};
use marketrelay_api::{
    ConnectionRecord,
    record::{ClosureCause, RecordPhase},
};

use super::{closure, found::Object, phase};
use crate::{audit::Record, controllers::connection::Context};

fn audit(record: &ConnectionRecord, action: &'static str, detail: Option<&str>, error: Option<&str>) {
    Record {
        action,
        namespace: &record.spec.namespace,
        kind: "MarketplaceConnection",
        name: &record.spec.connection,
        connection_id: &record.name_any(),
        detail: detail.unwrap_or_default(),
        error,
        destroyed: None,
    }
    .write();
}

/// A phase before the closure.
pub async fn marked(context: &Context, record: &ConnectionRecord, before: RecordPhase) {
    let after = phase(record);
    let action = match (before, after) {
        (_, RecordPhase::AwaitingConfirmation) => "ClosureAwaitsConfirmation",
        (RecordPhase::AwaitingConfirmation, _) => "ClosureTakenBack",
        (_, RecordPhase::Retained) => "ConnectionRetained",
        _ => "ConnectionAdopted",
    };
    audit(record, action, None, None);
    if after == RecordPhase::AwaitingConfirmation {
        let message = record.status.as_ref().and_then(|status| status.message.as_deref());
        let note = message.unwrap_or_default().chars().take(1_000).collect();
        publish(context, record, EventType::Warning, action, note).await;
    }
}

/// It has begun.
pub async fn begun(context: &Context, record: &ConnectionRecord, cause: ClosureCause) {
    let cause = format!("{cause:?}");
    audit(record, "ClosureBegan", Some(&cause), None);
    let note =
        format!("{cause}: keys, volume and children of this connection are destroyed; there is no way back");
    publish(context, record, EventType::Normal, "ClosureBegan", note).await;
}

/// A deletion was asked for.
pub fn deleted(record: &ConnectionRecord, object: &Object, error: Option<&kube::Error>) {
    let action = if object.is_key() { "KeysDestroyed" } else { "ObjectDeleted" };
    let error = error.map(ToString::to_string);
    audit(record, action, Some(&format!("{}/{}", object.kind, object.name)), error.as_deref());
}

/// What the record says to be gone since.
pub fn gone(before: &ConnectionRecord, after: &ConnectionRecord) {
    let objects = |record: &ConnectionRecord| {
        let proof = closure(record);
        proof.map(|proof| proof.objects.clone()).unwrap_or_default()
    };
    let was_there = objects(before);
    for object in objects(after).iter().filter(|object| object.gone_at.is_some()) {
        if was_there.iter().all(|known| known.uid != object.uid || known.gone_at.is_none()) {
            audit(after, "ObjectGone", Some(&format!("{}/{}", object.kind, object.name)), None);
        }
    }
}

/// Nothing is left.
pub async fn closed(context: &Context, record: &ConnectionRecord) {
    audit(record, "ClosureProven", None, None);
    let connection = ObjectRef::<marketrelay_api::MarketplaceConnection>::new(&record.spec.connection)
        .within(&record.spec.namespace);
    context.heard.forget(&connection);
    let note = "nothing of the connection is left; the proof is in this record's status".to_owned();
    publish(context, record, EventType::Normal, "Closed", note).await;
}

async fn publish(context: &Context, record: &ConnectionRecord, type_: EventType, reason: &str, note: String) {
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note),
        action: "Close".to_owned(),
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&event, &record.object_ref(&())).await {
        tracing::warn!(%error, "an event can't be written");
    }
}
