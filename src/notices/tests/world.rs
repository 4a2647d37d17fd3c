//! What the receiver needs around it: eBay, an operator, mounts.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{Extension, Json, Router, extract::State, http::StatusCode, routing::post};
use jiff::Timestamp;
use marketrelay_api::notices::{APPLICATION, CONFIG, HAND_OVER, IDENTITY, TLS};
use marketrelay_mtls::{Pem, Role};
use marketrelay_operator::pki::{Authority, Subject};
use marketrelay_pod::{egress::Egress, tls::http_client};
use marketrelay_sandbox::{Account, Config, Marketplace, Sandbox};
use reqwest::Client;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub const VERIFICATION_TOKEN: &str = "0123456789-0123456789_0123456789";
pub const SOON: Duration = Duration::from_secs(30);
const CONTROL: &str = "control";
const OPERATOR: &str = "marketrelay-operator.test.svc";

/// An operator that takes notices, or answers with the status that a test wants.
#[derive(Clone)]
pub struct Operator(Arc<Mutex<(StatusCode, Vec<Value>)>>);

impl Operator {
    async fn start(authority: &Authority) -> (Self, SocketAddr, DropGuard) {
        let operator = Self(Arc::new(Mutex::new((StatusCode::NO_CONTENT, Vec::new()))));
        let issued = authority.issue(&Subject::Server(OPERATOR), Timestamp::now()).expect("a certificate");
        let (certificate, key) = (issued.certificate.as_bytes(), issued.key.as_bytes());
        let pem = Pem { certificate, key, authority: authority.pem().as_bytes() };
        let tls = marketrelay_mtls::server_config(pem).expect("TLS");
        let (sender, tls) = watch::channel(Ok(Arc::new(tls)));
        let router = Router::new().route(HAND_OVER, post(take)).with_state(operator.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let ended = stop.clone();
        tokio::spawn(async move {
            marketrelay_mtls::serve(listener, tls, router, ended).await;
            drop(sender);
        });
        (operator, address, stop.drop_guard())
    }

    pub fn answers(&self, status: u16) {
        let status = StatusCode::from_u16(status).expect("a status");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = status;
    }

    /// What was handed over.
    pub fn taken(&self) -> Vec<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

async fn take(
    State(operator): State<Operator>,
    Extension(role): Extension<Role>,
    Json(notice): Json<Value>,
) -> StatusCode {
    assert_eq!(role, Role::Notices);
    let mut state = operator.0.lock().unwrap_or_else(PoisonError::into_inner);
    if state.0 == StatusCode::NO_CONTENT {
        state.1.push(notice);
    }
    state.0
}

/// The program between eBay and an operator.
pub struct World {
    sandbox: Sandbox,
    http: Client,
    pub authority: Authority,
    pub operator: Operator,
    pub endpoint: String,
    folder: TempDir,
    process: Child,
    _stop: DropGuard,
}

impl World {
    pub async fn start() -> Self {
        let account = Account {
            marketplace: Marketplace::Ebay,
            client_id: "application".to_owned(),
            client_secret: "secret".to_owned(),
            refresh_token: String::new(),
            seed: 1,
            initial_orders: 0,
            growth_seconds: 0,
        };
        let config = Config {
            control_token: CONTROL.to_owned(),
            accounts: vec![account],
            customers: Vec::new(),
            amazon_rate: (1.0, 1.0),
        };
        let sandbox = Sandbox::start(&config).await.expect("a sandbox");
        let (authority, _) = Authority::generate(Timestamp::now()).expect("an authority");
        let (operator, address, stop) = Operator::start(&authority).await;
        // Free a moment ago: the endpoint's URL holds it, and is part of eBay's challenge.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let endpoint = format!("https://localhost:{port}/ebay/account-deletion");
        let folder = TempDir::new().expect("a folder");
        mount(&folder, &sandbox, &authority, &endpoint);
        let process = spawn(&folder, port, address);
        let egress = Egress::new(&["127.0.0.0/8".parse().expect("a network")]);
        let http = http_client(&egress, &sandbox.ca).expect("a client");
        let world = Self { sandbox, http, authority, operator, endpoint, folder, process, _stop: stop };
        eventually("the endpoint listens", || async {
            world.log().contains("the endpoint listens").then_some(())
        })
        .await;
        world
    }

    /// What the program logged, at the level that hides the least.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    /// The control API of eBay's simulator.
    pub async fn control(&self, path: &str, body: Value) -> Value {
        let url = format!("{}/control/{path}", self.sandbox.url);
        let request = match body {
            Value::Null => self.http.get(url),
            body => self.http.post(url).json(&body),
        };
        let answer = request.bearer_auth(CONTROL).send().await.expect("an answer");
        let (status, text) = (answer.status(), answer.text().await.expect("a body"));
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Has eBay send a notice about `zoe_n`, with a change; gives the status that it was answered with.
    pub async fn notice(&self, change: Value) -> u16 {
        let answer = self.sent(change).await;
        u16::try_from(answer["status"].as_u64().expect("a status")).expect("a status")
    }

    /// As [`World::notice`], with the whole answer.
    pub async fn sent(&self, change: Value) -> Value {
        let mut notice = json!({"url": self.endpoint, "ca": self.authority.pem(), "username": "zoe_n",
            "userId": "ma8vp1jySJC"});
        for (name, value) in change.as_object().expect("fields") {
            notice[name] = value.clone();
        }
        self.control("ebay/notices", notice).await
    }

    /// Calls of eBay's APIs so far.
    pub async fn calls(&self) -> u64 {
        self.control("calls", Value::Null).await["ebay"].as_u64().unwrap_or_default()
    }

    /// eBay's APIs fail, or work again.
    pub async fn ebay_fails(&self, fault: Value) {
        self.control("faults", json!({"target": "ebay", "fault": fault})).await;
    }

    /// A client of the endpoint that has a certificate of this subject, or none.
    pub fn client(&self, subject: Option<&Subject<'_>>) -> Client {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).expect("PEM");
        roots.add(authority).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("TLS").with_root_certificates(roots);
        let tls = match subject {
            None => builder.with_no_client_auth(),
            Some(subject) => {
                let issued = self.authority.issue(subject, Timestamp::now()).expect("a certificate");
                let chain = vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("PEM")];
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        Client::builder().tls_backend_preconfigured(tls).no_proxy().timeout(SOON).build().expect("a client")
    }

    /// The address of one of the receiver's other paths.
    pub fn url(&self, path: &str) -> String {
        self.endpoint.replace("/ebay/account-deletion", path)
    }

    pub async fn end(mut self) {
        self.process.kill().await.expect("killed");
    }
}

fn mount(folder: &TempDir, sandbox: &Sandbox, authority: &Authority, endpoint: &str) {
    let write = |path: &str, text: &str| {
        let path: PathBuf = folder.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    let url = &sandbox.url;
    let config = json!({
        "endpoint": endpoint, "operator": format!("https://{OPERATOR}:9443/"),
        "endpoints": {"api": url, "token": format!("{url}/identity/v1/oauth2/token")},
        "egress": {"allowedNetworks": ["127.0.0.0/8", "::1/128"], "extraCaCertificates": sandbox.ca},
    });
    write(CONFIG, &serde_yaml::to_string(&config).expect("YAML"));
    for (name, text) in
        [("clientId", "application"), ("clientSecret", "secret"), ("verificationToken", VERIFICATION_TOKEN)]
    {
        write(&format!("{APPLICATION}/{name}"), text);
    }
    let issued = authority.issue(&Subject::Notices("localhost"), Timestamp::now()).expect("a certificate");
    for path in [IDENTITY, TLS] {
        write(&format!("{path}/tls.crt"), &issued.certificate);
        write(&format!("{path}/tls.key"), &issued.key);
        write(&format!("{path}/ca.crt"), authority.pem());
    }
}

fn spawn(folder: &TempDir, port: u16, operator: SocketAddr) -> Child {
    let log = File::create(folder.path().join("log")).expect("a log");
    Command::new(env!("CARGO_BIN_EXE_marketrelay-notices"))
        .arg("--root")
        .arg(folder.path())
        .args(["--listen", &format!("127.0.0.1:{port}"), "--operator", &operator.to_string()])
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a handle"))
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("a process")
}

/// Waits until `look` finds something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
