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
    record::{ClosureCause, RecordPhase, RecordStore},
};

use super::{closure, found::Object, phase, stores};
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

/// What has become of its stores since.
pub async fn purged(context: &Context, before: &ConnectionRecord, after: &ConnectionRecord) {
    let stores = |record: &ConnectionRecord| {
        let proof = closure(record);
        proof.map(|proof| proof.stores.clone()).unwrap_or_default()
    };
    let was = stores(before);
    for (store, was) in stores(after).iter().zip(&was).filter(|(now, was)| now != was) {
        let named = format!("{} {}", store.site, store.store);
        let failure =
            store.last_failure.as_ref().map(|failure| format!("{}: {}", failure.reason, failure.message));
        if store.purged_at.is_some() {
            audit(after, "StorePurged", Some(&named), None);
        } else if store.never_used_at.is_some() {
            audit(after, "StoreNeverUsed", Some(&named), None);
        } else if store.abandoned_at.is_some() {
            abandoned(context, after, &named).await;
        } else if let Some(failure) = failure.filter(|_| store.last_failure != was.last_failure) {
            audit(after, "StorePurged", Some(&named), Some(&failure));
            let note = format!("{named}: {failure}").chars().take(1_000).collect();
            publish(context, after, EventType::Warning, "StoreNotPurged", note).await;
        }
    }
}

async fn abandoned(context: &Context, record: &ConnectionRecord, named: &str) {
    audit(record, "StoreAbandoned", Some(named), None);
    let note = format!("{named} is given up: what was there may still be").chars().take(1_000).collect();
    publish(context, record, EventType::Warning, "StoreAbandoned", note).await;
}

/// What has become of what was in the stores that it has left.
pub async fn left(context: &Context, before: &ConnectionRecord, after: &ConnectionRecord) {
    let stores = |record: &ConnectionRecord| {
        record.status.as_ref().map(|status| status.stores.clone()).unwrap_or_default()
    };
    let was = stores(before);
    for (store, was) in stores(after).iter().zip(&was).filter(|(now, was)| now != was) {
        let named = format!("{} {}", store.site, stores::address(store));
        if store.escrow_withdrawn_at.is_some() && was.escrow_withdrawn_at.is_none() {
            audit(after, "EscrowWithdrawn", Some(&named), None);
        }
        if store.never_used_at.is_some() && was.never_used_at.is_none() {
            audit(after, "StoreNeverUsed", Some(&named), None);
        }
        if store.abandoned_at.is_some() && was.abandoned_at.is_none() {
            abandoned(context, after, &named).await;
        }
        let failures = [
            ("EscrowWithdrawn", "EscrowNotWithdrawn", &store.escrow_failure, &was.escrow_failure),
            ("LeftStorePruned", "LeftStoreNotPruned", &store.prune_failure, &was.prune_failure),
        ];
        for (action, event, failure, _) in failures.into_iter().filter(|(.., now, was)| now != was) {
            let Some(failure) = failure else { continue };
            let failure = format!("{}: {}", failure.reason, failure.message);
            audit(after, action, Some(&named), Some(&failure));
            let note = format!("{named}: {failure}").chars().take(1_000).collect();
            publish(context, after, EventType::Warning, event, note).await;
        }
        pruned(after, &named, store, was);
    }
}

/// Each time that something went, and once nothing is left.
fn pruned(record: &ConnectionRecord, named: &str, store: &RecordStore, was: &RecordStore) {
    let Some(now) = &store.backups else { return };
    let (gone, was_done) = match &was.backups {
        Some(was) => (now.pruned > was.pruned, was.next_at.is_none()),
        None => (now.pruned > 0, false),
    };
    if gone {
        audit(record, "LeftStorePruned", Some(named), None);
    }
    if now.next_at.is_none() && !was_done {
        audit(record, "LeftStoreEmpty", Some(named), None);
    }
}

/// The copy of its stores' credentials is as the customer's Secrets are.
pub fn copied(record: &ConnectionRecord, copies: &impl ResourceExt) {
    audit(record, "StoreCredentialsCopied", Some(&format!("Secret/{}", copies.name_any())), None);
}

/// The copy of its stores' credentials is deleted.
pub fn forgotten(record: &ConnectionRecord) {
    audit(record, "StoreCredentialsDeleted", None, None);
}

/// A store that the connection has left isn't known any more.
pub async fn gave_way(context: &Context, record: &ConnectionRecord, store: &RecordStore) {
    let named = format!("{} {}", store.site, stores::address(store));
    audit(record, "StoreForgotten", Some(&named), None);
    if !stores::may_hold(store) && store.abandoned_at.is_none() {
        return;
    }
    let note = format!(
        "{named} isn't purged when the account is closed, since the connection has used more stores than are remembered: delete \
         what is there"
    );
    publish(context, record, EventType::Warning, "StoreForgotten", note.chars().take(1_000).collect()).await;
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
    context.events.publish(&event, &record.object_ref(&())).await;
}
