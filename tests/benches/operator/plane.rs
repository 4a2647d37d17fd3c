//! A control plane, namespaces with what connections need, and the operator's program.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{
    Api, Client, Config,
    api::{ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use marketrelay_api::MarketplaceConnection;
use serde_json::{Value, json};
use xtask::cluster::ControlPlane;

use crate::installed::{SYSTEM, apply, install, kubectl};

/// How many are written at the same time; the operator's default too.
pub const CONCURRENCY: usize = 12;
const LOG: &str = "operator.log";

pub struct Plane {
    plane: ControlPlane,
    pub client: Client,
}

impl Plane {
    pub async fn start() -> Self {
        let plane = ControlPlane::start().expect("a control plane");
        let kubeconfig = Kubeconfig::read_from(&plane.kubeconfig).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a configuration");
        let plane = Self { plane, client: Client::try_from(config).expect("a client") };
        install(&plane.plane);
        plane
    }

    /// Goes with the control plane.
    fn folder(&self) -> &Path {
        self.plane.kubeconfig.parent().expect("a folder")
    }

    /// All that operators have written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join(LOG)).expect("a log")
    }

    /// A namespace with the Secrets that its connections refer to.
    pub fn namespace(&self, name: &str) {
        kubectl(&self.plane, &["create", "namespace", name]);
        for (secret, entries) in [
            ("bol-credentials", json!({"clientId": "a", "clientSecret": "b"})),
            ("erp-signing", json!({"signingSecret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})),
        ] {
            let metadata = json!({"name": secret, "namespace": name});
            let secret =
                json!({"apiVersion": "v1", "kind": "Secret", "stringData": entries, "metadata": metadata});
            apply(&self.plane, &secret);
        }
    }

    /// The operator for one namespace, leading and with everything read: it has built a first connection.
    pub async fn operator(&self, namespace: &str) -> Operator {
        let config = self.folder().join("operator.yaml");
        std::fs::write(&config, "relay: {image: 'registry.example/relay:1'}").expect("written");
        let log = File::options().create(true).append(true).open(self.folder().join(LOG));
        let process = Command::new(program())
            .args([
                "--namespace",
                SYSTEM,
                "--watch-namespace",
                namespace,
                "--listen",
                "127.0.0.1:0",
                "--config",
            ])
            .arg(&config)
            .envs([("POD_NAME", "operator-0"), ("RUST_LOG", "info")])
            .env("KUBECONFIG", &self.plane.kubeconfig)
            .stdout(log.expect("a log"))
            .stderr(Stdio::inherit())
            .spawn();
        let operator = Operator(process.expect("the operator's program"));
        self.connect(namespace, &["first".to_owned()]).await;
        self.built(namespace, 1).await;
        operator
    }

    /// Applies connections.
    pub async fn connect(&self, namespace: &str, names: &[String]) {
        let api = Api::<MarketplaceConnection>::namespaced(self.client.clone(), namespace);
        stream::iter(names)
            .for_each_concurrent(CONCURRENCY, |name| {
                let api = api.clone();
                async move {
                    let connection = connection(name);
                    let params = PatchParams::apply("bench");
                    api.patch(name, &params, &Patch::Apply(&connection)).await.expect("applied");
                }
            })
            .await;
    }

    /// Waits until so many connections have the last of their children.
    pub async fn built(&self, namespace: &str, count: usize) {
        let sets = Api::<StatefulSet>::namespaced(self.client.clone(), namespace);
        let (began, limit) = (Instant::now(), Duration::from_mins(5));
        loop {
            // The rest is only counted: a whole list would slow down what is measured.
            let one = sets.list_metadata(&ListParams::default().limit(1)).await.expect("StatefulSets");
            let rest = one.metadata.remaining_item_count.unwrap_or_default();
            let found = one.items.len() + usize::try_from(rest).expect("a count");
            if found >= count {
                return;
            }
            assert!(began.elapsed() < limit, "{found} of {count} within {limit:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn connection(name: &str) -> Value {
    json!({"apiVersion": "marketrelay.dev/v1alpha1", "kind": "MarketplaceConnection", "metadata": {"name": name},
    "spec": {
        "bol": {}, "credentialsSecretRef": {"name": "bol-credentials"}, "storage": {"storageClassName": "disks"},
        "destination": {"webhook": {
            "url": "https://erp.acme.example/orders", "signingSecretRef": {"name": "erp-signing"}}},
    }})
}

/// Beside this one's folder.
fn program() -> PathBuf {
    let this = std::env::current_exe().expect("this program's path");
    let folder = this.parent().and_then(Path::parent).expect("the build's folder");
    folder.join("marketrelay-operator")
}

/// Ends when dropped.
pub struct Operator(Child);

impl Operator {
    /// Resident, in KiB.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its size");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("gone");
    }
}
