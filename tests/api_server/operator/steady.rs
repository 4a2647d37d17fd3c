//! Nothing is written when nothing changes.

use marketrelay_api::RetentionPolicy;
use serde_json::json;

use super::{CONFIG, Operator, apply, audit, change, connected, furnish, reason};
use crate::support::{Space, wait_for, with_namespace};

/// Waits until every connection was looked at several times; what was written meanwhile.
async fn written_during_looks(space: &Space, looks: usize) -> Vec<String> {
    let before = (audit::looks(space), audit::writes(space).len());
    wait_for(space, "more looks", async || (audit::looks(space) >= before.0 + looks).then_some(())).await;
    audit::writes(space).split_off(before.1)
}

#[tokio::test]
async fn nothing_is_written_when_nothing_changes_nor_after_a_restart() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        apply::<RetentionPolicy>(space.api(), json!({"metadata": {"name": "standard"}, "spec": {}})).await;
        for name in ["one", "two", "three"] {
            connected(&space, name).await;
        }
        let policy = "{spec: {retentionPolicyRef: {name: standard}}}";
        change::<marketrelay_api::MarketplaceConnection>(&space, "one", policy).await;
        reason(&space, "one", "RelayStarting").await;
        wait_for(&space, "the policy's user", async || {
            let policy = space.api::<RetentionPolicy>().get("standard").await.expect("a policy");
            (policy.status?.connections == 1).then_some(())
        })
        .await;
        assert_eq!(written_during_looks(&space, 9).await, Vec::<String>::new());
        operator.stop().await;
        let before = audit::writes(&space).len();
        let _operator = Operator::start(&space, CONFIG).await;
        written_during_looks(&space, 9).await;
        assert_eq!(audit::writes(&space).split_off(before), Vec::<String>::new());
    })
    .await;
}
