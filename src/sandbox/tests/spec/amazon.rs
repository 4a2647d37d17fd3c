use std::collections::BTreeSet;

use marketrelay_sandbox::Marketplace::Amazon;
use serde_json::{Value, json};

use crate::{
    official::{Official, check_token, check_token_error},
    sandbox::{Answer, Tried, account},
};

const EVERYTHING: &str = "includedData=BUYER,RECIPIENT,PROCEEDS,EXPENSE,PROMOTION,CANCELLATION,FULFILLMENT,PACKAGES,TAX,PAYMENT,FULFILLMENT_ORDERS";
pub const SEARCH: &str = "/orders/2026-01-01/orders?createdAfter=2020-01-01T00:00:00Z";

const GRANT: [(&str, &str); 4] = [
    ("grant_type", "refresh_token"),
    ("refresh_token", "refresh"),
    ("client_id", "amazon"),
    ("client_secret", "secret"),
];

pub async fn token(sandbox: &Tried) -> String {
    sandbox.token(Amazon, &GRANT).await.token()
}

async fn search(sandbox: &Tried, token: &str, query: &str) -> Answer {
    sandbox.get(Amazon, token, &format!("{SEARCH}&{query}")).await
}

fn states(orders: &Value) -> BTreeSet<&str> {
    let list = orders.as_array().expect("a list").iter();
    list.map(|order| order["fulfillment"]["fulfillmentStatus"].as_str().expect("a status")).collect()
}

#[tokio::test]
async fn amazons_answers_follow_the_official_description_in_every_state() {
    let (sandbox, official) = (Tried::with(Amazon, 40).await, Official::amazon());
    sandbox.every_state("amazon").await;
    let token = token(&sandbox).await;
    let answer = search(&sandbox, &token, EVERYTHING).await;
    official.check("SearchOrdersResponse", &answer.body);
    let known = BTreeSet::from(["UNSHIPPED", "PARTIALLY_SHIPPED", "SHIPPED", "CANCELLED"]);
    assert_eq!(states(&answer.body["orders"]), known);
    official.check("SearchOrdersResponse", &search(&sandbox, &token, "maxResultsPerPage=7").await.body);
    for number in answer.numbers().iter().take(5) {
        let path = format!("/orders/2026-01-01/orders/{number}?{EVERYTHING}");
        official.check("GetOrderResponse", &sandbox.get(Amazon, &token, &path).await.body);
    }
}

#[tokio::test]
async fn amazons_pages_hold_100_orders_at_most_and_hide_none_that_a_change_moves() {
    let sandbox = Tried::with(Amazon, 230).await;
    let token = token(&sandbox).await;
    let updated = "/orders/2026-01-01/orders?lastUpdatedAfter=2020-01-01T00:00:00Z";
    let first = sandbox.get(Amazon, &token, updated).await;
    assert_eq!(first.numbers().len(), 100);
    for number in first.numbers().iter().take(30) {
        sandbox.post(&format!("accounts/amazon/orders/{number}"), json!({"state": "shipped"})).await;
    }
    let (mut numbers, mut next) = (first.numbers(), first.body["pagination"]["nextToken"].clone());
    while let Some(page) = next.as_str() {
        let answer = sandbox.get(Amazon, &token, &format!("{updated}&paginationToken={page}")).await;
        numbers.extend(answer.numbers());
        next = answer.body["pagination"]["nextToken"].clone();
    }
    // The newest orders are placed less than two minutes ago.
    let unique: BTreeSet<_> = numbers.iter().collect();
    assert_eq!((numbers.len(), unique.len()), (229, 229));
}

#[tokio::test]
async fn amazons_errors_follow_the_official_description() {
    let (sandbox, official) = (Tried::with(Amazon, 5).await, Official::amazon());
    let token = token(&sandbox).await;
    for (path, status, code) in [
        ("/orders/2026-01-01/orders", 400, "InvalidInput"),
        (
            "/orders/2026-01-01/orders?createdAfter=2020-01-01T00:00:00Z&lastUpdatedAfter=2020-01-01T00:00:00Z",
            400,
            "InvalidInput",
        ),
        (
            "/orders/2026-01-01/orders?lastUpdatedAfter=2020-01-01T00:00:00Z&lastUpdatedBefore=2999-01-01T00:00:00Z",
            400,
            "InvalidInput",
        ),
        (
            "/orders/2026-01-01/orders?createdAfter=2020-01-01T00:00:00Z&maxResultsPerPage=101",
            400,
            "InvalidInput",
        ),
        (
            "/orders/2026-01-01/orders?createdAfter=2020-01-01T00:00:00Z&paginationToken=x",
            400,
            "InvalidInput",
        ),
        (
            "/orders/2026-01-01/orders?createdAfter=2020-01-01T00:00:00Z&includedData=SECRETS",
            400,
            "InvalidInput",
        ),
        ("/orders/2026-01-01/orders/111-1111111-1111111", 404, "NotFound"),
    ] {
        let answer = sandbox.get(Amazon, &token, path).await;
        official.check("ErrorList", &answer.body);
        assert_eq!(
            (answer.status.as_u16(), answer.body["errors"][0]["code"].as_str()),
            (status, Some(code)),
            "{path}"
        );
    }
    let answer = search(&sandbox, "no token", "").await;
    official.check("ErrorList", &answer.body);
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn amazons_rate_is_told_and_kept() {
    let sandbox = Tried::start(vec![account(Amazon, 1)], (0.0056, 20.0)).await;
    let token = token(&sandbox).await;
    for call in 0..20 {
        let answer = search(&sandbox, &token, "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-amzn-ratelimit-limit")),
            (200, Some("0.0056")),
            "{call}"
        );
    }
    let answer = search(&sandbox, &token, "").await;
    Official::amazon().check("ErrorList", &answer.body);
    assert_eq!(
        (answer.status.as_u16(), answer.body["errors"][0]["code"].as_str()),
        (429, Some("QuotaExceeded"))
    );
    assert_eq!((answer.header("x-amzn-ratelimit-limit"), answer.header("retry-after")), (None, None));
}

#[tokio::test]
async fn amazons_token_endpoint_speaks_oauth() {
    let sandbox = Tried::with(Amazon, 1).await;
    let answer = sandbox.token(Amazon, &GRANT).await;
    check_token(&answer.body);
    assert_eq!(answer.body["expires_in"], 3600);
    for (name, value, status, error) in [
        ("client_secret", "wrong", 401, "invalid_client"),
        ("refresh_token", "wrong", 400, "invalid_grant"),
        ("grant_type", "password", 400, "unsupported_grant_type"),
    ] {
        let form = GRANT.map(|(field, good)| (field, if field == name { value } else { good }));
        let answer = sandbox.token(Amazon, &form).await;
        check_token_error(&answer.body);
        assert_eq!((answer.status.as_u16(), answer.body["error"].as_str()), (status, Some(error)));
    }
    sandbox.post("tokens/expire", json!({})).await;
    let again = token(&sandbox).await;
    sandbox.post("tokens/expire", json!({})).await;
    assert_eq!(search(&sandbox, &again, "").await.status, 403);
}
