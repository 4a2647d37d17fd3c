use std::collections::BTreeSet;

use marketrelay_sandbox::Marketplace::Ebay;

use crate::{
    official::{Official, check_token, check_token_error},
    sandbox::Tried,
};

const GRANT: [(&str, &str); 2] = [("grant_type", "refresh_token"), ("refresh_token", "refresh")];
const LIST: &str = "/sell/fulfillment/v1/order";

pub async fn token(sandbox: &Tried) -> String {
    sandbox.token(Ebay, &GRANT).await.token()
}

#[tokio::test]
async fn ebays_answers_follow_the_official_description_in_every_state() {
    let (sandbox, official) = (Tried::with(Ebay, 40).await, Official::ebay());
    sandbox.every_state("ebay").await;
    let token = token(&sandbox).await;
    let answer = sandbox.get(Ebay, &token, &format!("{LIST}?fieldGroups=TAX_BREAKDOWN")).await;
    official.check("OrderSearchPagedCollection", &answer.body);
    let states: BTreeSet<_> = answer.body["orders"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|order| (order["orderFulfillmentStatus"].as_str(), order["orderPaymentStatus"].as_str()))
        .collect();
    assert_eq!(states.len(), 4, "{states:?}");
    for number in answer.numbers().iter().take(5) {
        official.check("Order", &sandbox.get(Ebay, &token, &format!("{LIST}/{number}")).await.body);
        let parcels = sandbox.get(Ebay, &token, &format!("{LIST}/{number}/shipping_fulfillment")).await;
        official.check("ShippingFulfillmentPagedCollection", &parcels.body);
    }
}

#[tokio::test]
async fn ebays_pages_hold_50_orders_and_200_at_most() {
    let sandbox = Tried::with(Ebay, 230).await;
    let token = token(&sandbox).await;
    let default = sandbox.get(Ebay, &token, LIST).await;
    assert_eq!((default.numbers().len(), &default.body["total"]), (50, &230.into()));
    let first = sandbox.get(Ebay, &token, &format!("{LIST}?limit=200")).await;
    let last = sandbox.get(Ebay, &token, &format!("{LIST}?limit=200&offset=200")).await;
    assert_eq!((first.numbers().len(), last.numbers().len()), (200, 30));
    assert!(first.body["next"].is_string() && last.body["next"].is_null() && last.body["prev"].is_string());
    let by_id = format!("{LIST}?orderIds={}", first.numbers()[3]);
    assert_eq!(sandbox.get(Ebay, &token, &by_id).await.numbers(), first.numbers()[3..4]);
}

#[tokio::test]
async fn ebays_errors_are_the_documented_ones() {
    let (sandbox, official) = (Tried::with(Ebay, 5).await, Official::ebay());
    let token = token(&sandbox).await;
    let documented = official.error_ids("/paths/~1order/get/responses/400/x-response-codes/errors");
    for query in [
        "limit=201",
        "limit=x",
        "offset=-1",
        "filter=price:%5B1..2%5D",
        "filter=lastmodifieddate:%5B..%5D",
        "fieldGroups=X",
    ] {
        let answer = sandbox.get(Ebay, &token, &format!("{LIST}?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        for error in answer.body["errors"].as_array().expect("errors") {
            official.check("Error", error);
            assert!(documented.contains(&error["errorId"].to_string()), "{query}: {error}");
        }
    }
    for (token, path, status) in [("no token", LIST.to_owned(), 401), (&token, format!("{LIST}/1"), 404)] {
        let answer = sandbox.get(Ebay, token, &path).await;
        assert_eq!(answer.status, status);
        official.check("Error", &answer.body["errors"][0]);
    }
}

#[tokio::test]
async fn ebays_token_endpoint_speaks_oauth() {
    let sandbox = Tried::with(Ebay, 1).await;
    let answer = sandbox.token(Ebay, &GRANT).await;
    check_token(&answer.body);
    assert_eq!(answer.body["expires_in"], 7200);
    for (form, error) in [
        ([("grant_type", "refresh_token"), ("refresh_token", "wrong")], "invalid_grant"),
        ([("grant_type", "password"), ("refresh_token", "refresh")], "unsupported_grant_type"),
    ] {
        let answer = sandbox.token(Ebay, &form).await;
        check_token_error(&answer.body);
        assert_eq!((answer.status.as_u16(), answer.body["error"].as_str()), (400, Some(error)));
    }
}

#[tokio::test]
async fn ebays_public_key_is_for_applications_and_follows_the_official_description() {
    let (sandbox, official) = (Tried::with(Ebay, 1).await, Official::ebay_notifications());
    let id = sandbox.control("ebay/key").await["id"].as_str().expect("an id").to_owned();
    let path = |id: &str| format!("/commerce/notification/v1/public_key/{id}");
    let seller = token(&sandbox).await;
    assert_eq!(sandbox.get(Ebay, &seller, &path(&id)).await.status, 401, "a seller's token is none");
    let scope = "https://api.ebay.com/oauth/api_scope";
    let answer = sandbox.token(Ebay, &[("grant_type", "client_credentials"), ("scope", scope)]).await;
    check_token(&answer.body);
    let application = answer.token();
    let key = sandbox.get(Ebay, &application, &path(&id)).await;
    official.check("PublicKey", &key.body);
    assert_eq!((key.body["algorithm"].as_str(), key.body["digest"].as_str()), (Some("ECDSA"), Some("SHA1")));
    let unknown = sandbox.get(Ebay, &application, &path("another")).await;
    assert_eq!(
        (unknown.status.as_u16(), unknown.body["errors"][0]["errorId"].as_u64()),
        (404, Some(195_001))
    );
    assert_eq!(sandbox.get(Ebay, &application, LIST).await.status, 401, "an application sells nothing");
    let refused = sandbox.token(Ebay, &[("grant_type", "client_credentials"), ("scope", "all")]).await;
    check_token_error(&refused.body);
}
