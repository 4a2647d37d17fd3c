//! A customer's endpoint that answers as it is told and keeps every request.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use marketrelay_mtls::{Pem, server_config};
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{io::ReaderStream, sync::CancellationToken};

use super::Authority;

/// What it answers once.
#[derive(Clone)]
pub enum Answer {
    Status(u16),
    /// A status with one header.
    Header(u16, &'static str, String),
    /// 200 and a body without an end.
    Endless,
}

/// What it received.
#[derive(Clone)]
pub struct Request {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub fn events(&self) -> Vec<Value> {
        self.json()["data"]["events"].as_array().expect("events").clone()
    }

    /// Number and revision of each event.
    pub fn revisions(&self) -> Vec<(String, u64)> {
        let events = self.events();
        let events = events.iter();
        let revision = |event: &Value| event["revision"].as_u64().expect("a revision");
        events
            .map(|event| (event["order"]["number"].as_str().expect("a number").to_owned(), revision(event)))
            .collect()
    }
}

#[derive(Default)]
struct Shared {
    answers: Mutex<VecDeque<Answer>>,
    /// Answers of requests that hold one of these texts, always.
    refused: Mutex<Vec<String>>,
    requests: Mutex<Vec<Request>>,
    streamed: AtomicUsize,
}

pub struct Destination {
    pub url: String,
    /// Of the authority to trust.
    pub ca: String,
    shared: Arc<Shared>,
    stop: CancellationToken,
    _tls: watch::Sender<Result<Arc<rustls::ServerConfig>, String>>,
}

impl Destination {
    pub async fn start() -> Self {
        let authority = Authority::new();
        let issued = authority.server();
        let pem = Pem {
            certificate: issued.certificate.as_bytes(),
            key: issued.key.as_bytes(),
            authority: authority.pem.as_bytes(),
        };
        let (tls, current) = watch::channel(server_config(pem).map(Arc::new));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (shared, stop) = (Arc::new(Shared::default()), CancellationToken::new());
        let router = Router::new().route("/orders", post(receive)).with_state(shared.clone());
        tokio::spawn(marketrelay_mtls::serve(listener, current, router, stop.clone()));
        let url = format!("https://localhost:{port}/orders");
        Self { url, ca: authority.pem, shared, stop, _tls: tls }
    }

    /// The next answers; after them, and without any, it takes everything.
    pub fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.answers.lock().expect("a lock").extend(answers);
    }

    /// Answers 422 to every message with one of these texts in it.
    pub fn refuse(&self, texts: &[&str]) {
        *self.shared.refused.lock().expect("a lock") = texts.iter().map(|text| (*text).to_owned()).collect();
    }

    /// What came so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("a lock").clone()
    }

    /// Bytes of endless answers that were taken from it.
    pub fn streamed(&self) -> usize {
        self.shared.streamed.load(Ordering::Relaxed)
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let text = String::from_utf8_lossy(&body);
    let refused = shared.refused.lock().expect("a lock").iter().any(|part| text.contains(part));
    let planned = shared.answers.lock().expect("a lock").pop_front();
    shared.requests.lock().expect("a lock").push(Request { headers, body: body.clone() });
    let status = |status| StatusCode::from_u16(status).expect("a status");
    match planned {
        _ if refused => StatusCode::UNPROCESSABLE_ENTITY.into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
        Some(Answer::Status(code)) => status(code).into_response(),
        Some(Answer::Header(code, name, value)) => (status(code), [(name, value)]).into_response(),
        Some(Answer::Endless) => {
            Body::from_stream(ReaderStream::with_capacity(Zeros(shared), 64 * 1024)).into_response()
        }
    }
}

/// Counts what is read of it.
struct Zeros(Arc<Shared>);

impl tokio::io::AsyncRead for Zeros {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let length = buffer.remaining();
        buffer.put_slice(&vec![b'0'; length]);
        self.0.streamed.fetch_add(length, Ordering::Relaxed);
        std::task::Poll::Ready(Ok(()))
    }
}
