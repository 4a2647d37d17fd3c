//! A sandbox and its clients.

use marketrelay_sandbox::{Account, Config, Customer, Marketplace, Sandbox};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};

const CONTROL: &str = "control";

/// A sandbox with one account per marketplace, and a client that trusts it.
pub struct Tried {
    sandbox: Sandbox,
    http: Client,
}

pub fn account(marketplace: Marketplace, initial_orders: u32) -> Account {
    let client_id = serde_json::to_value(marketplace).expect("a name").as_str().expect("text").to_owned();
    Account {
        marketplace,
        client_id,
        client_secret: "secret".to_owned(),
        refresh_token: "refresh".to_owned(),
        seed: 3,
        initial_orders,
        growth_seconds: 0,
    }
}

impl Tried {
    pub async fn start(accounts: Vec<Account>, amazon_rate: (f64, f64)) -> Self {
        let customers = vec![Customer { name: "acme".to_owned(), secrets: Vec::new() }];
        let config = Config { control_token: CONTROL.to_owned(), accounts, customers, amazon_rate };
        let sandbox = Sandbox::start(&config).await.expect("a sandbox");
        let http = client(&sandbox.ca);
        Self { sandbox, http }
    }

    /// Many orders of one marketplace, and no limit that a test would meet.
    pub async fn with(marketplace: Marketplace, orders: u32) -> Self {
        Self::start(vec![account(marketplace, orders)], (1000.0, 1000.0)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let request = self.http.post(format!("{}/control/{path}", self.sandbox.url)).bearer_auth(CONTROL);
        let answer = request.json(&body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap_or_default()
    }

    pub fn url(&self) -> &str {
        &self.sandbox.url
    }

    /// A client that names itself, as Amazon wants.
    pub fn agent(&self) -> Client {
        client(&self.sandbox.ca)
    }

    pub async fn control(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}/control/{path}", self.sandbox.url)).bearer_auth(CONTROL);
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    /// The status alone.
    pub async fn try_post(&self, path: &str, body: Value) -> u16 {
        let request = self.http.post(format!("{}/control/{path}", self.sandbox.url)).bearer_auth(CONTROL);
        request.json(&body).send().await.expect("an answer").status().as_u16()
    }

    /// Plans a fault for the next call.
    pub async fn fail(&self, target: &str, fault: Value) {
        self.post("faults", json!({"target": target, "calls": 1, "fault": fault})).await;
    }

    /// Puts the account's orders into every state that there is, and one into a state that nobody knows.
    pub async fn every_state(&self, client: &str) {
        let orders = self.control(&format!("accounts/{client}/orders")).await;
        let states = ["new", "partiallyShipped", "shipped", "cancelled", "refunded"];
        let orders = orders.as_array().expect("a list");
        assert!(orders.len() >= states.len());
        for (order, state) in orders.iter().zip(states.iter().cycle()) {
            let number = order["number"].as_str().expect("a number");
            self.post(&format!("accounts/{client}/orders/{number}"), json!({"state": state})).await;
        }
    }

    pub async fn token(&self, marketplace: Marketplace, form: &[(&str, &str)]) -> Answer {
        let (path, basic) = match marketplace {
            Marketplace::Amazon => ("/auth/o2/token", None),
            Marketplace::Ebay => ("/identity/v1/oauth2/token", Some("ebay")),
            Marketplace::Bol => ("/token", Some("bol")),
        };
        let mut request = self.http.post(format!("{}{path}", self.sandbox.url)).form(form);
        if let Some(client) = basic {
            request = request.basic_auth(client, Some("secret"));
        }
        Answer::read(request.send().await.expect("an answer")).await
    }

    pub async fn get(&self, marketplace: Marketplace, token: &str, path: &str) -> Answer {
        let request = self.http.request(Method::GET, format!("{}{path}", self.sandbox.url));
        let request = match marketplace {
            Marketplace::Amazon => request.header("x-amz-access-token", token),
            Marketplace::Ebay => request.bearer_auth(token),
            Marketplace::Bol => {
                request.bearer_auth(token).header("accept", "application/vnd.retailer.v10+json")
            }
        };
        Answer::read(request.send().await.expect("an answer")).await
    }
}

fn client(ca: &str) -> Client {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("PEM")).expect("an authority");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder().tls_backend_preconfigured(tls).user_agent("test").build().expect("a client")
}

/// What came back.
pub struct Answer {
    pub status: StatusCode,
    headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    async fn read(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.expect("a body");
        let body = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: not JSON: {text}"));
        Self { status, headers, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn token(&self) -> String {
        self.body["access_token"].as_str().expect("a token").to_owned()
    }

    /// The orders of a listing by their number.
    pub fn numbers(&self) -> Vec<String> {
        let orders = self.body["orders"].as_array().unwrap_or_else(|| panic!("no listing: {}", self.body));
        orders.iter().map(|order| order["orderId"].as_str().expect("a number").to_owned()).collect()
    }
}
