//! The operator dies, hands over, and is upgraded, and relays don't notice.

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, Client, ResourceExt, api::DeleteParams};

use crate::{
    cluster::{SYSTEM, alone, kill, process, wait_for},
    tenant::{SOON, with_tenant},
};

pub async fn leader(client: &Client) -> Result<String, String> {
    let leases = Api::<Lease>::namespaced(client.clone(), SYSTEM);
    let lease = leases.get("marketrelay-operator").await.map_err(|error| error.to_string())?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
    if holder.is_empty() { Err("nobody leads".to_owned()) } else { Ok(holder) }
}

/// The leader's process on this machine.
pub async fn leader_process(client: &Client) -> u32 {
    let pods = Api::<Pod>::namespaced(client.clone(), SYSTEM);
    wait_for("the leader's process", SOON, async || {
        let first = leader(client).await?;
        let uid = pods.get(&first).await.map_err(|error| error.to_string())?.uid().unwrap_or_default();
        process(&uid, "/marketrelay-operator").ok_or_else(|| format!("no process of {first}"))
    })
    .await
}

#[tokio::test]
async fn an_operator_killed_while_connections_come_up_finishes_after_its_restart() {
    let _alone = alone().await;
    with_tenant("crash", async |tenant| {
        for marketplace in ["amazon", "ebay", "bol"] {
            tenant.seller(marketplace, 5).await;
        }
        let pid = leader_process(&tenant.client).await;
        for marketplace in ["amazon", "ebay", "bol"] {
            tenant.apply(&tenant.connection(marketplace));
        }
        kill(pid);
        for marketplace in ["amazon", "ebay", "bol"] {
            tenant.ready(marketplace).await;
            tenant.all_arrived(marketplace).await;
        }
        let ids = tenant
            .kubectl(&["get", "mconn", "--output=jsonpath={.items[*].status.connectionId}"])
            .expect("ids");
        assert_eq!(ids.split(' ').collect::<std::collections::BTreeSet<_>>().len(), 3, "{ids}");
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_is_asked_to_end_hands_over_at_once() {
    let _alone = alone().await;
    with_tenant("handover", async |tenant| {
        let pods = Api::<Pod>::namespaced(tenant.client.clone(), SYSTEM);
        let first = wait_for("a leader that runs", SOON, async || {
            let first = leader(&tenant.client).await?;
            let pod = pods.get(&first).await.map_err(|error| error.to_string())?;
            if pod.metadata.deletion_timestamp.is_none() { Ok(first) } else { Err("it ends".to_owned()) }
        })
        .await;
        let began = std::time::Instant::now();
        pods.delete(&first, &DeleteParams::default()).await.expect("deleted");
        wait_for("another leader", SOON, async || {
            let now = leader(&tenant.client).await?;
            if now == first { Err(now) } else { Ok(()) }
        })
        .await;
        assert!(
            began.elapsed().as_secs() < 12,
            "the lease wasn't handed over but ran out: {:?}",
            began.elapsed()
        );
        tenant.connect("bol", 1).await;
    })
    .await;
}
