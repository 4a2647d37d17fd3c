//! Notification API v1: the public key that the simulated notices are signed with.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use jiff::Timestamp;
use serde_json::json;

use super::{JSON, authorization, error, failure};
use crate::state::Shared;

/// With an application's token alone.
pub(super) async fn get(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let token = authorization(&headers, "Bearer ").unwrap_or_default();
    if !shared.lock().is_application(token, Timestamp::now()) {
        return failure(StatusCode::UNAUTHORIZED);
    }
    if id != shared.notices.key_id {
        return error(StatusCode::NOT_FOUND, 195_001, "The specified key id is invalid.");
    }
    let body = json!({"algorithm": "ECDSA", "digest": "SHA1", "key": shared.notices.pem});
    super::super::json(StatusCode::OK, JSON, &body)
}
