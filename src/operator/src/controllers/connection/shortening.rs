//! What becomes of a shorter retention is told: an event at the connection and an audit record.

use kube::{
    Resource, ResourceExt,
    runtime::events::{Event, EventType},
};
use marketrelay_api::{Duration, MarketplaceConnection, connection::PendingRetention};

use super::{
    Context,
    in_force::{Change, InForce, Terms},
};
use crate::audit::Record;

/// Tells of a change that is recorded.
pub async fn tell(
    context: &Context,
    connection: &MarketplaceConnection,
    change: Change,
    before: &InForce,
    after: &InForce,
) {
    let pending = after.pending.as_ref().or(before.pending.as_ref());
    let (type_, reason) = match change {
        Change::Waits => (EventType::Warning, "ShorteningWaits"),
        Change::Cancelled => (EventType::Normal, "ShorteningCancelled"),
        Change::Effective => (EventType::Normal, "RetentionShortened"),
    };
    let (from, to) = match change {
        Change::Waits => (durations(&after.terms), durations(&wanted(after))),
        Change::Cancelled => (durations(&wanted(before)), durations(&after.terms)),
        Change::Effective => (durations(&before.terms), durations(&after.terms)),
    };
    let status = connection.status.as_ref();
    let record = Record {
        action: reason,
        namespace: &connection.namespace().unwrap_or_default(),
        kind: "MarketplaceConnection",
        name: &connection.name_any(),
        connection_id: status.and_then(|status| status.connection_id.as_deref()).unwrap_or_default(),
        detail: &detail(&from, &to, pending),
        ..Record::default()
    };
    record.write();
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note(change, pending, &from, &to)),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    context.events.publish(&event, &connection.object_ref(&())).await;
}

fn detail(from: &str, to: &str, pending: Option<&PendingRetention>) -> String {
    let Some(pending) = pending else { return format!("from {from} to {to}") };
    let affected = pending.affected.map_or_else(|| "unknown".to_owned(), |orders| orders.to_string());
    format!("from {from} to {to}, effective at {}, affected orders: {affected}", pending.effective_at.0)
}

/// What the policy wants.
fn wanted(in_force: &InForce) -> Terms {
    let Some(pending) = &in_force.pending else { return in_force.terms.clone() };
    let or = |shorter: &Option<Duration>, other: &Duration| shorter.as_ref().unwrap_or(other).clone();
    Terms {
        anonymize_after: or(&pending.anonymize_after, &in_force.terms.anonymize_after),
        delete_after_shipment: or(&pending.delete_after_shipment, &in_force.terms.delete_after_shipment),
        key_epoch: in_force.terms.key_epoch.clone(),
        backup_retention: pending
            .backup_retention
            .clone()
            .or_else(|| in_force.terms.backup_retention.clone()),
    }
}

fn durations(terms: &Terms) -> String {
    let backups = terms.backup_retention.as_ref();
    let backups = backups.map(|duration| format!(", backupRetention {duration}")).unwrap_or_default();
    let Terms { anonymize_after, delete_after_shipment, .. } = terms;
    format!("anonymizeAfter {anonymize_after}, deleteAfterShipment {delete_after_shipment}{backups}")
}

fn note(change: Change, pending: Option<&PendingRetention>, from: &str, to: &str) -> String {
    let affected = match pending.and_then(|pending| pending.affected) {
        Some(1) => "1 order loses its personal data at once or earlier than now".to_owned(),
        Some(orders) => format!("{orders} orders lose their personal data at once or earlier than now"),
        None => "how many orders are affected isn't known, as the relay can't be asked".to_owned(),
    };
    match (change, pending) {
        (Change::Waits, Some(pending)) => format!(
            "the retention becomes shorter at {}, {to} instead of {from}; {affected}: to keep it, set the policy back \
             before then (docs/runbooks/conditions.md#shorteningwaits)",
            pending.effective_at.0
        ),
        (Change::Effective, _) => format!("a shorter retention is in effect: {to} instead of {from}"),
        (Change::Waits | Change::Cancelled, _) => {
            format!("a shorter retention was taken back before it took effect ({from}): {to} stay in effect")
        }
    }
}
