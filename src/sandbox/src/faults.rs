//! Faults on demand: the next calls of a target fail in a chosen way, or all until told otherwise.

use std::{collections::HashMap, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    marketplaces::{access_token, failure, is_listing},
    state::Shared,
};

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
    /// A listing of orders answers with the page that it answered last.
    RepeatPage,
    /// A listing of orders answers with its page in reverse.
    OutOfOrder,
}

impl Kind {
    /// What happens to listings alone waits for one.
    fn is_for(&self, listing: bool) -> bool {
        listing || !matches!(self, Self::RepeatPage | Self::OutOfOrder)
    }
}

/// An answer that was given.
#[derive(Clone)]
struct Given {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Default)]
pub(crate) struct Faults {
    planned: HashMap<String, (Kind, Option<u32>)>,
    /// Calls per target.
    pub(crate) calls: HashMap<String, u64>,
    /// The last page of a listing, per account.
    pages: HashMap<usize, Given>,
}

impl Faults {
    /// `calls`: how many calls fail; `None`: until [`Faults::clear`].
    pub(crate) fn plan(&mut self, target: &str, kind: Kind, calls: Option<u32>) {
        self.planned.insert(target.to_owned(), (kind, calls));
    }

    pub(crate) fn clear(&mut self, target: &str) {
        self.planned.remove(target);
    }

    fn next(&mut self, target: &str, listing: bool) -> Option<Kind> {
        *self.calls.entry(target.to_owned()).or_default() += 1;
        let (kind, left) = self.planned.get_mut(target).filter(|(kind, _)| kind.is_for(listing))?;
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
        ("/commerce/", "ebay"),
        ("/token", "bol"),
        ("/retailer/", "bol"),
    ];
    prefixes.iter().find(|(prefix, _)| path.starts_with(prefix)).map(|(_, name)| (*name).to_owned())
}

/// Middleware around everything that isn't control.
pub(crate) async fn inject(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let Some(target) = target(&path) else { return next.run(request).await };
    let listing = is_listing(&path);
    let (fault, account) = {
        let mut state = shared.lock();
        let account = access_token(request.headers()).and_then(|token| state.account_of(token));
        (state.faults.next(&target, listing), account.filter(|_| listing))
    };
    match fault {
        None => keep(&shared, account, next.run(request).await).await,
        Some(Kind::Status { status, retry_after, location }) => {
            // Who still sends doesn't see an answer: the connection closes over it.
            let _whole = bytes(request.into_body()).await;
            failed(&path, status, retry_after, location)
        }
        Some(Kind::Timeout { seconds }) => {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        Some(Kind::HalfBody) => half(next.run(request).await).await,
        Some(Kind::InvalidJson) => {
            ([(header::CONTENT_TYPE, "application/json")], "<html>maintenance").into_response()
        }
        Some(Kind::RepeatPage) => {
            let last = account.and_then(|account| shared.lock().faults.pages.get(&account).cloned());
            match last {
                Some(page) => (page.status, page.headers, page.body).into_response(),
                None => keep(&shared, account, next.run(request).await).await,
            }
        }
        Some(Kind::OutOfOrder) => reversed(next.run(request).await).await,
    }
}

async fn bytes(body: Body) -> Bytes {
    axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default()
}

/// Remembers an account's page.
async fn keep(shared: &Shared, account: Option<usize>, response: Response) -> Response {
    let Some(account) = account.filter(|_| response.status() == StatusCode::OK) else { return response };
    let (parts, body) = response.into_parts();
    let page = Given { status: parts.status, headers: parts.headers, body: bytes(body).await };
    shared.lock().faults.pages.insert(account, page.clone());
    (page.status, page.headers, page.body).into_response()
}

async fn reversed(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let mut body = bytes(body).await;
    if let Ok(mut page) = serde_json::from_slice::<Value>(&body)
        && let Some(orders) = page["orders"].as_array_mut()
    {
        orders.reverse();
        body = page.to_string().into();
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    Response::from_parts(parts, body.into())
}

fn failed(path: &str, status: u16, retry_after: Option<u32>, location: Option<String>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = failure(path, status);
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
    let bytes = bytes(body).await;
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
        let failed = (0..4).filter(|_| faults.next("bol", false).is_some()).count();
        assert_eq!((failed, faults.calls["bol"]), (2, 4));
    }

    #[test]
    fn a_fault_of_listings_waits_for_one() {
        let mut faults = Faults::default();
        faults.plan("bol", Kind::RepeatPage, Some(1));
        assert_eq!(faults.next("bol", false), None);
        assert_eq!(faults.next("bol", true), Some(Kind::RepeatPage));
        assert_eq!(faults.next("bol", true), None);
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
