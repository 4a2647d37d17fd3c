//! Marketplaces and destinations that fail for a while, credentials that change.

use serde_json::json;

use crate::{
    cluster::{together, wait_for},
    tenant::{SOON, with_tenant},
};

#[tokio::test]
async fn a_destination_that_was_down_gets_everything_when_it_is_back() {
    let _company = together().await;
    with_tenant("down", async |tenant| {
        tenant.connect("bol", 5).await;
        tenant.all_arrived("bol").await;
        let target = format!("customer/{}", tenant.name);
        tenant.sandbox.fail(&target, &json!({"kind": "status", "status": 503, "retryAfter": 5}), None).await;
        tenant.order("bol", 30).await;
        let message = tenant.condition("bol", "Delivering", "False", None).await;
        assert!(message.contains("503"), "{message}");
        tenant.sandbox.heal(&target).await;
        tenant.ready("bol").await;
        tenant.all_arrived("bol").await;
        assert_eq!(tenant.summary().await["orders"], 35);
    })
    .await;
}

#[tokio::test]
async fn a_destination_that_is_gone_is_left_alone_until_it_changes() {
    let _company = together().await;
    with_tenant("gone", async |tenant| {
        tenant.connect("bol", 2).await;
        tenant.all_arrived("bol").await;
        let target = format!("customer/{}", tenant.name);
        tenant.sandbox.fail(&target, &json!({"kind": "status", "status": 410}), Some(1)).await;
        tenant.order("bol", 3).await;
        let message = tenant.condition("bol", "Ready", "False", Some("DestinationDisabled")).await;
        assert!(message.contains("spec.destination.webhook.url"), "{message}");
        let mut connection = tenant.connection("bol");
        let url = connection["spec"]["destination"]["webhook"]["url"].as_str().expect("a URL").to_owned();
        connection["spec"]["destination"]["webhook"]["url"] = json!(format!("{url}?new=1"));
        tenant.apply(&connection);
        tenant.ready("bol").await;
        tenant.all_arrived("bol").await;
    })
    .await;
}

#[tokio::test]
async fn rotated_credentials_reach_the_relay_without_losing_an_order() {
    let _company = together().await;
    with_tenant("rotated", async |tenant| {
        tenant.connect("bol", 5).await;
        let process = tenant.relay_process("bol").await;
        let path = format!("accounts/{}/credentials", tenant.account("bol"));
        tenant.sandbox.post(&path, &json!({"clientSecret": "new", "refreshToken": "refresh"})).await;
        tenant.order("bol", 10).await;
        let message = tenant.condition("bol", "Ready", "False", Some("CredentialsRejected")).await;
        assert!(message.contains("credentialsSecretRef"), "{message}");
        tenant.credentials("bol", "new");
        // The kubelet takes a minute or more to bring a changed Secret to a pod.
        wait_for("Ready again", 2 * SOON, async || {
            let status = tenant.get("bol").await?.status.ok_or("no status")?;
            let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
            let ready = ready.ok_or("no condition")?;
            if ready.status == "True" { Ok(()) } else { Err(format!("{} {}", ready.reason, ready.message)) }
        })
        .await;
        tenant.all_arrived("bol").await;
        assert_eq!(tenant.relay_process("bol").await, process, "a rotation needs no restart");
        assert_eq!(tenant.summary().await["orders"], 15);
    })
    .await;
}
