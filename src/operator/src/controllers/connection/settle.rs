//! The retention in force of one connection: decided, recorded in its status before anything follows it, and told.

use std::sync::Arc;

use jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use marketrelay_api::{
    MarketplaceConnection, MarketplaceConnectionStatus, connection::PendingRetention, labels,
    relay::AffectedQuery,
};
use serde_json::json;

use super::{
    Context,
    in_force::{InForce, Terms, decide},
    load::Loaded,
    shortening,
};

/// Decides. A change is in the status before the relay or its keyring can follow it, so that whoever comes next knows
/// what held; the loaded connection is then the one with that status.
pub async fn settle(
    context: &Context,
    loaded: &mut Loaded,
    wanted: Option<Terms>,
    now: Timestamp,
) -> kube::Result<Option<InForce>> {
    let known = known(loaded);
    // By a wrong clock a delay could be over before it began.
    let wanted = wanted.filter(|_| known.is_none() || context.clock.agrees());
    let delay = context.config.retention.shortening_delay.as_signed();
    let Some(mut after) = decide(known.clone(), wanted, delay, now) else { return Ok(None) };
    if let Some(pending) = &mut after.pending {
        pending.affected = affected(context, loaded, &after.terms, pending).await;
    }
    let Some(before) = known else { return Ok(Some(after)) };
    let change = after.change(&before);
    if change.is_some() || after.terms != before.terms {
        loaded.connection = record(context, &loaded.connection, after.clone()).await?;
    }
    if let Some(change) = change {
        shortening::tell(context, &loaded.connection, change, &before, &after).await;
    }
    Ok(Some(after))
}

/// As the status says, or else the volume: it keeps what held for its data when its connection was deleted.
fn known(loaded: &Loaded) -> Option<InForce> {
    let recorded = loaded.connection.status.as_ref().and_then(|status| status.retention.as_ref());
    recorded.map(InForce::from).or_else(|| {
        let text = loaded.children.claim.as_ref()?.annotations().get(labels::RETENTION)?;
        serde_json::from_str(text).ok().map(InForce::at_once)
    })
}

/// How many orders the shorter retention concerns, by the relay; `None` if it can't be asked.
async fn affected(
    context: &Context,
    loaded: &Loaded,
    terms: &Terms,
    pending: &PendingRetention,
) -> Option<i64> {
    if !loaded.children.is_running() {
        return None;
    }
    let anonymize_after = pending.anonymize_after.as_ref().unwrap_or(&terms.anonymize_after);
    let delete_after_shipment =
        pending.delete_after_shipment.as_ref().unwrap_or(&terms.delete_after_shipment);
    let query = AffectedQuery {
        anonymize_after_seconds: anonymize_after.as_secs(),
        delete_after_shipment_seconds: delete_after_shipment.as_secs(),
    };
    let namespace = loaded.connection.namespace().unwrap_or_default();
    match context.relays.affected(&namespace, &loaded.connection.name_any(), query).await {
        Ok(answer) => i64::try_from(answer.orders).ok(),
        Err(error) => {
            tracing::debug!(%error, "the relay doesn't say how many orders are affected");
            None
        }
    }
}

/// Only over the status that was decided on: somebody who knows more is not overruled.
async fn record(
    context: &Context,
    connection: &MarketplaceConnection,
    after: InForce,
) -> kube::Result<Arc<MarketplaceConnection>> {
    let before = connection.status.clone().unwrap_or_default();
    let (keys_live, next) = before
        .retention
        .as_ref()
        .map_or((0, None), |recorded| (recorded.keys_live, recorded.next_key_destruction.clone()));
    let status = MarketplaceConnectionStatus { retention: Some(after.recorded(keys_live, next)), ..before };
    let name = connection.name_any();
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
    let namespace = connection.namespace().unwrap_or_default();
    let api = Api::<MarketplaceConnection>::namespaced(context.client.clone(), &namespace);
    let params = PatchParams::apply(labels::OPERATOR).force();
    let recorded = api.patch_status(&name, &params, &Patch::Apply(&patch)).await?;
    context.metrics.status_written();
    Ok(Arc::new(recorded))
}
