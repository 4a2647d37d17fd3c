//! Faults on demand: the next calls of a target fail in a chosen way, or all until told otherwise.

use std::{collections::HashMap, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::state::Shared;

/// How a call fails.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind", deny_unknown_fields)]
pub(crate) enum Kind {
    /// This status, with `Retry-After` and `Location` if given.
    Status {
        status: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        location: Option<String>,
    },
    /// No answer for this long.
    Timeout { seconds: u64 },
    /// The right answer, cut in half, under its full length.
    HalfBody,
    /// 200 with something that isn't JSON.
    InvalidJson,
}

#[derive(Default)]
pub(crate) struct Faults {
    planned: HashMap<String, (Kind, Option<u32>)>,
    /// Calls per target.
    pub(crate) calls: HashMap<String, u64>,
}

impl Faults {
    /// `calls`: how many calls fail; `None`: until [`Faults::clear`].
    pub(crate) fn plan(&mut self, target: &str, kind: Kind, calls: Option<u32>) {
        self.planned.insert(target.to_owned(), (kind, calls));
    }

    pub(crate) fn clear(&mut self, target: &str) {
        self.planned.remove(target);
    }

    fn next(&mut self, target: &str) -> Option<Kind> {
        *self.calls.entry(target.to_owned()).or_default() += 1;
        let (kind, left) = self.planned.get_mut(target)?;
        let kind = kind.clone();
        match left {
            Some(0 | 1) => drop(self.planned.remove(target)),
            Some(left) => *left -= 1,
            None => {}
        }
        Some(kind)
    }
}

/// `amazon`, `ebay`, `bol`, or `customer/NAME`.
fn target(path: &str) -> Option<String> {
    if let Some(rest) = path.strip_prefix("/customers/") {
        return rest.strip_suffix("/orders").map(|name| format!("customer/{name}"));
    }
    let prefixes = [
        ("/auth/", "amazon"),
        ("/orders/", "amazon"),
        ("/identity/", "ebay"),
        ("/sell/", "ebay"),
        ("/token", "bol"),
        ("/retailer/", "bol"),
    ];
    prefixes.iter().find(|(prefix, _)| path.starts_with(prefix)).map(|(_, name)| (*name).to_owned())
}

/// Middleware around everything that isn't control.
pub(crate) async fn inject(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let Some(target) = target(request.uri().path()) else { return next.run(request).await };
    let fault = shared.lock().faults.next(&target);
    match fault {
        None => next.run(request).await,
        Some(Kind::Status { status, retry_after, location }) => failed(status, retry_after, location),
        Some(Kind::Timeout { seconds }) => {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        Some(Kind::HalfBody) => half(next.run(request).await).await,
        Some(Kind::InvalidJson) => {
            ([(header::CONTENT_TYPE, "application/json")], "<html>maintenance").into_response()
        }
    }
}

fn failed(status: u16, retry_after: Option<u32>, location: Option<String>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = r#"{"errors":[{"code":"SandboxFault","message":"asked for by the control API"}]}"#;
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    if let Some(location) = location.and_then(|location| location.parse().ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

async fn half(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    parts.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
    let first = bytes.slice(..bytes.len() / 2);
    let cut = std::io::Error::other("cut on purpose");
    let frames = [Ok::<Bytes, std::io::Error>(first), Err(cut)];
    Response::from_parts(parts, Body::from_stream(futures::stream::iter(frames)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planned_fault_ends_after_its_calls() {
        let mut faults = Faults::default();
        faults.plan("bol", Kind::HalfBody, Some(2));
        let failed = (0..4).filter(|_| faults.next("bol").is_some()).count();
        assert_eq!((failed, faults.calls["bol"]), (2, 4));
    }

    #[test]
    fn every_simulated_path_has_its_target() {
        for (path, name) in [
            ("/auth/o2/token", Some("amazon")),
            ("/sell/fulfillment/v1/order", Some("ebay")),
            ("/retailer/orders", Some("bol")),
            ("/customers/acme/orders", Some("customer/acme")),
            ("/control/accounts", None),
        ] {
            assert_eq!(target(path).as_deref(), name, "{path}");
        }
    }
}
