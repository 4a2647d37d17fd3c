//! One write of the status if it changed, onto the version that was read, and events of what is news in it.

use jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use marketrelay_api::{MarketplaceConnection, MarketplaceConnectionStatus, labels};
use serde_json::json;

use super::{Context, news::events, status::is_worth_writing};

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
    let events = events(before, &status);
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
    for event in events {
        tracing::info!(reason = event.reason, message = event.note, "is told");
        context.events.publish(&event, &connection.object_ref(&())).await;
    }
    Ok(true)
}
