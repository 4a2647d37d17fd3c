//! Selling Partner API, Orders 2026-01-01, with Login with Amazon.

use std::collections::HashMap;

use axum::{
    Form, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
    routing::{get, post},
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::utc;
use crate::{
    Marketplace,
    order::{Order, State as OrderState},
    state::Shared,
};

const TOKEN_SECONDS: i64 = 3600;
const MARKETPLACE_ID: &str = "A1PA6795UKMFR9";

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/auth/o2/token", post(token))
        .route("/orders/2026-01-01/orders", get(search))
        .route("/orders/2026-01-01/orders/{id}", get(order))
}

#[derive(Deserialize)]
struct Grant {
    grant_type: String,
    #[serde(default)]
    refresh_token: String,
    client_id: String,
    client_secret: String,
}

async fn token(State(shared): State<Shared>, Form(grant): Form<Grant>) -> Response {
    let mut state = shared.lock();
    let Some(account) = state.find_account(Marketplace::Amazon, &grant.client_id, &grant.client_secret)
    else {
        return super::json(
            StatusCode::UNAUTHORIZED,
            "application/json",
            &json!({"error": "invalid_client"}),
        );
    };
    if grant.grant_type != "refresh_token"
        || grant.refresh_token != state.accounts[account].account.refresh_token
    {
        return super::json(StatusCode::BAD_REQUEST, "application/json", &json!({"error": "invalid_grant"}));
    }
    let token = state.issue_token(account, TOKEN_SECONDS, Timestamp::now());
    let body = json!({"access_token": token, "token_type": "bearer", "expires_in": TOKEN_SECONDS, "refresh_token": grant.refresh_token});
    super::json(StatusCode::OK, "application/json", &body)
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    super::json(
        status,
        "application/json",
        &json!({"errors": [{"code": code, "message": message, "details": ""}]}),
    )
}

/// The seller's orders after authentication and the rate limit.
fn orders(shared: &Shared, headers: &HeaderMap, limited: bool) -> Result<Vec<Order>, Box<Response>> {
    let refuse = |status, code, message| Err(Box::new(error(status, code, message)));
    if !headers.contains_key(header::USER_AGENT) {
        return refuse(StatusCode::BAD_REQUEST, "InvalidInput", "Missing user-agent header");
    }
    let token = headers.get("x-amz-access-token").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (now, mut state) = (Timestamp::now(), shared.lock());
    let rate = state.amazon_rate;
    let Some(seller) = state.by_token(token, Marketplace::Amazon, now) else {
        return refuse(StatusCode::FORBIDDEN, "Unauthorized", "Access to requested resource is denied.");
    };
    if limited && !seller.take_call(rate, now) {
        return refuse(
            StatusCode::TOO_MANY_REQUESTS,
            "QuotaExceeded",
            "You exceeded your quota for the requested resource.",
        );
    }
    Ok(seller.orders.clone())
}

type Parameters = HashMap<String, String>;

/// The window of a search, or what is wrong with the request.
fn window(query: &Parameters, now: Timestamp) -> Result<(bool, Timestamp, Timestamp), &'static str> {
    let time = |name: &str| query.get(name).map(|text| text.parse::<Timestamp>()).transpose();
    let wrong = |_| "A date isn't ISO 8601";
    let (created, updated) = (time("createdAfter").map_err(wrong)?, time("lastUpdatedAfter").map_err(wrong)?);
    let (by_creation, from) = match (created, updated) {
        (Some(from), None) => (true, from),
        (None, Some(from)) => (false, from),
        _ => return Err("Exactly one of createdAfter and lastUpdatedAfter is required"),
    };
    let before = time(if by_creation { "createdBefore" } else { "lastUpdatedBefore" }).map_err(wrong)?;
    let latest = now - SignedDuration::from_mins(2);
    match before {
        Some(before) if before > latest => Err("The *Before date must be at least two minutes ago"),
        Some(before) => Ok((by_creation, from, before)),
        None => Ok((by_creation, from, latest)),
    }
}

async fn search(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Query(query): Query<Parameters>,
) -> Response {
    let mut orders = match orders(&shared, &headers, true) {
        Ok(orders) => orders,
        Err(response) => return *response,
    };
    let (by_creation, from, to) = match window(&query, Timestamp::now()) {
        Ok(window) => window,
        Err(message) => return error(StatusCode::BAD_REQUEST, "InvalidInput", message),
    };
    let size: usize = query.get("maxResultsPerPage").map_or(Some(100), |text| text.parse().ok()).unwrap_or(0);
    if !(1..=100).contains(&size) {
        return error(StatusCode::BAD_REQUEST, "InvalidInput", "maxResultsPerPage must be between 1 and 100");
    }
    let skip = match query
        .get("paginationToken")
        .map(|token| token.strip_prefix("page-").and_then(|n| n.parse().ok()))
    {
        None => 0,
        Some(Some(skip)) => skip,
        Some(None) => {
            return error(StatusCode::BAD_REQUEST, "InvalidInput", "paginationToken is invalid or expired");
        }
    };
    orders.retain(|order| (from..=to).contains(if by_creation { &order.placed } else { &order.updated }));
    orders
        .sort_by_key(|order| (if by_creation { order.placed } else { order.updated }, order.number.clone()));
    let included = query.get("includedData").map(String::as_str).unwrap_or_default();
    let page: Vec<_> = orders.iter().skip(skip).take(size).map(|order| render(order, included)).collect();
    let mut body = json!({"orders": page});
    body[if by_creation { "createdBefore" } else { "lastUpdatedBefore" }] = json!(utc(to));
    if skip + size < orders.len() {
        body["pagination"] = json!({"nextToken": format!("page-{}", skip + size)});
    }
    with_rate(&shared, super::json(StatusCode::OK, "application/json", &body))
}

async fn order(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<Parameters>,
) -> Response {
    let included = query.get("includedData").map(String::as_str).unwrap_or_default();
    match orders(&shared, &headers, false) {
        Err(response) => *response,
        Ok(orders) => match orders.iter().find(|order| order.number == id) {
            Some(order) => {
                super::json(StatusCode::OK, "application/json", &json!({"order": render(order, included)}))
            }
            None => error(StatusCode::NOT_FOUND, "NotFound", "The order doesn't exist"),
        },
    }
}

fn with_rate(shared: &Shared, mut response: Response) -> Response {
    let rate = shared.lock().amazon_rate.0.to_string();
    if let Ok(value) = HeaderValue::from_str(&rate) {
        response.headers_mut().insert("x-amzn-ratelimit-limit", value);
    }
    response
}

fn render(order: &Order, included: &str) -> Value {
    let mut body = json!({
        "orderId": order.number, "createdTime": utc(order.placed), "lastUpdatedTime": utc(order.updated),
        "programs": [], "salesChannel": {"channelName": "AMAZON", "marketplaceId": MARKETPLACE_ID, "marketplaceName": "Amazon.de"},
        "orderItems": (0..order.lines.len()).map(|n| item(order, n)).collect::<Vec<_>>(),
    });
    let person = &order.person;
    let name = format!("{} {}", person.first_name, person.surname);
    let wants = |part: &str| included.split(',').any(|word| word == part);
    if wants("BUYER") {
        body["buyer"] = json!({"buyerName": name, "buyerEmail": person.email});
    }
    if wants("RECIPIENT") {
        body["recipient"] = json!({"deliveryAddress": {
            "name": name, "addressLine1": format!("{} {}", person.street, person.house_number), "city": person.city,
            "postalCode": person.postal_code, "countryCode": person.country, "phone": person.phone,
        }});
    }
    if wants("PROCEEDS") {
        body["proceeds"] = json!({"grandTotal": money(order, order.total())});
    }
    if wants("FULFILLMENT") {
        let status = order.odd_status.clone().unwrap_or_else(|| status(order).to_owned());
        body["fulfillment"] = json!({"fulfillmentStatus": status, "fulfilledBy": "MERCHANT"});
    }
    if let Some(shipped) = order.shipped.filter(|_| wants("PACKAGES")) {
        let items = order.lines.iter().map(|line| json!({"orderItemId": line.id, "quantity": line.quantity}));
        body["packages"] = json!([{
            "packageReferenceId": "1", "createdTime": utc(shipped), "packageStatus": {"status": "SHIPPED"},
            "carrier": "DHL", "shipTime": utc(shipped), "trackingNumber": format!("JJD{}", order.number.replace('-', "")),
            "packageItems": items.collect::<Vec<_>>(),
        }]);
    }
    body
}

fn money(order: &Order, minor: i64) -> Value {
    json!({"amount": order.amount(minor), "currencyCode": order.currency})
}

fn item(order: &Order, n: usize) -> Value {
    let line = &order.lines[n];
    let shipped = order.quantity_shipped(n);
    json!({
        "orderItemId": line.id, "quantityOrdered": line.quantity,
        "product": {"asin": format!("B{}", &line.product[4..]), "title": line.title, "sellerSku": line.sku,
                    "price": {"unitPrice": money(order, line.unit_price)}},
        "proceeds": {"proceedsTotal": money(order, line.unit_price * i64::from(line.quantity))},
        "fulfillment": {"quantityFulfilled": shipped, "quantityUnfulfilled": line.quantity - shipped,
                        "packing": {"giftOption": {"giftMessage": "With love", "giftWrapLevel": "classic"}}},
    })
}

fn status(order: &Order) -> &'static str {
    match order.state {
        OrderState::New => "UNSHIPPED",
        OrderState::PartiallyShipped => "PARTIALLY_SHIPPED",
        OrderState::Shipped | OrderState::Refunded => "SHIPPED",
        OrderState::Cancelled => "CANCELLED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_names_exactly_one_window_that_ended_two_minutes_ago() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().expect("a time");
        let query =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let day = "2026-01-01T00:00:00Z";
        for bad in [
            query(&[]),
            query(&[("createdAfter", day), ("lastUpdatedAfter", day)]),
            query(&[("lastUpdatedAfter", "yesterday")]),
            query(&[("lastUpdatedAfter", day), ("lastUpdatedBefore", "2026-01-01T11:59:00Z")]),
        ] {
            assert!(window(&bad, now).is_err(), "{bad:?}");
        }
        assert!(window(&query(&[("lastUpdatedAfter", day)]), now).is_ok());
    }
}
