//! An account is closed while the operator is killed.

use crate::{
    alone::operator::leader_process,
    closure::{close, files, id, is_proven, volume},
    cluster::{alone, kill},
    tenant::with_tenant,
};

#[tokio::test]
async fn an_account_is_closed_while_its_relay_runs_and_the_operator_is_killed_meanwhile() {
    let _alone = alone().await;
    with_tenant("closed", async |tenant| {
        tenant.connect("bol", 5).await;
        tenant.connect("ebay", 3).await;
        tenant.all_arrived("bol").await;
        let (id, volume) = (id(&tenant, "bol").await, volume(&tenant, "bol"));
        let files = files(&tenant, &volume).await;
        let leader = leader_process(&tenant.client).await;
        close(&tenant, "bol", &id);
        kill(leader);
        is_proven(&tenant, "bol", &id, &volume, &files).await;
        tenant.ready("ebay").await;
        tenant.order("ebay", 2).await;
        tenant.all_arrived("ebay").await;
        tenant.kubectl(&["get", "secret", "marketrelay-digest-key"]).expect("the other connection's");

        tenant.kubectl(&["delete", "mconn", "bol"]).expect("deleted");
        tenant.apply(&tenant.connection("bol"));
        tenant.ready("bol").await;
        assert_ne!(self::id(&tenant, "bol").await, id);
    })
    .await;
}
