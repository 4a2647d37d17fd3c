//! Retailer API v10.

mod query;
mod render;

use axum::{
    Form, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
    routing::{get, post},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{JSON, authorization, basic, oauth_error};
use crate::{
    Marketplace,
    limits::{Budget, Documented, ORDER, ORDERS, SHIPMENT, SHIPMENTS},
    order::Order,
    state::Shared,
};
use query::{List, Parameters, Shipments, Violation};
use render::{full, reduced, shipment_id, shipment_of};

const MEDIA_TYPE: &str = "application/vnd.retailer.v10+json";
const PAGE: usize = 50;
const TOKEN_SECONDS: i64 = 299;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/token", post(token))
        .route("/retailer/orders", get(list))
        .route("/retailer/orders/{id}", get(order))
        .route("/retailer/shipments", get(shipments))
        .route("/retailer/shipments/{id}", get(shipment))
        .route("/retailer/public/ratelimits", get(rate_limits))
}

#[derive(Deserialize)]
struct Grant {
    grant_type: String,
}

async fn token(State(shared): State<Shared>, headers: HeaderMap, Form(grant): Form<Grant>) -> Response {
    let mut state = shared.lock();
    let account = basic(&headers).and_then(|(id, secret)| state.find_account(Marketplace::Bol, &id, &secret));
    let Some(account) = account else { return oauth_error(StatusCode::UNAUTHORIZED, "invalid_client") };
    if grant.grant_type != "client_credentials" {
        return oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type");
    }
    let token = state.issue_token(account, TOKEN_SECONDS, Timestamp::now());
    let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS, "scope": "RETAILER"});
    super::json(StatusCode::OK, JSON, &body)
}

fn problem(status: StatusCode, title: &str, detail: &str, violation: Option<&str>) -> Response {
    let violations: Vec<_> =
        violation.map(|name| json!({"name": name, "reason": detail})).into_iter().collect();
    let body = json!({
        "type": "https://api.bol.com/problems", "title": title, "status": status.as_u16(), "detail": detail,
        "host": "sandbox", "instance": "https://api.bol.com/retailer", "violations": violations,
    });
    super::json(status, MEDIA_TYPE, &body)
}

/// The answer to a call that fails with `status`.
pub(super) fn failure(status: StatusCode) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    problem(status, title, "The simulator was asked to fail.", None)
}

/// Why a question has no answer.
enum Refusal {
    Invalid(Violation),
    Missing(&'static str),
}

fn refuse(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Invalid((name, detail)) => {
            let title =
                "Error validating request. Consult the bol.com API documentation for more information.";
            problem(StatusCode::BAD_REQUEST, title, &detail, Some(name))
        }
        Refusal::Missing(detail) => problem(StatusCode::NOT_FOUND, "Not Found", detail, None),
    }
}

/// Answers with what `find` makes of the seller's orders, after media type, token and rate limit.
fn answer(
    shared: &Shared,
    headers: &HeaderMap,
    limit: &Documented,
    find: impl FnOnce(Vec<Order>) -> Result<Value, Refusal>,
) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept != MEDIA_TYPE {
        let detail = format!("The Accept header must be {MEDIA_TYPE}");
        return problem(StatusCode::NOT_ACCEPTABLE, "Not Acceptable", &detail, None);
    }
    let token = authorization(headers, "Bearer ").unwrap_or_default();
    let (now, mut state) = (Timestamp::now(), shared.lock());
    let rates = state.rates;
    let Some(seller) = state.by_token(token, Marketplace::Bol, now) else {
        let detail = "The access token is expired or invalid";
        return problem(StatusCode::UNAUTHORIZED, "Unauthorized Request", detail, None);
    };
    let budget = seller.calls.spend(rates, limit, now);
    let orders = budget.allowed.then(|| seller.orders.clone());
    drop(state);
    let response = match orders.map(find) {
        None => problem(StatusCode::TOO_MANY_REQUESTS, "Too many requests", "Too many requests", None),
        Some(Ok(body)) => super::json(StatusCode::OK, MEDIA_TYPE, &body),
        Some(Err(refusal)) => refuse(refusal),
    };
    with_budget(response, budget)
}

fn with_budget(mut response: Response, budget: Budget) -> Response {
    let headers = response.headers_mut();
    headers.insert("x-ratelimit-limit", HeaderValue::from(budget.limit));
    headers.insert("x-ratelimit-remaining", HeaderValue::from(budget.remaining));
    headers.insert("x-ratelimit-reset", HeaderValue::from(budget.reset));
    response
}

fn page<T>(items: &[T], page: usize, render: impl Fn(&T) -> Value) -> Vec<Value> {
    items.iter().skip((page - 1).saturating_mul(PAGE)).take(PAGE).map(render).collect()
}

/// Newest order first.
async fn list(State(shared): State<Shared>, headers: HeaderMap, Query(query): Query<Parameters>) -> Response {
    answer(&shared, &headers, &ORDERS, |mut orders| {
        let now = Timestamp::now();
        let list = List::read(&query).map_err(Refusal::Invalid)?;
        orders.retain(|order| list.wants(order, now));
        orders.sort_by_key(|order| std::cmp::Reverse((order.placed, order.number.clone())));
        Ok(json!({"orders": page(&orders, list.page, reduced)}))
    })
}

async fn order(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    answer(&shared, &headers, &ORDER, |orders| {
        let found = orders.iter().find(|order| order.number == id).map(full);
        found.ok_or(Refusal::Missing("Order not found"))
    })
}

/// Newest shipment first.
async fn shipments(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Query(query): Query<Parameters>,
) -> Response {
    answer(&shared, &headers, &SHIPMENTS, |mut orders| {
        let now = Timestamp::now();
        let wanted = Shipments::read(&query).map_err(Refusal::Invalid)?;
        orders.retain(|order| wanted.wants(order, now));
        orders.sort_by_key(|order| std::cmp::Reverse((order.shipped, order.number.clone())));
        Ok(json!({"shipments": page(&orders, wanted.page, |order| shipment_of(order, false))}))
    })
}

async fn shipment(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    answer(&shared, &headers, &SHIPMENT, |orders| {
        let found = orders.iter().find(|order| order.shipped.is_some() && shipment_id(order) == id);
        let found = found.map(|order| shipment_of(order, true));
        found.ok_or(Refusal::Missing("Shipment not found"))
    })
}

async fn rate_limits(State(shared): State<Shared>) -> Response {
    super::json(StatusCode::OK, JSON, &shared.lock().rates.resource())
}
