//! One write of the status if it changed, onto the version that was read, and an event for each transition of Ready.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType},
};
use marketrelay_api::{
    ConditionType, MarketplaceConnection, MarketplaceConnectionStatus, conditions::Reason, labels,
};
use serde_json::json;

use super::{Context, status::is_worth_writing};
use crate::conditions::find;

/// Writes both where needed. Whether the status is as it should be then; else the connection has changed meanwhile, or is
/// gone, and what was concluded may not hold any more.
pub async fn write(
    context: &Context,
    connection: &MarketplaceConnection,
    status: MarketplaceConnectionStatus,
    now: Timestamp,
) -> kube::Result<bool> {
    let before = connection.status.as_ref();
    if !is_worth_writing(before, &status, now) {
        return Ok(true);
    }
    let namespace = connection.namespace().unwrap_or_default();
    let name = connection.name_any();
    let api = Api::<MarketplaceConnection>::namespaced(context.client.clone(), &namespace);
    let event = event(before, &status);
    let patch = json!({
        "apiVersion": MarketplaceConnection::api_version(&()),
        "kind": MarketplaceConnection::kind(&()),
        "metadata": {
            "name": name,
            "uid": connection.uid(),
            "resourceVersion": connection.resource_version(),
        },
        "status": status,
    });
    let params = PatchParams::apply(labels::OPERATOR).force();
    match api.patch_status(&name, &params, &Patch::Apply(&patch)).await {
        Err(kube::Error::Api(refusal)) if refusal.is_not_found() || refusal.is_conflict() => {
            return Ok(false);
        }
        written => written?,
    };
    context.metrics.status_written();
    if let Some(event) = event {
        tracing::info!(reason = event.reason, message = event.note, "is told");
        context.events.publish(&event, &connection.object_ref(&())).await;
    }
    Ok(true)
}

fn is_at_risk(condition: &Condition) -> bool {
    condition.reason == Reason::DeliveriesAtRisk.to_string()
}

/// An event for a new reason of Ready, or else for keys that begin or cease to die on time, or else for an audit log that
/// contradicts what was seen, or else for a site that begins or ceases to be backed up.
fn event(before: Option<&MarketplaceConnectionStatus>, after: &MarketplaceConnectionStatus) -> Option<Event> {
    let passing = [
        Reason::RelayStarting,
        Reason::FirstRun,
        Reason::ConfigurationPending,
        Reason::Suspended,
        Reason::BackupsSuspended,
        Reason::Closing,
        Reason::Closed,
    ];
    let calm = |new: &Condition| {
        new.status == "True" || passing.iter().any(|reason| reason.to_string() == new.reason)
    };
    let changed = |kind| {
        let new = find(&after.conditions, kind)?;
        let old = before.and_then(|status| find(&status.conditions, kind));
        let same = old.is_some_and(|old| old.reason == new.reason && old.status == new.status);
        // That a new connection's relay starts is no news.
        let is_news = !same && (old.is_some() || !calm(new));
        is_news.then_some((old, new))
    };
    let enforced = || {
        let (old, new) = changed(ConditionType::RetentionEnforced)?;
        let troubles = |one: &Condition| one.status == "False" || is_at_risk(one);
        (troubles(new) || old.is_some_and(troubles)).then_some((old, new))
    };
    let failing = |kind| {
        let (old, new) = changed(kind)?;
        (new.status == "False" || old.is_some_and(|old| old.status == "False")).then_some((old, new))
    };
    let (_, new) = changed(ConditionType::Ready)
        .or_else(enforced)
        .or_else(|| failing(ConditionType::AuditIntact))
        .or_else(|| failing(ConditionType::BackedUpOnSite))
        .or_else(|| failing(ConditionType::BackedUpOffSite))
        .or_else(|| failing(ConditionType::DrilledOnSite))
        .or_else(|| failing(ConditionType::DrilledOffSite))?;
    Some(Event {
        type_: if calm(new) && !is_at_risk(new) { EventType::Normal } else { EventType::Warning },
        reason: new.reason.clone(),
        note: Some(new.message.chars().take(1_000).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    })
}
