//! Many closures at once wait for somebody who means it.

use super::{
    CONFIG, Operator, RecordPhase, change, confirm, confirm_record, connected, delete, furnish, identity,
    is_suspended, left, phase, proof, reaches, reason, record, wait_for, with_namespace,
};
use marketrelay_api::{MarketplaceConnection, record::ClosureCause};

#[tokio::test]
async fn beyond_the_breaker_a_closure_waits_for_its_record_while_nothing_is_collected() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let config = CONFIG.replacen('{', "{closure: {breaker: 1}, ", 1);
        let operator = Operator::start(&space, &config).await;
        for name in ["first", "second", "third"] {
            connected(&space, name).await;
        }
        let first = confirm(&space, "first").await;
        reaches(&space, &space, &first, RecordPhase::Closed).await;
        // What began before the restart counts, too.
        operator.stop().await;
        let _operator = Operator::start(&space, &config).await;
        let second = confirm(&space, "second").await;
        reaches(&space, &space, &second, RecordPhase::AwaitingConfirmation).await;
        let message = reason(&space, "second", "ClosureAwaitsConfirmation").await;
        assert!(message.contains(&format!("patch connrec {second}")), "{message}");
        assert!(is_suspended(&space, "second").await, "it collects while it waits");
        assert_eq!(left(&space, "second").await.len(), 9, "nothing is destroyed while it waits");

        let third = identity(&space, "third").await;
        delete::<MarketplaceConnection>(&space, "third").await;
        reaches(&space, &space, &third, RecordPhase::Retained).await;

        change::<MarketplaceConnection>(&space, "second", "{spec: {closure: null}}").await;
        reaches(&space, &space, &second, RecordPhase::Active).await;
        reason(&space, "second", "RelayStarting").await;
        wait_for(&space, "it collects again", async || (!is_suspended(&space, "second").await).then_some(()))
            .await;

        confirm(&space, "second").await;
        reaches(&space, &space, &second, RecordPhase::AwaitingConfirmation).await;
        confirm_record(&space, &second).await;
        let closed = reaches(&space, &space, &second, RecordPhase::Closed).await;
        assert_eq!(proof(&closed).expect("a proof").cause, ClosureCause::RecordConfirmed);
        assert!(left(&space, "second").await.is_empty());
        assert_eq!(phase(&record(&space, &third).await), RecordPhase::Retained);
    })
    .await;
}
