use std::collections::BTreeSet;

use marketrelay_sandbox::Marketplace::Bol;
use serde_json::json;

use crate::{
    official::{Official, check_token, check_token_error},
    sandbox::{Tried, account},
};

const LIST: &str = "/retailer/orders?status=ALL&fulfilment-method=ALL";

pub async fn token(sandbox: &Tried) -> String {
    sandbox.token(Bol, &[("grant_type", "client_credentials")]).await.token()
}

#[tokio::test]
async fn bols_answers_follow_the_official_description_in_every_state() {
    let (sandbox, official) = (Tried::with(Bol, 40).await, Official::bol());
    sandbox.every_state("bol").await;
    let token = token(&sandbox).await;
    let answer = sandbox.get(Bol, &token, LIST).await;
    official.check("ReducedOrders", &answer.body);
    assert_eq!(answer.header("content-type"), Some("application/vnd.retailer.v10+json"));
    let mut kinds = BTreeSet::new();
    for number in &answer.numbers() {
        let order = sandbox.get(Bol, &token, &format!("/retailer/orders/{number}")).await;
        official.check("Order", &order.body);
        let items = order.body["orderItems"].as_array().expect("items").iter();
        let sum = |name: &str| items.clone().filter_map(|item| item[name].as_u64()).sum::<u64>();
        let (shipped, cancelled) = (sum("quantityShipped"), sum("quantityCancelled"));
        kinds.insert((shipped == 0, shipped == sum("quantity"), cancelled > 0));
    }
    assert!(kinds.len() >= 4, "open, in part, shipped, cancelled: {kinds:?}");
    let shipments = sandbox.get(Bol, &token, "/retailer/shipments").await;
    official.check("ShipmentsResponse", &shipments.body);
    for shipment in shipments.body["shipments"].as_array().expect("a list").iter().take(5) {
        let path = format!("/retailer/shipments/{}", shipment["shipmentId"].as_str().expect("an id"));
        official.check("Shipment", &sandbox.get(Bol, &token, &path).await.body);
    }
}

#[tokio::test]
async fn bols_pages_hold_50_orders_newest_first() {
    let sandbox = Tried::with(Bol, 120).await;
    let token = token(&sandbox).await;
    let mut placed = Vec::new();
    for (page, orders) in [(1, 50), (2, 50), (3, 20), (4, 0)] {
        let answer = sandbox.get(Bol, &token, &format!("{LIST}&page={page}")).await;
        assert_eq!(answer.numbers().len(), orders, "page {page}");
        let times = answer.body["orders"].as_array().expect("a list").iter();
        placed.extend(times.map(|order| order["orderPlacedDateTime"].as_str().expect("a time").to_owned()));
    }
    assert!(placed.is_sorted_by(|one, next| one >= next), "{placed:?}");
    let recent = sandbox.get(Bol, &token, &format!("{LIST}&change-interval-minute=10")).await;
    assert!((9..=10).contains(&recent.numbers().len()), "one is placed each minute");
}

#[tokio::test]
async fn bols_problems_follow_the_official_description() {
    let (sandbox, official) = (Tried::with(Bol, 5).await, Official::bol());
    let token = token(&sandbox).await;
    for (path, status, violation) in [
        (format!("{LIST}&page=0"), 400, Some("page")),
        (format!("{LIST}&change-interval-minute=61"), 400, Some("change-interval-minute")),
        (format!("{LIST}&latest-change-date=today"), 400, Some("latest-change-date")),
        ("/retailer/orders?status=DONE".to_owned(), 400, Some("status")),
        ("/retailer/shipments?order-id=A1&fulfilment-method=FBR".to_owned(), 400, Some("order-id")),
        ("/retailer/orders/A1".to_owned(), 404, None),
        ("/retailer/shipments/1".to_owned(), 404, None),
    ] {
        let answer = sandbox.get(Bol, &token, &path).await;
        official.check("Problem", &answer.body);
        let name = answer.body["violations"][0]["name"].as_str();
        assert_eq!((answer.status.as_u16(), name), (status, violation), "{path}");
    }
    let answer = sandbox.get(Bol, "no token", LIST).await;
    official.check("Problem", &answer.body);
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn bols_limits_are_published_told_and_kept() {
    let sandbox = Tried::start(vec![account(Bol, 1)], (0.0056, 20.0)).await;
    let token = token(&sandbox).await;
    let published = sandbox.get(Bol, "no token", "/retailer/public/ratelimits").await.body;
    let orders = json!({"path": "/retailer/orders", "methods": "GET", "maxCapacity": 25, "timeToLive": 1, "timeUnit": "MINUTES"});
    assert!(published.as_array().expect("a list").contains(&orders), "{published}");
    for used in 1..=25 {
        let answer = sandbox.get(Bol, &token, LIST).await;
        let left = (25 - used).to_string();
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-ratelimit-remaining")),
            (200, Some(left.as_str()))
        );
    }
    let answer = sandbox.get(Bol, &token, LIST).await;
    Official::bol().check("Problem", &answer.body);
    let reset: i64 = answer.header("x-ratelimit-reset").and_then(|text| text.parse().ok()).expect("seconds");
    assert_eq!((answer.status.as_u16(), (1..=60).contains(&reset)), (429, true), "{reset}");
}

#[tokio::test]
async fn bols_token_endpoint_speaks_oauth() {
    let sandbox = Tried::with(Bol, 1).await;
    let answer = sandbox.token(Bol, &[("grant_type", "client_credentials")]).await;
    check_token(&answer.body);
    assert_eq!(answer.body["expires_in"], 299);
    let answer = sandbox.token(Bol, &[("grant_type", "password")]).await;
    check_token_error(&answer.body);
    assert_eq!(answer.status, 400);
}
