//! Selling Partner API, Orders 2026-01-01, with Login with Amazon.

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
use serde_json::json;

use super::{JSON, oauth_error, utc};
use crate::{Marketplace, limits::Rates, order::Order, state::Shared};
use query::{Parameters, Search, place};
use render::render;

const TOKEN_SECONDS: i64 = 3600;
const RATE: &str = "x-amzn-ratelimit-limit";

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
        return oauth_error(StatusCode::UNAUTHORIZED, "invalid_client");
    };
    if grant.grant_type != "refresh_token" {
        return oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type");
    }
    if grant.refresh_token != state.accounts[account].account.refresh_token {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_grant");
    }
    let token = state.issue_token(account, TOKEN_SECONDS, Timestamp::now());
    let body = json!({"access_token": token, "token_type": "bearer", "expires_in": TOKEN_SECONDS, "refresh_token": grant.refresh_token});
    super::json(StatusCode::OK, JSON, &body)
}

/// Every answer has a request id; the rate is told where a call was counted and not throttled.
fn answer(status: StatusCode, body: &serde_json::Value, rate: Option<f64>) -> Response {
    let mut response = super::json(status, JSON, body);
    let headers = response.headers_mut();
    headers.insert("x-amzn-requestid", HeaderValue::from_static("0ee2ac15-9d0c-4a1d-8e3f-sandbox00001"));
    if let Some(rate) = rate.and_then(|rate| HeaderValue::from_str(&rate.to_string()).ok()) {
        headers.insert(RATE, rate);
    }
    response
}

fn error(status: StatusCode, code: &str, message: &str, rate: Option<f64>) -> Response {
    answer(status, &json!({"errors": [{"code": code, "message": message, "details": ""}]}), rate)
}

/// The answer to a call that fails with `status`.
pub(super) fn failure(status: StatusCode) -> Response {
    let (code, message) = match status.as_u16() {
        400 => ("InvalidInput", "Request has missing or invalid parameters and cannot be parsed."),
        401 | 403 => ("Unauthorized", "Access to requested resource is denied."),
        404 => ("NotFound", "The resource specified does not exist."),
        429 => ("QuotaExceeded", "You exceeded your quota for the requested resource."),
        503 => ("ServiceUnavailable", "Temporary overloading or maintenance of the server."),
        _ => ("InternalFailure", "We encountered an internal error. Please try again."),
    };
    error(status, code, message, None)
}

/// The seller's orders and the operation's rate, after authentication and the rate limit.
fn orders(
    shared: &Shared,
    headers: &HeaderMap,
    operation: &'static str,
) -> Result<(Vec<Order>, f64), Box<Response>> {
    if !headers.contains_key(header::USER_AGENT) {
        let message = "Missing user-agent header";
        return Err(Box::new(error(StatusCode::BAD_REQUEST, "InvalidInput", message, None)));
    }
    let token = headers.get("x-amz-access-token").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (now, mut state) = (Timestamp::now(), shared.lock());
    let rates: Rates = state.rates;
    let Some(seller) = state.by_token(token, Marketplace::Amazon, now) else {
        return Err(Box::new(failure(StatusCode::FORBIDDEN)));
    };
    if !seller.calls.take(rates, operation, now) {
        return Err(Box::new(failure(StatusCode::TOO_MANY_REQUESTS)));
    }
    Ok((seller.orders.clone(), rates.amazon(operation).0))
}

async fn search(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Query(query): Query<Parameters>,
) -> Response {
    let (mut orders, rate) = match orders(&shared, &headers, "searchOrders") {
        Ok(orders) => orders,
        Err(response) => return *response,
    };
    let now = Timestamp::now();
    let search = match Search::read(&query, now) {
        Ok(search) => search,
        Err(message) => return error(StatusCode::BAD_REQUEST, "InvalidInput", &message, Some(rate)),
    };
    orders.retain(|order| search.wants(order));
    orders.sort_by_key(|order| place(&search, order));
    let start =
        orders.partition_point(|order| search.after.as_ref().is_some_and(|at| place(&search, order) <= *at));
    let left = &orders[start..];
    let page = &left[..left.len().min(search.size)];
    let rendered: Vec<_> =
        page.iter().map(|order| render(order, &search.included, search.site(order))).collect();
    let mut body = json!({"orders": rendered});
    body[if search.by_creation { "createdBefore" } else { "lastUpdatedBefore" }] = json!(utc(search.to));
    if let Some(last) = page.last().filter(|_| page.len() < left.len()) {
        body["pagination"] = json!({"nextToken": query::token(&search, last, now)});
    }
    answer(StatusCode::OK, &body, Some(rate))
}

async fn order(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<Parameters>,
) -> Response {
    let (orders, rate) = match orders(&shared, &headers, "getOrder") {
        Ok(orders) => orders,
        Err(response) => return *response,
    };
    let included = match query::included(&query) {
        Ok(included) => included,
        Err(message) => return error(StatusCode::BAD_REQUEST, "InvalidInput", &message, Some(rate)),
    };
    match orders.iter().find(|order| order.number == id) {
        Some(order) => {
            answer(StatusCode::OK, &json!({"order": render(order, &included, query::SITE)}), Some(rate))
        }
        None => error(StatusCode::NOT_FOUND, "NotFound", "The order doesn't exist", Some(rate)),
    }
}
