//! Fulfillment API v1.

use axum::{
    Form, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{authorization, basic, utc};
use crate::{
    Marketplace,
    order::{Order, State as OrderState},
    state::Shared,
};

const TOKEN_SECONDS: i64 = 7200;
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/identity/v1/oauth2/token", post(token))
        .route("/sell/fulfillment/v1/order", get(list))
        .route("/sell/fulfillment/v1/order/{id}", get(order))
        .route("/sell/fulfillment/v1/order/{id}/shipping_fulfillment", get(fulfillments))
}

#[derive(Deserialize)]
struct Grant {
    grant_type: String,
    #[serde(default)]
    refresh_token: String,
}

async fn token(State(shared): State<Shared>, headers: HeaderMap, Form(grant): Form<Grant>) -> Response {
    let refused =
        |error: &str| super::json(StatusCode::UNAUTHORIZED, "application/json", &json!({"error": error}));
    let mut state = shared.lock();
    let Some(account) =
        basic(&headers).and_then(|(id, secret)| state.find_account(Marketplace::Ebay, &id, &secret))
    else {
        return refused("invalid_client");
    };
    if grant.grant_type != "refresh_token"
        || grant.refresh_token != state.accounts[account].account.refresh_token
    {
        return super::json(StatusCode::BAD_REQUEST, "application/json", &json!({"error": "invalid_grant"}));
    }
    let token = state.issue_token(account, TOKEN_SECONDS, Timestamp::now());
    let body = json!({"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": "User Access Token"});
    super::json(StatusCode::OK, "application/json", &body)
}

fn error(status: StatusCode, id: u32, message: &str) -> Response {
    let body = json!({"errors": [{"errorId": id, "domain": "API_FULFILLMENT", "category": "REQUEST", "message": message}]});
    super::json(status, "application/json", &body)
}

fn orders(shared: &Shared, headers: &HeaderMap) -> Result<Vec<Order>, Box<Response>> {
    let token = authorization(headers, "Bearer ").unwrap_or_default();
    let mut state = shared.lock();
    let seller = state.by_token(token, Marketplace::Ebay, Timestamp::now());
    seller
        .map(|seller| seller.orders.clone())
        .ok_or_else(|| Box::new(error(StatusCode::UNAUTHORIZED, 1001, "Invalid access token")))
}

#[derive(Deserialize)]
struct ListQuery {
    filter: Option<String>,
    limit: Option<usize>,
    offset: Option<usize>,
}

/// `creationdate` wins where both dates are given.
fn range(filter: &str) -> Option<(bool, Timestamp, Timestamp)> {
    let by_creation = filter.contains("creationdate:");
    let name = if by_creation { "creationdate:[" } else { "lastmodifieddate:[" };
    let (_, rest) = filter.split_once(name)?;
    let (from, to) = rest.split_once(']')?.0.split_once("..")?;
    let to = if to.is_empty() { Timestamp::now() } else { to.parse().ok()? };
    Some((by_creation, from.parse().ok()?, to))
}

async fn list(State(shared): State<Shared>, headers: HeaderMap, Query(query): Query<ListQuery>) -> Response {
    let mut orders = match orders(&shared, &headers) {
        Ok(orders) => orders,
        Err(response) => return *response,
    };
    let (limit, offset) = (query.limit.unwrap_or(DEFAULT_LIMIT), query.offset.unwrap_or(0));
    if limit == 0 || limit > MAX_LIMIT {
        return error(StatusCode::BAD_REQUEST, 30700, "Invalid limit: between 1 and 200");
    }
    if let Some(filter) = &query.filter {
        let Some((by_creation, from, to)) = range(filter) else {
            return error(StatusCode::BAD_REQUEST, 30800, "Invalid filter");
        };
        orders.retain(|order| (from..=to).contains(if by_creation { &order.placed } else { &order.updated }));
    }
    orders.sort_by_key(|order| std::cmp::Reverse((order.placed, order.number.clone())));
    let total = orders.len();
    let page: Vec<_> = orders.iter().skip(offset).take(limit).map(render).collect();
    let href = "https://api.ebay.com/sell/fulfillment/v1/order";
    let mut body = json!({"href": href, "total": total, "limit": limit, "offset": offset, "orders": page});
    if offset + limit < total {
        body["next"] = json!(format!("{href}?limit={limit}&offset={}", offset + limit));
    }
    super::json(StatusCode::OK, "application/json", &body)
}

async fn order(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    match orders(&shared, &headers) {
        Err(response) => *response,
        Ok(orders) => match orders.iter().find(|order| order.number == id) {
            Some(order) => super::json(StatusCode::OK, "application/json", &render(order)),
            None => error(StatusCode::NOT_FOUND, 32100, "Invalid order id"),
        },
    }
}

async fn fulfillments(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    let orders = match orders(&shared, &headers) {
        Ok(orders) => orders,
        Err(response) => return *response,
    };
    let Some(order) = orders.iter().find(|order| order.number == id) else {
        return error(StatusCode::NOT_FOUND, 32100, "Invalid order id");
    };
    let parcels: Vec<_> = order
        .shipped
        .map(|at| {
            let items = order.lines.iter().enumerate().filter(|(n, _)| order.quantity_shipped(*n) > 0);
            let items: Vec<_> = items.map(|(_, line)| json!({"lineItemId": line.id, "quantity": line.quantity})).collect();
            json!({
                "fulfillmentId": format!("9{}", order.number.replace('-', "")), "shippedDate": utc(at),
                "shippingCarrierCode": "DHL", "shipmentTrackingNumber": format!("JJD{}", order.number.replace('-', "")),
                "lineItems": items,
            })
        })
        .into_iter()
        .collect();
    super::json(StatusCode::OK, "application/json", &json!({"fulfillments": parcels, "total": parcels.len()}))
}

fn render(order: &Order) -> Value {
    let money = |minor| json!({"value": order.amount(minor), "currency": order.currency});
    let person = &order.person;
    let name = format!("{} {}", person.first_name, person.surname);
    let status = order.odd_status.clone().unwrap_or_else(|| fulfillment_status(order).to_owned());
    let lines: Vec<_> = order
        .lines
        .iter()
        .map(|line| {
            json!({
                "lineItemId": line.id, "legacyItemId": line.product, "sku": line.sku, "title": line.title,
                "quantity": line.quantity, "lineItemCost": money(line.unit_price * i64::from(line.quantity)),
                "total": money(line.unit_price * i64::from(line.quantity)), "lineItemFulfillmentStatus": status,
                "listingMarketplaceId": "EBAY_DE", "purchaseMarketplaceId": "EBAY_DE", "soldFormat": "FIXED_PRICE",
            })
        })
        .collect();
    json!({
        "orderId": order.number, "creationDate": utc(order.placed), "lastModifiedDate": utc(order.updated),
        "orderFulfillmentStatus": status,
        "orderPaymentStatus": if order.state == OrderState::Refunded { "FULLY_REFUNDED" } else { "PAID" },
        "cancelStatus": {"cancelState": if order.state == OrderState::Cancelled { "CANCELED" } else { "NONE_REQUESTED" }, "cancelRequests": []},
        "buyer": {"username": format!("buyer-{}", line_hash(order)),
                  "buyerRegistrationAddress": {"fullName": name, "email": person.email}},
        "buyerCheckoutNotes": "Please ring twice",
        "pricingSummary": {"priceSubtotal": money(order.total()), "total": money(order.total())},
        "fulfillmentStartInstructions": [{
            "fulfillmentInstructionsType": "SHIP_TO",
            "shippingStep": {"shipTo": {
                "fullName": name, "email": person.email, "primaryPhone": {"phoneNumber": person.phone},
                "contactAddress": {
                    "addressLine1": format!("{} {}", person.street, person.house_number), "city": person.city,
                    "postalCode": person.postal_code, "countryCode": person.country,
                },
            }},
        }],
        "lineItems": lines, "sellerId": "sandbox-seller",
    })
}

fn fulfillment_status(order: &Order) -> &'static str {
    match order.state {
        OrderState::New | OrderState::Cancelled => "NOT_STARTED",
        OrderState::PartiallyShipped => "IN_PROGRESS",
        OrderState::Shipped | OrderState::Refunded => "FULFILLED",
    }
}

fn line_hash(order: &Order) -> &str {
    order.lines.first().map_or("0", |line| line.id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_both_dates_only_the_creation_date_counts() {
        let filter = "lastmodifieddate:[2026-01-01T00:00:00.000Z..],creationdate:[2026-02-01T00:00:00.000Z..2026-03-01T00:00:00.000Z]";
        let (by_creation, from, _) = range(filter).expect("a filter");
        assert!(by_creation);
        assert_eq!(from.to_string(), "2026-02-01T00:00:00Z");
    }
}
