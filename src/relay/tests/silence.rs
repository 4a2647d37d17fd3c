//! What the relay tells of itself names nobody.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::relay::paths;
use serde_json::{Value, json};

use crate::common::{Authority, CLIENT, Control, Mounts, amazon, bol, ebay, eventually, sandbox};

/// Everything in the customer's orders that identifies somebody, and what must stay secret.
fn identifying(value: &Value, found: &mut Vec<String>) {
    const HARMLESS: [&str; 3] = ["country", "currency", "carrier"];
    match value {
        Value::Object(members) => {
            members
                .iter()
                .filter(|(name, _)| !HARMLESS.contains(&name.as_str()))
                .for_each(|(_, value)| identifying(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| identifying(item, found)),
        Value::String(text) if text.len() > 3 => found.push(text.clone()),
        _ => {}
    }
}

async fn people(control: &Control) -> Vec<String> {
    let mut found = Vec::new();
    for event in control.events().await {
        let order = &event["order"];
        for part in ["number", "buyer", "shipTo", "billTo", "shipments", "notes"] {
            identifying(&order[part], &mut found);
        }
        for line in order["lines"].as_array().expect("lines") {
            identifying(&line["id"], &mut found);
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Some of everything that is worth a line in the log.
async fn trouble(control: &Control, marketplace: &str) {
    let fault = |kind: Value| json!({"target": marketplace, "fault": kind, "calls": 1});
    control.post("faults", fault(json!({"kind": "invalidJson"}))).await;
    let failing = json!({"kind": "status", "status": 500, "retryAfter": 1});
    control.post("faults", json!({"target": "customer/acme", "fault": failing, "calls": 2})).await;
    control.post("tokens/expire", json!({})).await;
}

#[tokio::test]
async fn log_metrics_and_status_name_nobody_also_at_the_highest_log_level() {
    for (marketplace, target, client) in
        [(amazon(), "amazon", "client-amazon"), (ebay(), "ebay", "client-ebay"), (bol(), "bol", CLIENT)]
    {
        let sandbox = sandbox(30).await;
        let (control, authority) = (Control::new(&sandbox), Authority::new());
        let mounts = Mounts::new(&sandbox, marketplace);
        authority.mount(mounts.folder.path());
        trouble(&control, target).await;
        let relay = mounts.spawn();
        let address = relay.address().await;
        // Amazon tells what is older than two minutes.
        let until = Timestamp::now() - SignedDuration::from_mins(3);
        control.all_received(client, until).await;
        let orders = control.orders(client).await;
        let number = orders[3]["number"].as_str().expect("a number");
        control.post(&format!("accounts/{client}/orders/{number}"), json!({"state": "shipped"})).await;
        let operator = authority.http(Some(&authority.client(paths::OPERATOR_ROLE)));
        let mut told = String::new();
        for path in ["/v1/status", "/metrics"] {
            let answer = operator.get(format!("https://{address}{path}")).send().await.expect("an answer");
            assert!(answer.status().is_success());
            told.push_str(&answer.text().await.expect("a text"));
        }
        let stored = || async { relay.log().contains("\"stored\"").then_some(()) };
        eventually("a log of what it does", Duration::from_secs(30), stored).await;
        told.push_str(&relay.log());
        assert!(relay.terminate(Duration::from_secs(25)).await.success());
        told.push_str(&std::fs::read_to_string(mounts.folder.path().join("log")).expect("a log"));
        let people = people(&control).await;
        assert!(people.len() > 100, "{} texts", people.len());
        let secrets = ["secret", "refresh", "access-"].map(|text| format!("\"{text}"));
        for text in people.iter().chain(&secrets) {
            assert!(!told.contains(text.as_str()), "{target}: it tells {text:?}");
        }
    }
}
