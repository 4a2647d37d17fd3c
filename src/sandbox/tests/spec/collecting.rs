//! The product's own clients collect from the simulators, whatever goes wrong.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use marketrelay_marketplace::{Collector, Credentials, Endpoints, amazon::Amazon, bol::Bol, ebay::Ebay};
use marketrelay_sandbox::Marketplace;
use serde_json::json;

use crate::sandbox::Tried;

fn credentials(client: &str) -> Credentials {
    Credentials {
        client_id: client.to_owned(),
        client_secret: "secret".to_owned(),
        refresh_token: Some("refresh".to_owned()),
    }
}

fn endpoints(sandbox: &Tried, token: &str) -> Endpoints {
    let url = |path: &str| format!("{}{path}", sandbox.url()).parse().expect("a URL");
    Endpoints { api: url(""), token: url(token) }
}

/// What is collected while one call after the other fails, and how often collecting failed.
async fn collect(sandbox: &Tried, target: &str, collector: &mut dyn Collector) -> (BTreeSet<String>, usize) {
    let mut faults = vec![
        json!({"kind": "outOfOrder"}),
        json!({"kind": "repeatPage"}),
        json!({"kind": "halfBody"}),
        json!({"kind": "invalidJson"}),
        json!({"kind": "status", "status": 503}),
        json!({"kind": "status", "status": 429, "retryAfter": 1}),
    ];
    let (mut numbers, mut failures) = (BTreeSet::new(), 0);
    let mut cursor = collector.start(Timestamp::now() - SignedDuration::from_hours(24));
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < Duration::from_mins(1), "no end after {failures} failures");
        match collector.page(&cursor, Timestamp::now()).await {
            Ok(page) => {
                numbers.extend(page.orders.iter().map(|order| order.pii.expose().number.clone()));
                cursor = page.cursor;
                if !page.more {
                    return (numbers, failures);
                }
                sandbox.post("tokens/expire", json!({})).await;
            }
            Err(error) => {
                failures += 1;
                tokio::time::sleep(error.retry_after().unwrap_or_default()).await;
            }
        }
        if let Some(fault) = faults.pop() {
            sandbox.fail(target, fault).await;
        }
    }
}

/// The numbers of the orders that were placed before `until`.
async fn truth(sandbox: &Tried, client: &str, until: Timestamp) -> BTreeSet<String> {
    let orders = sandbox.control(&format!("accounts/{client}/orders")).await;
    let orders = orders.as_array().expect("a list").iter().filter(|order| {
        order["placedAt"].as_str().expect("text").parse::<Timestamp>().expect("a time") < until
    });
    orders.map(|order| order["number"].as_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn amazons_client_misses_nothing_whatever_goes_wrong() {
    let sandbox = Tried::with(Marketplace::Amazon, 430).await;
    let sites = ["A1PA6795UKMFR9".to_owned()];
    let endpoints = endpoints(&sandbox, "/auth/o2/token");
    let mut client = Amazon::new(sandbox.agent(), endpoints, credentials("amazon"), &sites);
    let (numbers, failures) = collect(&sandbox, "amazon", &mut client).await;
    let until = Timestamp::now() - SignedDuration::from_mins(3);
    assert!(truth(&sandbox, "amazon", until).await.is_subset(&numbers));
    assert!(failures >= 3, "{failures}");
}

#[tokio::test]
async fn ebays_client_misses_nothing_whatever_goes_wrong() {
    let sandbox = Tried::with(Marketplace::Ebay, 900).await;
    let endpoints = endpoints(&sandbox, "/identity/v1/oauth2/token");
    let mut client = Ebay::new(sandbox.agent(), endpoints, credentials("ebay"));
    let (numbers, failures) = collect(&sandbox, "ebay", &mut client).await;
    assert_eq!(truth(&sandbox, "ebay", Timestamp::MAX).await, numbers);
    assert!(failures >= 3, "{failures}");
}

#[tokio::test]
async fn bols_client_misses_nothing_whatever_goes_wrong() {
    let sandbox = Tried::with(Marketplace::Bol, 230).await;
    let mut client = Bol::new(sandbox.agent(), endpoints(&sandbox, "/token"), credentials("bol"));
    let (numbers, failures) = collect(&sandbox, "bol", &mut client).await;
    assert_eq!(truth(&sandbox, "bol", Timestamp::MAX).await, numbers);
    assert!(failures >= 3, "{failures}");
}
