//! Between a Job and its store: answers what a test wants in the store's place, or lets requests through.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use marketrelay_pod::tls;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::world::World;

/// Which requests are answered otherwise, how often, and how.
#[derive(Clone)]
pub struct Fault {
    /// In method and URI, such as `PUT /backups/` or `partNumber`.
    pub of: &'static str,
    pub times: usize,
    pub status: u16,
    pub code: &'static str,
    /// The store does what was asked of it; only its answer is lost.
    pub after: bool,
}

/// What comes after the half of an answer.
#[derive(Clone, Copy)]
pub enum Half {
    /// Nothing, and no end.
    Stalls,
    /// The connection is cut, and again when the rest is asked for.
    Cuts,
}

/// The proxy.
#[derive(Clone)]
pub struct Proxy {
    upstream: String,
    http: reqwest::Client,
    fault: Arc<Mutex<Option<Fault>>>,
    half: Arc<Mutex<Option<(&'static str, Half)>>>,
    _stop: Arc<DropGuard>,
}

impl Proxy {
    /// Puts it before the world's store.
    pub async fn start(world: &mut World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::public(&world.authority.pem).expect("TLS"))
            .no_proxy()
            .build();
        let stop = CancellationToken::new();
        let proxy = Self {
            upstream: world.s3.endpoint(),
            http: http.expect("a client"),
            fault: Arc::default(),
            half: Arc::default(),
            _stop: Arc::new(stop.clone().drop_guard()),
        };
        let router = Router::new().fallback(pass).with_state(proxy.clone());
        tokio::spawn(marketrelay_mtls::serve(listener, world.authority.server(), router, stop));
        world.config.store.endpoint = Some(format!("https://localhost:{port}").parse().expect("a URL"));
        proxy
    }

    pub fn fails(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// Of such answers half comes.
    pub fn halves(&self, of: &'static str, then: Half) {
        *self.half.lock().unwrap_or_else(PoisonError::into_inner) = Some((of, then));
    }

    fn half(&self, what: &str) -> Option<Half> {
        let half = self.half.lock().unwrap_or_else(PoisonError::into_inner);
        half.filter(|(of, _)| what.contains(of)).map(|(_, then)| then)
    }

    /// How often it is still to fail.
    pub fn left(&self) -> usize {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.as_ref().map_or(0, |fault| fault.times)
    }

    fn fault(&self, what: &str) -> Option<Fault> {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = fault.as_mut().filter(|fault| fault.times > 0 && what.contains(fault.of))?;
        fault.times -= 1;
        Some(fault.clone())
    }
}

async fn pass(State(proxy): State<Proxy>, request: Request) -> Response {
    let what = format!("{} {}", request.method(), request.uri());
    let fault = proxy.fault(&what);
    let (parts, body) = request.into_parts();
    let is_rest = parts.headers.contains_key("range");
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    if let Some(fault) = fault.as_ref().filter(|fault| !fault.after) {
        return refusal(fault);
    }
    let url = format!("{}{}", proxy.upstream, parts.uri);
    let sent = proxy.http.request(parts.method, url).headers(parts.headers).body(body);
    let Ok(answer) = sent.send().await else { return StatusCode::BAD_GATEWAY.into_response() };
    match (fault, proxy.half(&what)) {
        (Some(fault), _) => refusal(&fault),
        (None, Some(then)) => half(answer, is_rest, then).await,
        (None, None) => http::Response::from(answer).map(Body::new),
    }
}

async fn half(answer: reqwest::Response, is_rest: bool, then: Half) -> Response {
    let (parts, body) = http::Response::from(answer).map(Body::new).into_parts();
    let bytes = to_bytes(body, usize::MAX).await.expect("a body");
    let half = if is_rest { 0 } else { bytes.len() / 2 };
    let begin = stream::iter([Ok(bytes.slice(..half))]);
    let body = match then {
        Half::Stalls => Body::from_stream(begin.chain(stream::pending::<io::Result<_>>())),
        Half::Cuts => Body::from_stream(begin.chain(stream::iter([Err(io::Error::other("cut"))]))),
    };
    Response::from_parts(parts, body)
}

fn refusal(fault: &Fault) -> Response {
    let body = format!("<Error><Code>{}</Code><Message>of the test</Message></Error>", fault.code);
    (StatusCode::from_u16(fault.status).expect("a status"), body).into_response()
}
