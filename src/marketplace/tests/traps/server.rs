//! A marketplace that answers as a test tells it to.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, Once, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use marketrelay_marketplace::{CollectError, Collector, Credentials, Cursor, Endpoints, Order, Page};
use serde_json::{Value, json};

/// A call that came.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub query: HashMap<String, String>,
    pub headers: HeaderMap,
    pub form: String,
}

impl Call {
    pub fn is_token(&self) -> bool {
        self.path == "/token"
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn number(&self, name: &str) -> usize {
        self.query.get(name).and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}

/// Status, headers and body.
pub struct Reply(pub u16, pub Vec<(&'static str, String)>, pub Value);

pub fn ok(body: Value) -> Reply {
    Reply(200, Vec::new(), body)
}

pub fn failed(status: u16) -> Reply {
    Reply(status, Vec::new(), json!({}))
}

pub fn with(status: u16, name: &'static str, value: &str) -> Reply {
    Reply(status, vec![(name, value.to_owned())], json!({}))
}

type Script = Box<dyn FnMut(&Call) -> Reply + Send>;

struct Shared {
    script: Mutex<Script>,
    calls: Mutex<Vec<Call>>,
}

/// Answers on loopback until it is dropped.
pub struct Server {
    shared: Arc<Shared>,
    pub endpoints: Endpoints,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Tokens are good for an hour, the rest is as the script says.
    pub async fn start(mut script: impl FnMut(&Call) -> Reply + Send + 'static) -> Self {
        let token = json!({"access_token": "token", "token_type": "bearer", "expires_in": 3600});
        Self::with_tokens(move |call| if call.is_token() { ok(token.clone()) } else { script(call) }).await
    }

    pub async fn with_tokens(script: impl FnMut(&Call) -> Reply + Send + 'static) -> Self {
        let shared = Arc::new(Shared { script: Mutex::new(Box::new(script)), calls: Mutex::new(Vec::new()) });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serving") });
        let url = |path: &str| format!("{base}{path}").parse().expect("a URL");
        Self { shared, endpoints: Endpoints { api: url("/"), token: url("/token") }, task }
    }

    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The calls that aren't for a token.
    pub fn questions(&self) -> Vec<Call> {
        self.calls().into_iter().filter(|call| !call.is_token()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = String::from_utf8_lossy(&body).into_owned();
    let call = Call { path: uri.path().to_owned(), query, headers, form };
    shared.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call.clone());
    let Reply(status, headers, body) = shared.script.lock().unwrap_or_else(PoisonError::into_inner)(&call);
    let status = StatusCode::from_u16(status).expect("a status");
    let mut response = (status, body.to_string()).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().expect("a header"));
    }
    response
}

pub fn http() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        rustls::crypto::aws_lc_rs::default_provider().install_default().expect("the only provider");
    });
    reqwest::Client::new()
}

pub fn credentials() -> Credentials {
    Credentials {
        client_id: "client".to_owned(),
        client_secret: "secret".to_owned(),
        refresh_token: Some("first".to_owned()),
    }
}

pub fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().expect("a time")
}

/// What was collected.
#[derive(Default)]
pub struct Collected {
    /// The newest state of each order.
    pub orders: BTreeMap<String, Order>,
    pub failures: Vec<&'static str>,
    pub cursor: Option<Cursor>,
}

impl Collected {
    pub fn numbers(&self) -> Vec<&str> {
        self.orders.keys().map(String::as_str).collect()
    }

    fn take(&mut self, page: Page) {
        for order in page.orders {
            self.orders.insert(order.pii.expose().number.clone(), order);
        }
        self.cursor = Some(page.cursor);
    }
}

/// Collects what is new since `since`, repeating what fails.
pub async fn collect(collector: &mut impl Collector, since: Timestamp) -> Collected {
    let (mut collected, mut cursor) = (Collected::default(), collector.start(since));
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < Duration::from_secs(30), "no end: {:?}", collected.failures);
        match collector.page(&cursor, now()).await {
            Ok(page) => {
                let more = page.more;
                cursor = page.cursor.clone();
                collected.take(page);
                if !more {
                    return collected;
                }
            }
            Err(error) => collected.failures.push(error.category()),
        }
    }
}

/// The error of the first page.
pub async fn first_error(collector: &mut impl Collector) -> CollectError {
    let cursor = collector.start(now() - jiff::SignedDuration::from_mins(30));
    collector.page(&cursor, now()).await.expect_err("an error")
}
