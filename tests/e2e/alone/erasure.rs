//! An erasure request while what carries it out is killed.

use crate::{
    alone::operator::leader_process,
    cluster::{alone, kill},
    erasure::{ask, order_of_zoe, reason, secret_is_gone, told},
    tenant::with_tenant,
};

#[tokio::test]
async fn a_request_ends_well_though_the_relay_and_the_operator_are_killed_meanwhile() {
    let _alone = alone().await;
    with_tenant("waits", async |tenant| {
        tenant.connect("bol", 2).await;
        order_of_zoe(&tenant, "bol", 2).await;
        tenant.all_arrived("bol").await;
        kill(tenant.relay_process("bol").await);
        ask(&tenant);
        secret_is_gone(&tenant).await;
        kill(leader_process(&tenant.client).await);
        let status = reason(&tenant, "Erased").await;
        assert_eq!((status.erased, status.digests.len()), (Some(2), 0));
        told(&tenant, 2).await;
        tenant.ready("bol").await;
    })
    .await;
}
