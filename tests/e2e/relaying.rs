//! Promises 1 and 2: the orders of three marketplaces reach the customer's system.

use serde_json::json;

use crate::{
    cluster::{kill, together},
    tenant::with_tenant,
};

#[tokio::test]
async fn every_order_of_three_marketplaces_arrives_once_by_id() {
    let _company = together().await;
    with_tenant("three", async |tenant| {
        let marketplaces = [("amazon", 25), ("ebay", 230), ("bol", 70)];
        for (marketplace, orders) in marketplaces {
            tenant.seller(marketplace, orders).await;
            tenant.apply(&tenant.connection(marketplace));
        }
        for (marketplace, _) in marketplaces {
            tenant.ready(marketplace).await;
            tenant.all_arrived(marketplace).await;
        }
        let summary = tenant.summary().await;
        assert_eq!(summary["repeatedEvents"], 0, "{summary}");
        assert_eq!(summary["orders"], 325, "{summary}");
        let arrived = tenant.sandbox.arrived(&tenant.name).await;
        assert!(arrived.values().all(|times| *times == 1), "{arrived:?}");
    })
    .await;
}

#[tokio::test]
async fn a_relay_killed_under_load_loses_and_repeats_no_order() {
    let _company = together().await;
    with_tenant("killed", async |tenant| {
        tenant.connect("ebay", 100).await;
        for _ in 0..4 {
            tenant.order("ebay", 60).await;
            kill(tenant.relay_process("ebay").await);
        }
        tenant.order("ebay", 20).await;
        tenant.ready("ebay").await;
        tenant.all_arrived("ebay").await;
        let events = tenant.sandbox.get(&format!("customers/{}/events", tenant.name)).await;
        let mut seen: Vec<_> = events
            .as_array()
            .expect("a list")
            .iter()
            .map(|event| (event["number"].to_string(), event["revision"].to_string()))
            .collect();
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all, "one revision of an order has two ids");
        assert_eq!(tenant.summary().await["orders"], 360);
        let status = tenant.get("ebay").await.expect("the connection").status.expect("a status");
        assert!(status.connection_id.is_some());
    })
    .await;
}

#[tokio::test]
async fn a_shipment_arrives_as_the_next_revision() {
    let _company = together().await;
    with_tenant("shipped", async |tenant| {
        tenant.connect("bol", 3).await;
        tenant.all_arrived("bol").await;
        let number = tenant.sandbox.orders(&tenant.account("bol")).await.remove(0);
        let path = format!("accounts/{}/orders/{number}", tenant.account("bol"));
        tenant.sandbox.post(&path, &json!({"state": "shipped"})).await;
        crate::cluster::wait_for("the second revision", crate::tenant::SOON, async || {
            let events = tenant.sandbox.get(&format!("customers/{}/events", tenant.name)).await;
            let events = events.as_array().cloned().unwrap_or_default();
            let newest = events
                .iter()
                .filter(|event| event["number"] == number.as_str())
                .max_by_key(|event| event["revision"].as_u64());
            match newest {
                Some(event) if event["revision"] == 2 && event["status"] == "shipped" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        tenant.summary().await;
    })
    .await;
}
