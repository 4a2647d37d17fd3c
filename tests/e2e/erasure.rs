//! Promise 14: a person asks to be forgotten, and is, in every connection and in the customer's system.

use k8s_openapi::api::core::v1::Secret;
use marketrelay_api::{ErasureRequest, ErasureRequestStatus};
use serde_json::{Value, json};

use crate::{
    cluster::{kube, together, wait_for},
    tenant::{SOON, Tenant, with_tenant},
};

const EMAIL: &str = "zoe@nachtigall.example";

pub async fn order_of_zoe(tenant: &Tenant, marketplace: &str, count: u32) {
    let person = json!({"firstName": "Zoë", "surname": "Nachtigall", "email": EMAIL, "street": "Königstraße",
        "houseNumber": "7", "postalCode": "10115", "city": "Berlin", "country": "DE"});
    let path = format!("accounts/{}/orders", tenant.account(marketplace));
    tenant.sandbox.post(&path, &json!({"count": count, "person": person})).await;
}

pub fn ask(tenant: &Tenant) {
    tenant.secret("case-4711", &json!({"emails": EMAIL}));
    tenant.apply(&json!({
        "apiVersion": "marketrelay.dev/v1alpha1", "kind": "ErasureRequest", "metadata": {"name": "case-4711"},
        "spec": {"subject": {"secretRef": {"name": "case-4711"}}},
    }));
}

/// Waits for a reason of Complete.
pub async fn reason(tenant: &Tenant, reason: &str) -> ErasureRequestStatus {
    wait_for(&format!("{}: the request is {reason}", tenant.name), SOON, async || {
        let request =
            tenant.api::<ErasureRequest>().get("case-4711").await.map_err(|error| error.to_string())?;
        let status = request.status.ok_or("no status yet")?;
        let complete = status.conditions.first().ok_or("no condition yet")?;
        if complete.reason == reason {
            Ok(status)
        } else {
            Err(format!("{} {}", complete.reason, complete.message))
        }
    })
    .await
}

pub async fn secret_is_gone(tenant: &Tenant) {
    wait_for("the subject's Secret is gone", SOON, async || {
        let found = tenant.api::<Secret>().get_opt("case-4711").await.map_err(|error| error.to_string())?;
        if found.is_none() { Ok(()) } else { Err("it is there".to_owned()) }
    })
    .await;
}

/// The orders that the customer's system was told to erase.
pub async fn told(tenant: &Tenant, orders: u64) {
    wait_for("order.erased at the customer", SOON, async || {
        let summary = tenant.summary().await;
        if summary["erased"] == orders { Ok(()) } else { Err(summary.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_buyer_who_asks_is_erased_everywhere_and_stays_so_when_the_orders_change() {
    let _company = together().await;
    with_tenant("erased", async |tenant| {
        for marketplace in ["bol", "ebay"] {
            tenant.connect(marketplace, 4).await;
            order_of_zoe(&tenant, marketplace, 3).await;
            tenant.all_arrived(marketplace).await;
        }
        ask(&tenant);
        let status = reason(&tenant, "Erased").await;
        assert_eq!((status.matched, status.erased, status.digests.len()), (Some(6), Some(6), 0));
        assert!(status.sealed_copies_until.is_some());
        secret_is_gone(&tenant).await;
        told(&tenant, 6).await;
        for marketplace in ["bol", "ebay"] {
            for number in tenant.sandbox.orders(&tenant.account(marketplace)).await {
                let path = format!("accounts/{}/orders/{number}", tenant.account(marketplace));
                tenant.sandbox.post(&path, &json!({"state": "shipped"})).await;
            }
        }
        wait_for("the others' shipments at the customer", SOON, async || {
            let events = tenant.sandbox.get(&format!("customers/{}/events", tenant.name)).await;
            let events = events.as_array().cloned().unwrap_or_default();
            let shipped = events.iter().filter(|event| event["status"] == "shipped").count();
            if shipped >= 8 { Ok(()) } else { Err(format!("{shipped} of 8")) }
        })
        .await;
        let events: Value = tenant.sandbox.get(&format!("customers/{}/events", tenant.name)).await;
        assert!(!events.to_string().contains("Nachtigall"), "the customer's system was told nothing new");
        for marketplace in ["bol", "ebay"] {
            tenant.ready(marketplace).await;
        }
        let seen =
            tenant.kubectl(&["get", "events,erasure,mconn,configmaps", "--output=yaml"]).expect("YAML");
        assert!(!seen.contains("nachtigall") && !seen.contains("buyer:"), "{seen}");
        let logs = kube().get(&[
            "logs",
            "--namespace",
            &tenant.name,
            "--selector=app.kubernetes.io/name=marketrelay",
            "--tail=-1",
        ]);
        let logs = logs.expect("logs").to_lowercase();
        assert!(!logs.contains("nachtigall") && !logs.contains("buyer:"));
    })
    .await;
}
