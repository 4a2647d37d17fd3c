//! A customer of one test: a namespace, sellers at the marketplaces, a system that orders arrive at.

use std::{panic::resume_unwind, time::Duration};

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Namespace, Pod},
};
use kube::{Api, Client, Resource, ResourceExt, api::DeleteParams};
use marketrelay_api::MarketplaceConnection;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::LocalSet;
use xtask::kube::Kube;

use crate::{
    cluster::{SYSTEM, client, kube, process, wait_for},
    sandbox::Sandbox,
};

pub const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Long enough for a busy machine: a volume, an image, a start, a poll.
pub const SOON: Duration = Duration::from_mins(2);

/// One customer.
#[derive(Clone)]
pub struct Tenant {
    pub client: Client,
    pub name: String,
    pub sandbox: Sandbox,
}

/// Runs a test as a new customer, and removes the customer afterwards, also when the test fails.
pub async fn with_tenant<F: Future<Output = ()> + 'static>(name: &str, test: impl FnOnce(Tenant) -> F) {
    let client = client().await;
    let made =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_millis();
    let name = format!("{name}-{}", made % 10_000_000);
    let tenant = Tenant { sandbox: Sandbox(client.clone()), client, name };
    tenant.move_in().await;
    let local = LocalSet::new();
    let test = local.spawn_local(test(tenant.clone()));
    let outcome = local.run_until(test).await;
    if outcome.is_err() {
        tenant.show();
    }
    tenant.move_out().await;
    if let Err(failed) = outcome {
        resume_unwind(failed.into_panic());
    }
}

impl Tenant {
    /// A customer of a test that has several parts.
    pub async fn named(name: &str) -> Self {
        let client = client().await;
        Self { sandbox: Sandbox(client.clone()), client, name: name.to_owned() }
    }

    /// Makes what a customer has without connections.
    pub async fn move_in(&self) {
        self.furnish();
        self.has_a_system().await;
    }

    /// The namespace and what it has without connections.
    pub fn furnish(&self) {
        let name = &self.name;
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {
            "pod-security.kubernetes.io/enforce": "restricted"}}}));
        self.secret("erp-signing", &json!({"signingSecret": SIGNING}));
    }

    /// The system that orders arrive at.
    pub async fn has_a_system(&self) {
        self.sandbox.post("customers", &json!({"name": self.name, "secrets": [SIGNING]})).await;
    }

    pub async fn move_out(&self) {
        // A test that fails a marketplace is alone, and may end before it mends it.
        for marketplace in ["amazon", "ebay", "bol"] {
            self.sandbox.heal(marketplace).await;
        }
        let namespaces = Api::<Namespace>::all(self.client.clone());
        if let Err(error) = namespaces.delete(&self.name, &DeleteParams::default()).await {
            assert!(matches!(&error, kube::Error::Api(status) if status.is_not_found()), "{error}");
        }
    }

    /// Of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// kubectl in this namespace: what it prints.
    pub fn kubectl(&self, words: &[&str]) -> Result<String, String> {
        let words = [&["--namespace", &self.name], words].concat();
        kube().get(&words).map_err(|error| error.to_string())
    }

    /// Applies an object as a person would.
    pub fn apply(&self, object: &Value) {
        self.try_apply(object).unwrap_or_else(|error| panic!("{error}"));
    }

    /// The same, where a refusal is expected.
    pub fn try_apply(&self, object: &Value) -> Result<(), String> {
        let mut object = object.clone();
        if object["kind"] != "Namespace" {
            object["metadata"]["namespace"] = json!(self.name);
        }
        kube().apply(&object.to_string()).map_err(|error| error.to_string())
    }

    /// A Secret.
    pub fn secret(&self, name: &str, entries: &Value) {
        self.apply(
            &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": entries}),
        );
    }

    /// The seller's client id at a marketplace.
    pub fn account(&self, marketplace: &str) -> String {
        format!("{}-{marketplace}", self.name)
    }

    /// A seller with orders, and the Secret with its credentials.
    pub async fn seller(&self, marketplace: &str, orders: u32) {
        let account = self.account(marketplace);
        let seed = account.bytes().fold(7_u64, |seed, byte| seed * 31 % 1_000_003 + u64::from(byte));
        let seller = json!({"marketplace": marketplace, "clientId": account, "clientSecret": "secret",
            "refreshToken": "refresh", "seed": seed, "initialOrders": orders});
        self.sandbox.post("accounts", &seller).await;
        self.credentials(marketplace, "secret");
    }

    /// The Secret with the seller's credentials.
    pub fn credentials(&self, marketplace: &str, secret: &str) {
        let entries =
            json!({"clientId": self.account(marketplace), "clientSecret": secret, "refreshToken": "refresh"});
        self.secret(&format!("{marketplace}-credentials"), &entries);
    }

    /// A connection's YAML.
    pub fn connection(&self, marketplace: &str) -> Value {
        let settings = match marketplace {
            "amazon" => json!({"region": "eu", "marketplaceIds": ["A1PA6795UKMFR9"]}),
            _ => json!({}),
        };
        let url = format!("https://sandbox.marketrelay-sandbox.svc/customers/{}/orders", self.name);
        json!({
            "apiVersion": "marketrelay.dev/v1alpha1", "kind": "MarketplaceConnection",
            "metadata": {"name": marketplace},
            "spec": {
                marketplace: settings,
                "credentialsSecretRef": {"name": format!("{marketplace}-credentials")},
                "destination": {"webhook": {"url": url, "signingSecretRef": {"name": "erp-signing"}}},
                "pollInterval": "5s", "storage": {"size": "64Mi"},
            },
        })
    }

    /// A seller with orders and its connection, Ready.
    pub async fn connect(&self, marketplace: &str, orders: u32) {
        self.seller(marketplace, orders).await;
        self.apply(&self.connection(marketplace));
        self.ready(marketplace).await;
    }

    /// Waits until a connection is Ready, for its newest spec.
    pub async fn ready(&self, connection: &str) {
        self.condition(connection, "Ready", "True", None).await;
    }

    /// Waits for a condition of the newest spec; gives its message.
    pub async fn condition(
        &self,
        connection: &str,
        kind: &str,
        status: &str,
        reason: Option<&str>,
    ) -> String {
        let what = format!("{}/{connection}: {kind}={status} {}", self.name, reason.unwrap_or_default());
        wait_for(&what, SOON, async || {
            let object = self.get(connection).await?;
            let conditions = object.status.clone().unwrap_or_default().conditions;
            let found = conditions.iter().find(|condition| condition.type_ == kind);
            let found = found.ok_or("no such condition")?;
            let seen = format!("{} {} {}", found.status, found.reason, found.message);
            let fits = found.status == status
                && reason.is_none_or(|reason| found.reason == reason)
                && found.observed_generation == object.metadata.generation;
            if fits { Ok(found.message.clone()) } else { Err(seen) }
        })
        .await
    }

    /// A connection.
    pub async fn get(&self, connection: &str) -> Result<MarketplaceConnection, String> {
        self.api().get(connection).await.map_err(|error| error.to_string())
    }

    /// Waits until every order of a seller has arrived.
    pub async fn all_arrived(&self, marketplace: &str) {
        let what = format!("{}: every order of {marketplace} arrives", self.name);
        wait_for(&what, SOON, async || {
            let arrived = self.sandbox.arrived(&self.name).await;
            let orders = self.sandbox.orders(&self.account(marketplace)).await;
            let missing: Vec<_> = orders.iter().filter(|number| !arrived.contains_key(*number)).collect();
            if missing.is_empty() {
                Ok(())
            } else {
                Err(format!("{} of {} are missing", missing.len(), orders.len()))
            }
        })
        .await;
    }

    /// A relay's metrics, with the certificate that the operator keeps for who reads them.
    pub fn metrics(&self, connection: &str) -> Result<String, String> {
        let pod = format!("{connection}-relay-0");
        let address = self.kubectl(&["get", "pod", &pod, "--output=jsonpath={.status.podIP}"])?;
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let file = |entry: &str| -> Result<String, String> {
            let path = format!("--output=go-template={{{{index .data \"{entry}\" | base64decode}}}}");
            let words = ["get", "secret", "marketrelay-metrics-client", "--namespace", SYSTEM, &path];
            let text = kube().get(&words).map_err(|error| error.to_string())?;
            let path = folder.path().join(entry);
            std::fs::write(&path, text).map_err(|error| error.to_string())?;
            Ok(path.display().to_string())
        };
        let host = format!("{connection}-relay.{}.svc", self.name);
        let resolve = format!("{host}:9443:{address}");
        let url = format!("https://{host}:9443/metrics");
        let (key, certificate, authority) = (file("tls.key")?, file("tls.crt")?, file("ca.crt")?);
        let words = ["curl", "--silent", "--show-error", "--fail", "--max-time", "10", "--resolve", &resolve];
        let tls = ["--key", &key, "--cert", &certificate, "--cacert", &authority, &url];
        xtask::run::run(&[&words[..], &tls].concat()).map_err(|error| error.to_string())
    }

    /// More orders for a seller.
    pub async fn order(&self, marketplace: &str, count: u32) {
        let path = format!("accounts/{}/orders", self.account(marketplace));
        self.sandbox.post(&path, &json!({"count": count})).await;
    }

    /// What arrived, in numbers; there is never a bad signature or a revision out of order.
    pub async fn summary(&self) -> Value {
        let summary = self.sandbox.summary(&self.name).await;
        assert_eq!(summary["badSignatures"], 0, "{summary}");
        assert_eq!(summary["revisionsOutOfOrder"], 0, "{summary}");
        summary
    }

    /// The relay's pod.
    pub async fn pod(&self, connection: &str) -> Result<Pod, String> {
        self.api().get(&format!("{connection}-relay-0")).await.map_err(|error| error.to_string())
    }

    /// The relay's process on this machine.
    pub async fn relay_process(&self, connection: &str) -> u32 {
        wait_for("the relay's process", SOON, async || {
            let uid = self.pod(connection).await?.uid().unwrap_or_default();
            process(&uid, "/marketrelay-relay").ok_or_else(|| format!("no process of pod {uid}"))
        })
        .await
    }

    /// What is in the namespace, for a person who looks for the reason of a failure.
    pub fn show(&self) {
        let kube: Kube = kube();
        let words: [&[&str]; 4] = [
            &["get", "mconn,retpol,statefulsets,pods,persistentvolumeclaims,secrets", "--output=wide"],
            &["get", "mconn", "--output=yaml"],
            &["get", "events", "--sort-by=.metadata.creationTimestamp"],
            &["logs", "--selector=app.kubernetes.io/name=marketrelay", "--tail=30", "--prefix"],
        ];
        for words in words {
            let shown = kube.show(&[words, &["--namespace", &self.name]].concat());
            drop(shown);
        }
        drop(kube.show(&[
            "logs",
            "--namespace=marketrelay-system",
            "--selector=app.kubernetes.io/name=marketrelay",
            "--tail=30",
        ]));
    }
}
