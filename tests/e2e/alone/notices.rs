//! eBay tells that somebody closed their account, and they are erased, down to the customer's system.

use kube::api::ListParams;
use marketrelay_api::{ErasureRequest, ErasureRequestStatus};
use serde_json::{Value, json};

use crate::{
    cluster::{SYSTEM, alone, kube, wait_for},
    tenant::{SOON, Tenant, with_tenant},
};

const NAME: &str = "marketrelay-ebay-notices";
/// As in manifests/samples.
const TOKEN: &str = "sandbox-verification-token-0123456789";

/// What eBay sends to the receiver inside the cluster, by way of the simulator.
async fn ebay(tenant: &Tenant, what: &str, fields: Value) -> Value {
    let authority = "--output=go-template={{index .data \"ca.crt\" | base64decode}}";
    let words = ["get", "secret", NAME, "--namespace", SYSTEM, authority];
    let mut body = fields;
    body["ca"] = json!(kube().get(&words).expect("the operator's authority"));
    body["url"] = json!(format!("https://{NAME}.{SYSTEM}.svc/ebay/account-deletion"));
    tenant.sandbox.ask_for(&format!("ebay/{what}"), &body).await
}

/// The request that the notice became, once it is complete.
async fn completed(tenant: &Tenant) -> ErasureRequestStatus {
    wait_for("the erasure completes", SOON, async || {
        let by_notices = ListParams::default().labels("marketrelay.dev/source=ebay-notice");
        let found = tenant.api::<ErasureRequest>().list(&by_notices).await;
        let mut found = found.map_err(|error| error.to_string())?.items;
        let request = found.pop().ok_or("no request")?;
        assert!(found.is_empty(), "one notice, one request");
        let status = request.status.ok_or("no status")?;
        if status.completed_at.is_some() { Ok(status) } else { Err(format!("{:?}", status.conditions)) }
    })
    .await
}

/// It runs alone: a notice makes a request in every namespace with an eBay connection.
#[tokio::test]
async fn a_buyer_who_closed_their_account_at_ebay_is_erased_down_to_the_customers_system() {
    let _nobody_else = alone().await;
    with_tenant("notices", async |tenant| {
        let answer = ebay(&tenant, "challenge", json!({"verificationToken": TOKEN})).await;
        assert_eq!(answer["valid"], true, "{answer}");
        tenant.connect("ebay", 4).await;
        tenant.all_arrived("ebay").await;
        let orders = tenant.sandbox.get(&format!("accounts/{}/orders", tenant.account("ebay"))).await;
        let username = orders[1]["username"].as_str().expect("a user name").to_owned();
        let notice = |forgery: Option<&str>| {
            json!({"username": username, "userId": "ma8vp1jySJC", "notificationId": tenant.name, "forgery": forgery})
        };
        let forged = ebay(&tenant, "notices", notice(Some("changedBody"))).await;
        assert_eq!(forged["status"], 412, "{forged}");
        for time in ["the notice", "its repetition"] {
            let answer = ebay(&tenant, "notices", notice(None)).await;
            assert_eq!(answer["status"], 204, "{time}: {answer}");
        }
        let status = completed(&tenant).await;
        assert_eq!((status.matched, status.erased), (Some(1), Some(1)), "{status:?}");
        wait_for("order.erased at the customer", SOON, async || {
            let summary = tenant.summary().await;
            if summary["erased"] == 1 { Ok(()) } else { Err(summary.to_string()) }
        })
        .await;
        tenant.ready("ebay").await;
        let selector = format!("--selector=app.kubernetes.io/name={NAME}");
        let logs = kube().get(&["logs", "--namespace", SYSTEM, &selector, "--tail=-1"]).expect("logs");
        assert!(logs.contains("erasure requests") && !logs.contains(&username), "{logs}");
        let told = tenant.kubectl(&["get", "events,erasure,mconn,configmaps", "--output=yaml"]).expect("YAML");
        assert!(!told.contains(&username) && !told.contains("ma8vp1jySJC"), "{told}");
    })
    .await;
}
