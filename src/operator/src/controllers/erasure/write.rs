//! One write of the status if it changed, and an event for each new reason.

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType},
};
use marketrelay_api::{ConditionType, ErasureRequest, ErasureRequestStatus, Reason, labels};
use serde_json::json;

use crate::{audit::Record, conditions::find, controllers::connection::Context};

/// Writes both where needed.
pub(super) async fn write(
    context: &Context,
    request: &ErasureRequest,
    before: &ErasureRequestStatus,
    after: &ErasureRequestStatus,
) -> kube::Result<()> {
    if before == after {
        return Ok(());
    }
    let namespace = request.namespace().unwrap_or_default();
    let name = request.name_any();
    let patch = json!({
        "apiVersion": ErasureRequest::api_version(&()),
        "kind": ErasureRequest::kind(&()),
        "metadata": {"name": name, "uid": request.uid()},
        "status": after,
    });
    let api = Api::<ErasureRequest>::namespaced(context.client.clone(), &namespace);
    let params = PatchParams::apply(labels::OPERATOR).force();
    api.patch_status(&name, &params, &Patch::Apply(&patch)).await?;
    context.metrics.status_written();
    if before.completed_at.is_none() && after.completed_at.is_some() {
        let figures = format!(
            "{}: matched {}, erased {}",
            request.uid().unwrap_or_default(),
            after.matched.unwrap_or_default(),
            after.erased.unwrap_or_default()
        );
        let record = Record {
            action: "ErasureCompleted",
            namespace: &namespace,
            kind: "ErasureRequest",
            name: &name,
            detail: &figures,
            ..Record::default()
        };
        record.write();
    }
    if let Some(event) = event(before, after) {
        context.events.publish(&event, &request.object_ref(&())).await;
    }
    Ok(())
}

fn event(before: &ErasureRequestStatus, after: &ErasureRequestStatus) -> Option<Event> {
    let new = find(&after.conditions, ConditionType::Complete)?;
    let old = find(&before.conditions, ConditionType::Complete);
    let passing = [Reason::Erasing, Reason::WaitingForRelay].map(|reason| reason.to_string());
    if old.is_some_and(|old| old.reason == new.reason) || new.reason == passing[0] {
        return None;
    }
    let calm = new.status == "True" || passing.contains(&new.reason);
    Some(Event {
        type_: if calm { EventType::Normal } else { EventType::Warning },
        reason: new.reason.clone(),
        note: Some(new.message.chars().take(1_000).collect()),
        action: "Erase".to_owned(),
        secondary: None,
    })
}
