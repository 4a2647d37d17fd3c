//! Fulfillment API v1, and of the Notification API v1 the public keys.

mod public_key;
mod query;
mod render;

use axum::{
    Form, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{JSON, authorization, basic, oauth_error, utc};
use crate::{Marketplace, order::Order, state::Shared};
use query::{Parameters, Search, check_field_groups};
use render::{parcels, render};

const TOKEN_SECONDS: i64 = 7200;
const PUBLIC_DATA: &str = "https://api.ebay.com/oauth/api_scope";

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/identity/v1/oauth2/token", post(token))
        .route("/commerce/notification/v1/public_key/{id}", get(public_key::get))
        .route("/sell/fulfillment/v1/order", get(list))
        .route("/sell/fulfillment/v1/order/{id}", get(order))
        .route("/sell/fulfillment/v1/order/{id}/shipping_fulfillment", get(fulfillments))
}

#[derive(Deserialize)]
struct Grant {
    grant_type: String,
    #[serde(default)]
    refresh_token: String,
    #[serde(default)]
    scope: String,
}

async fn token(State(shared): State<Shared>, headers: HeaderMap, Form(grant): Form<Grant>) -> Response {
    let mut state = shared.lock();
    let Some(account) =
        basic(&headers).and_then(|(id, secret)| state.find_account(Marketplace::Ebay, &id, &secret))
    else {
        return oauth_error(StatusCode::UNAUTHORIZED, "invalid_client");
    };
    if grant.grant_type == "client_credentials" {
        if grant.scope != PUBLIC_DATA {
            return oauth_error(StatusCode::BAD_REQUEST, "invalid_scope");
        }
        let token = state.issue_application_token(TOKEN_SECONDS, Timestamp::now());
        return granted(&token, "Application Access Token");
    }
    if grant.grant_type != "refresh_token" {
        return oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type");
    }
    if grant.refresh_token != state.accounts[account].account.refresh_token {
        return oauth_error(StatusCode::BAD_REQUEST, "invalid_grant");
    }
    let token = state.issue_token(account, TOKEN_SECONDS, Timestamp::now());
    granted(&token, "User Access Token")
}

fn granted(token: &str, kind: &str) -> Response {
    let body = json!({"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": kind});
    super::json(StatusCode::OK, JSON, &body)
}

fn error(status: StatusCode, id: u32, message: &str) -> Response {
    let (domain, category) = match (id, status.is_server_error()) {
        (1001, _) => ("OAuth", "REQUEST"),
        (2001, _) => ("ACCESS", "REQUEST"),
        (195_001, _) => ("API_NOTIFICATION", "REQUEST"),
        (_, true) => ("API_FULFILLMENT", "APPLICATION"),
        _ => ("API_FULFILLMENT", "REQUEST"),
    };
    let body =
        json!({"errors": [{"errorId": id, "domain": domain, "category": category, "message": message}]});
    super::json(status, JSON, &body)
}

/// The answer to a call that fails with `status`.
pub(super) fn failure(status: StatusCode) -> Response {
    match status.as_u16() {
        401 | 403 => error(status, 1001, "Invalid access token"),
        429 => error(status, 2001, "Too many requests. The request limit has been reached for the resource."),
        400..=499 => error(status, 32100, "Invalid order ID"),
        _ => error(status, 30500, "System error"),
    }
}

fn orders(shared: &Shared, headers: &HeaderMap) -> Result<Vec<Order>, Box<Response>> {
    let token = authorization(headers, "Bearer ").unwrap_or_default();
    let mut state = shared.lock();
    let seller = state.by_token(token, Marketplace::Ebay, Timestamp::now());
    seller.map(|seller| seller.orders.clone()).ok_or_else(|| Box::new(failure(StatusCode::UNAUTHORIZED)))
}

/// Newest order first.
async fn list(State(shared): State<Shared>, headers: HeaderMap, Query(query): Query<Parameters>) -> Response {
    let mut orders = match orders(&shared, &headers) {
        Ok(orders) => orders,
        Err(response) => return *response,
    };
    let search = match Search::read(&query, Timestamp::now()) {
        Ok(search) => search,
        Err((id, message)) => return error(StatusCode::BAD_REQUEST, id, message),
    };
    orders.retain(|order| search.wants(order));
    orders.sort_by_key(|order| std::cmp::Reverse((order.placed, order.number.clone())));
    let (limit, offset, total) = (search.limit, search.offset, orders.len());
    let page: Vec<_> = orders.iter().skip(offset).take(limit).map(render).collect();
    let href = |offset: usize| {
        format!("https://api.ebay.com/sell/fulfillment/v1/order?limit={limit}&offset={offset}")
    };
    let mut body =
        json!({"href": href(offset), "total": total, "limit": limit, "offset": offset, "orders": page});
    if offset + limit < total {
        body["next"] = json!(href(offset + limit));
    }
    if offset > 0 {
        body["prev"] = json!(href(offset.saturating_sub(limit)));
    }
    super::json(StatusCode::OK, JSON, &body)
}

async fn order(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<Parameters>,
) -> Response {
    let orders = match orders(&shared, &headers) {
        Ok(orders) => orders,
        Err(response) => return *response,
    };
    if let Err((id, message)) = check_field_groups(&query) {
        return error(StatusCode::BAD_REQUEST, id, message);
    }
    match orders.iter().find(|order| order.number == id) {
        Some(order) => super::json(StatusCode::OK, JSON, &render(order)),
        None => error(StatusCode::NOT_FOUND, 32100, "Invalid order ID"),
    }
}

async fn fulfillments(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    match orders(&shared, &headers) {
        Err(response) => *response,
        Ok(orders) => match orders.iter().find(|order| order.number == id) {
            Some(order) => super::json(StatusCode::OK, JSON, &parcels(order)),
            None => error(StatusCode::NOT_FOUND, 32100, "Invalid order ID"),
        },
    }
}
