//! The sandbox and its control API.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use marketrelay_relay::{egress::Egress, tls::http_client};
use marketrelay_sandbox::{Account, Config, Customer, Marketplace, Sandbox};
use serde_json::Value;

use super::{CLIENT, SECRET, eventually};

const TOKEN: &str = "control";

/// The sandbox with one account of each marketplace; all have the same credentials but for the client's id.
pub async fn sandbox(initial_orders: u32) -> Sandbox {
    sandbox_with([initial_orders; 3]).await
}

/// As [`sandbox`], with so many orders of Amazon, eBay and Bol.com.
pub async fn sandbox_with(initial_orders: [u32; 3]) -> Sandbox {
    let filter = tracing_subscriber::EnvFilter::new("warn");
    let _only_once = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    let accounts = [
        (Marketplace::Amazon, format!("{CLIENT}-amazon")),
        (Marketplace::Ebay, format!("{CLIENT}-ebay")),
        (Marketplace::Bol, CLIENT.to_owned()),
    ];
    let accounts = accounts.into_iter().zip(initial_orders);
    let config = Config {
        control_token: TOKEN.to_owned(),
        accounts: accounts.map(|((marketplace, id), orders)| account(marketplace, id, orders)).collect(),
        customers: vec![Customer { name: "acme".to_owned(), secrets: vec![SECRET.to_owned()] }],
        amazon_rate: (50.0, 100.0),
    };
    Sandbox::start(&config).await.expect("a sandbox")
}

fn account(marketplace: Marketplace, client_id: String, initial_orders: u32) -> Account {
    Account {
        marketplace,
        client_id,
        client_secret: "secret".to_owned(),
        refresh_token: "refresh".to_owned(),
        seed: 7,
        initial_orders,
        growth_seconds: 0,
    }
}

/// The sandbox's control API.
#[derive(Clone)]
pub struct Control {
    url: String,
    http: reqwest::Client,
}

impl Control {
    pub fn new(sandbox: &Sandbox) -> Self {
        let egress = Egress::new(&["127.0.0.0/8".parse().expect("a network")]);
        let http = http_client(&egress, &sandbox.ca).expect("a client");
        Self { url: sandbox.url.clone(), http }
    }

    pub async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}/control/{path}", self.url)).bearer_auth(TOKEN);
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    pub async fn post(&self, path: &str, body: Value) {
        let request = self.http.post(format!("{}/control/{path}", self.url)).bearer_auth(TOKEN);
        let answer = request.json(&body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    /// How many calls of a target the sandbox has seen.
    pub async fn calls(&self, target: &str) -> u64 {
        self.get("calls").await[target].as_u64().unwrap_or_default()
    }

    /// Everything that the customer received.
    pub async fn events(&self) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let page = self.get(&format!("customers/acme/events?offset={}", events.len())).await;
            let page = page.as_array().expect("a list");
            if page.is_empty() {
                return events;
            }
            events.extend_from_slice(page);
        }
    }

    /// The orders of the account, as the marketplace has them.
    pub async fn orders(&self, client: &str) -> Vec<Value> {
        let orders = self.get(&format!("accounts/{client}/orders")).await;
        orders.as_array().expect("a list").clone()
    }

    /// Order numbers with the newest revision and its status, as the customer has them.
    pub async fn received(&self) -> BTreeMap<String, (u64, String)> {
        let mut received = BTreeMap::new();
        for event in self.events().await {
            let text = |name: &str| event[name].as_str().expect("text").to_owned();
            let revision = event["revision"].as_u64().expect("a number");
            let entry = received.entry(text("number")).or_insert((0, String::new()));
            if revision > entry.0 {
                *entry = (revision, text("status"));
            }
        }
        received
    }

    /// The numbers of the account's orders that were placed before `until`.
    pub async fn numbers(&self, client: &str, until: Timestamp) -> Vec<String> {
        let orders = self.orders(client).await;
        let placed =
            |order: &&Value| order["placedAt"].as_str().expect("text").parse::<Timestamp>().expect("a time");
        let list = orders.iter().filter(|order| placed(order) < until);
        list.map(|order| order["number"].as_str().expect("a number").to_owned()).collect()
    }

    /// Waits until every order of the account that was placed before `until` is at the customer.
    pub async fn all_received(&self, client: &str, until: Timestamp) {
        eventually("every order at the customer", Duration::from_mins(2), || async {
            let (numbers, received) = (self.numbers(client, until).await, self.received().await);
            numbers.iter().all(|number| received.contains_key(number)).then_some(())
        })
        .await;
    }
}
