//! The three APIs.

mod amazon;
mod bol;
mod ebay;

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json as value};

use crate::state::Shared;

const JSON: &str = "application/json";

pub(crate) fn routes() -> Router<Shared> {
    Router::new().merge(amazon::routes()).merge(ebay::routes()).merge(bol::routes())
}

/// The three listings of orders.
pub(crate) fn is_listing(path: &str) -> bool {
    matches!(path, "/orders/2026-01-01/orders" | "/sell/fulfillment/v1/order" | "/retailer/orders")
}

/// The access token of a call.
pub(crate) fn access_token(headers: &HeaderMap) -> Option<&str> {
    let amazon = || headers.get("x-amz-access-token")?.to_str().ok();
    authorization(headers, "Bearer ").or_else(amazon)
}

/// The answer of the API behind a path to a call that fails with `status`.
pub(crate) fn failure(path: &str, status: StatusCode) -> Response {
    match path {
        "/auth/o2/token" | "/identity/v1/oauth2/token" | "/token" => {
            let code = if status.is_server_error() { "server_error" } else { "invalid_request" };
            oauth_error(status, code)
        }
        _ if path.starts_with("/orders/") => amazon::failure(status),
        _ if path.starts_with("/sell/") || path.starts_with("/commerce/") => ebay::failure(status),
        _ if path.starts_with("/retailer/") => bol::failure(status),
        _ => status.into_response(),
    }
}

/// RFC 6749, 5.2.
fn oauth_error(status: StatusCode, code: &str) -> Response {
    json(status, JSON, &value!({"error": code, "error_description": "The simulator refuses the request"}))
}

/// User and password of `Authorization: Basic`.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let encoded = authorization(headers, "Basic ")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix(scheme)
}

fn json(status: StatusCode, content_type: &'static str, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, content_type)], body.to_string()).into_response()
}

/// Milliseconds and `Z`, as eBay and Amazon write times.
pub(crate) fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
