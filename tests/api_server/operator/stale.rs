//! What was concluded from an old status overrules no newer one.

use http::Method;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use marketrelay_api::MarketplaceConnection;
use serde_json::json;

use super::{CONFIG, Operator, change, connected, connection, furnish, gate::Gate, reason};
use crate::support::with_namespace;

#[tokio::test]
async fn a_reconcile_that_was_held_up_does_not_overrule_the_retention_that_is_in_force_since() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let gate = Gate::of(Method::GET, "/secrets/bol-credentials");
        let _operator = Operator::start_through(&space, CONFIG, |client| gate.given_to(&client)).await;
        connected(&space, "bol").await;
        gate.close();
        change::<Secret>(&space, "bol-credentials", "{data: {clientSecret: null}}").await;
        gate.arrives().await;
        let retention = json!({"anonymizeAfter": "300d", "deleteAfterShipment": "200d"});
        let newer = Patch::Merge(json!({"status": {"retention": retention}}));
        let connections = space.api::<MarketplaceConnection>();
        connections.patch_status("bol", &PatchParams::default(), &newer).await.expect("a newer status");
        gate.open();
        reason(&space, "bol", "SecretIncomplete").await;
        let status = connection(&space, "bol").await.status.expect("a status");
        let in_force = status.retention.expect("a retention");
        assert_eq!(in_force.anonymize_after.to_string(), "300d");
        assert_eq!(in_force.delete_after_shipment.to_string(), "200d");
    })
    .await;
}
