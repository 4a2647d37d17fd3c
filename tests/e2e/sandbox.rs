//! The sandbox's control API, through the API server.

use std::collections::BTreeMap;

use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

const CONTROL: &str = "/api/v1/namespaces/marketrelay-sandbox/services/https:sandbox:443/proxy/control";

/// The simulators.
#[derive(Clone)]
pub struct Sandbox(pub Client);

impl Sandbox {
    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<String, kube::Error> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let request = Request::builder()
            .method(method)
            .uri(format!("{CONTROL}/{path}{separator}token=demo"))
            .header("content-type", "application/json")
            .body(body)
            .expect("a request");
        self.0.request_text(request).await
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Value {
        let text = self.ask(Method::GET, path, Vec::new()).await.expect(path);
        serde_json::from_str(&text).expect(path)
    }

    /// POST.
    pub async fn post(&self, path: &str, body: &Value) {
        let body = body.to_string().into_bytes();
        self.ask(Method::POST, path, body).await.expect(path);
    }

    /// POST, with an answer.
    pub async fn ask_for(&self, path: &str, body: &Value) -> Value {
        let text = self.ask(Method::POST, path, body.to_string().into_bytes()).await.expect(path);
        serde_json::from_str(&text).expect(path)
    }

    /// The next calls of a target fail like this, or all until [`Sandbox::heal`].
    pub async fn fail(&self, target: &str, fault: &Value, calls: Option<u32>) {
        self.post("faults", &json!({"target": target, "fault": fault, "calls": calls})).await;
    }

    /// A target works again.
    pub async fn heal(&self, target: &str) {
        self.post("faults", &json!({"target": target})).await;
    }

    /// The numbers of an account's orders.
    pub async fn orders(&self, account: &str) -> Vec<String> {
        let orders = self.get(&format!("accounts/{account}/orders")).await;
        let list = orders.as_array().expect("a list").iter();
        list.map(|order| order["number"].as_str().expect("a number").to_owned()).collect()
    }

    /// How often each order arrived at a customer.
    pub async fn arrived(&self, customer: &str) -> BTreeMap<String, u64> {
        let numbers = self.get(&format!("customers/{customer}/numbers")).await;
        serde_json::from_value(numbers).expect("numbers")
    }

    /// What arrived at a customer, in numbers.
    pub async fn summary(&self, customer: &str) -> Value {
        self.get(&format!("customers/{customer}")).await
    }
}
