//! What was under way when a closure began.

use http::Method;

use super::{
    CONFIG, MarketplaceConnection, Operator, RecordPhase, change, confirm, connected, furnish, left, reaches,
    reason, with_namespace,
};
use crate::operator::gate::Gate;

#[tokio::test]
async fn a_reconcile_that_was_under_way_makes_nothing_for_a_connection_that_is_closed_meanwhile() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let gate = Gate::of(Method::PATCH, "/configmaps/bol-relay");
        let _operator = Operator::start_through(&space, CONFIG, |client| gate.given_to(&client)).await;
        connected(&space, "bol").await;
        gate.close();
        // Configuration and StatefulSet change.
        change::<MarketplaceConnection>(&space, "bol", "{spec: {pollInterval: 7m}}").await;
        gate.arrives().await;
        let id = confirm(&space, "bol").await;
        reaches(&space, &space, &id, RecordPhase::Closed).await;
        gate.open();
        // Once this is said, nothing is under way any more.
        reason(&space, "bol", "Closed").await;
        assert_eq!(left(&space, "bol").await, [""; 0]);
    })
    .await;
}
