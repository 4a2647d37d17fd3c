//! The endpoint: eBay's challenge and eBay's notices, within limits; and health and metrics beside it.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::{Query, Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use marketrelay_mtls::Role;
use marketrelay_pod::mounts::Mounted;
use serde::Deserialize;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use crate::{
    challenge,
    keys::Keys,
    metrics::Metrics,
    notice,
    operator::Operator,
    settings::Application,
    signature::{self, Signature},
};

/// eBay's notices have about 500 bytes.
const LARGEST_BODY: usize = 64 * 1024;
/// For a body to arrive.
const ARRIVING: Duration = Duration::from_secs(5);
/// eBay sends up to 1,500 a day.
const PER_SECOND: u32 = 20;
const AT_ONCE: u32 = 100;
/// Notices that are worked on at the same time.
const ROOM: usize = 32;
const LONGEST_CODE: usize = 256;
/// Seconds, for who was limited or must wait for the operator.
const RETRY_SOON: &str = "5";
const RETRY_LATER: &str = "60";

/// What the endpoint needs.
pub struct Receiver {
    endpoint: String,
    path: String,
    application: watch::Receiver<Mounted<Application>>,
    operator: watch::Receiver<Mounted<Operator>>,
    keys: Keys,
    metrics: Arc<Metrics>,
    limiter: DefaultDirectRateLimiter,
    room: Semaphore,
}

/// What becomes of a request: its name in the metrics, and the answer.
struct Outcome(&'static str, Response);

impl Outcome {
    fn new(result: &'static str, status: StatusCode, why: &'static str) -> Self {
        Self(result, (status, format!("{why}\n")).into_response())
    }

    fn later(result: &'static str, status: StatusCode, why: &'static str, seconds: &'static str) -> Self {
        let response = (status, [(header::RETRY_AFTER, seconds)], format!("{why}\n"));
        Self(result, response.into_response())
    }

    /// eBay repeats what isn't acknowledged.
    fn failed(why: &'static str) -> Self {
        Self::later("failed", StatusCode::SERVICE_UNAVAILABLE, why, RETRY_LATER)
    }
}

impl Receiver {
    /// For the endpoint that is registered at eBay as this URL with this path.
    pub fn new(
        (endpoint, path): (String, String),
        application: watch::Receiver<Mounted<Application>>,
        operator: watch::Receiver<Mounted<Operator>>,
        keys: Keys,
        metrics: Arc<Metrics>,
    ) -> Self {
        let at_once = AT_ONCE.try_into().expect("a constant above zero");
        let quota = Quota::per_second(PER_SECOND.try_into().expect("a constant above zero"));
        let limiter = RateLimiter::direct(quota.allow_burst(at_once));
        let room = Semaphore::new(ROOM);
        Self { endpoint, path, application, operator, keys, metrics, limiter, room }
    }

    async fn answer(&self, request: Request) -> Outcome {
        if self.limiter.check().is_err() {
            let why = "too many requests";
            return Outcome::later("limited", StatusCode::TOO_MANY_REQUESTS, why, RETRY_SOON);
        }
        let Ok(_room) = self.room.try_acquire() else {
            let why = "too many notices at the same time";
            return Outcome::later("limited", StatusCode::TOO_MANY_REQUESTS, why, RETRY_SOON);
        };
        match *request.method() {
            Method::GET => self.challenge(request.uri()),
            Method::POST => {
                let (parts, body) = request.into_parts();
                match arrived(body).await {
                    Ok(body) => self.notice(&parts.headers, &body).await,
                    Err(outcome) => outcome,
                }
            }
            _ => Outcome::new("unusable", StatusCode::METHOD_NOT_ALLOWED, "GET or POST"),
        }
    }

    fn challenge(&self, uri: &Uri) -> Outcome {
        let code = Query::<Challenge>::try_from_uri(uri).ok().map(|query| query.0.challenge_code);
        let Some(code) = code.filter(|code| (1..=LONGEST_CODE).contains(&code.len())) else {
            return Outcome::new("unusable", StatusCode::BAD_REQUEST, "no challenge_code");
        };
        let application = match &*self.application.borrow() {
            Ok(application) => application.clone(),
            Err(_) => return Outcome::failed("the application's Secret can't be used"),
        };
        let answer = challenge::answer(&code, &application.verification_token, &self.endpoint);
        tracing::info!("eBay's challenge is answered");
        Outcome("challenge", Json(answer).into_response())
    }

    async fn notice(&self, headers: &HeaderMap, body: &[u8]) -> Outcome {
        const BAD: &str = "the signature doesn't hold";
        let header = headers.get(signature::HEADER);
        let Some(signature) = header.and_then(|header| Signature::parse(header.as_bytes())) else {
            return Outcome::new("bad_signature", StatusCode::PRECONDITION_FAILED, BAD);
        };
        let key = match self.keys.get(&signature.key_id).await {
            Ok(Some(key)) => key,
            Ok(None) => return Outcome::new("unknown_key", StatusCode::PRECONDITION_FAILED, BAD),
            Err(error) => {
                tracing::warn!(%error, "eBay's key can't be had; eBay repeats the notice");
                return Outcome::failed("eBay's key can't be had");
            }
        };
        if !key.verifies(body, &signature) {
            return Outcome::new("bad_signature", StatusCode::PRECONDITION_FAILED, BAD);
        }
        let notice = match notice::parse(body) {
            Ok(notice) => notice,
            Err(error) => {
                tracing::error!(%error, "a notice of eBay's can't become an erasure");
                return Outcome::new(
                    "unusable",
                    StatusCode::BAD_REQUEST,
                    "not a notice of a deleted account",
                );
            }
        };
        let operator = match &*self.operator.borrow() {
            Ok(operator) => operator.clone(),
            Err(_) => return Outcome::failed("the identity can't be used"),
        };
        if let Err(error) = operator.hand_over(&notice).await {
            tracing::warn!(%error, "a notice isn't handed over; eBay repeats it");
            return Outcome::failed("the operator doesn't take it");
        }
        self.metrics.accepted();
        tracing::info!("a notice of eBay's has become erasure requests");
        Outcome("accepted", StatusCode::NO_CONTENT.into_response())
    }
}

#[derive(Deserialize)]
struct Challenge {
    challenge_code: String,
}

async fn arrived(body: Body) -> Result<Bytes, Outcome> {
    match timeout(ARRIVING, to_bytes(body, LARGEST_BODY)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(Outcome::new("unusable", StatusCode::PAYLOAD_TOO_LARGE, "too large, or cut short")),
        Err(_) => Err(Outcome::new("unusable", StatusCode::REQUEST_TIMEOUT, "too slow")),
    }
}

/// The routes.
pub fn router(receiver: Arc<Receiver>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .fallback(endpoint)
        .with_state(receiver)
}

async fn endpoint(State(receiver): State<Arc<Receiver>>, request: Request) -> Response {
    if request.uri().path() != receiver.path {
        return StatusCode::NOT_FOUND.into_response();
    }
    let Outcome(result, response) = receiver.answer(request).await;
    receiver.metrics.received(result);
    response
}

/// Not ready with a Secret that can't be used: the roll-out of a wrong one halts. The operator isn't asked, so that eBay gets
/// an answer also while it is away.
async fn ready(State(receiver): State<Arc<Receiver>>) -> Response {
    let application = receiver.application.borrow().as_ref().err().cloned();
    let operator = receiver.operator.borrow().as_ref().err().cloned();
    match application.or(operator) {
        None => "ok\n".into_response(),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "the log says why\n").into_response(),
    }
}

async fn show_metrics(State(receiver): State<Arc<Receiver>>, Extension(role): Extension<Role>) -> Response {
    if !role.reads_metrics() {
        let message = "a client certificate is needed: that of the Secret marketrelay-metrics-client\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], receiver.metrics.render()).into_response()
}
