//! What every test of this tier shares: one control plane, clients, namespaces, waiting.

use std::{
    panic::resume_unwind,
    process::Output,
    sync::LazyLock,
    time::{Duration, Instant},
};

use k8s_openapi::{
    NamespaceResourceScope, api::core::v1::Namespace,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{conditions::is_crd_established, wait::await_condition},
};
use marketrelay_api::{ConnectionRecord, ErasureRequest, MarketplaceConnection, RetentionPolicy, crds};
use serde::de::DeserializeOwned;
use tokio::{sync::OnceCell, task::LocalSet};
use xtask::cluster::ControlPlane;

/// Ends with the test process, however that ends.
pub static PLANE: LazyLock<ControlPlane> = LazyLock::new(|| ControlPlane::start().expect("a control plane"));
static DEFINITIONS: OnceCell<()> = OnceCell::const_new();
const MANAGER: &str = "api-server-tests";

/// An administrator's client to the control plane, with the CustomResourceDefinitions in place. Every test needs its
/// own: connections belong to the runtime that made them.
pub async fn client() -> Client {
    let client = Client::try_from(configuration(&PLANE).await).expect("a client");
    DEFINITIONS.get_or_init(|| install(client.clone())).await;
    client
}

/// An administrator's access to a control plane.
pub async fn configuration(plane: &ControlPlane) -> Config {
    let kubeconfig = Kubeconfig::read_from(&plane.kubeconfig).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a client configuration")
}

async fn install(client: Client) {
    let api = Api::<CustomResourceDefinition>::all(client);
    for definition in crds::all() {
        let name = definition.name_any();
        api.patch(&name, &PatchParams::apply(MANAGER), &Patch::Apply(&definition))
            .await
            .unwrap_or_else(|error| panic!("the API server doesn't accept {name}: {error}"));
        let established = await_condition(api.clone(), &name, is_crd_established());
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, established).await.expect("established in time").expect("established");
    }
}

/// A namespace of one test.
#[derive(Clone)]
pub struct Space {
    pub client: Client,
    pub name: String,
}

impl Space {
    /// A new namespace.
    pub async fn make(client: Client) -> Self {
        let namespaces = Api::<Namespace>::all(client.clone());
        let mut namespace = Namespace::default();
        namespace.metadata.generate_name = Some("test-".to_owned());
        let made = namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace");
        Self { client, name: made.name_any() }
    }

    /// No controller empties a namespace here: that is done by hand, and then its finalizer is taken away.
    pub async fn remove(&self) {
        delete_all::<MarketplaceConnection>(self).await;
        delete_all::<RetentionPolicy>(self).await;
        delete_all::<ErasureRequest>(self).await;
        delete_all::<ConnectionRecord>(self).await;
        let namespaces = Api::<Namespace>::all(self.client.clone());
        match namespaces.delete(&self.name, &DeleteParams::default()).await {
            // A test has begun it.
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            deleted => drop(deleted.expect("the namespace is deleted")),
        }
        let mut last = namespaces.get(&self.name).await.expect("the namespace until it is finalized");
        last.spec = None;
        namespaces
            .replace_subresource("finalize", &self.name, &PostParams::default(), &last)
            .await
            .expect("finalized");
    }

    /// Of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// kubectl in this namespace.
    pub fn kubectl(&self, words: &[&str]) -> Output {
        kubectl(&[&["--namespace", &self.name], words].concat())
    }

    /// What is in the namespace, for a person who looks for the reason of a failure.
    pub fn shown(&self) -> String {
        let kinds = "marketplaceconnections,retentionpolicies,erasurerequests,connectionrecords,statefulsets,cronjobs,jobs,pods,persistentvolumeclaims,services,secrets,configmaps";
        let objects = self.kubectl(&["get", kinds, "--output=wide"]);
        let conditions = self.kubectl(&["get", "marketrelay", "--output=yaml"]);
        let events = self.kubectl(&["get", "events", "--sort-by=.metadata.creationTimestamp"]);
        [objects, conditions, events].iter().map(text).collect::<Vec<_>>().join("\n")
    }
}

/// kubectl as the control plane's administrator.
pub fn kubectl(words: &[&str]) -> Output {
    PLANE.kubectl().args(words).output().expect("kubectl")
}

/// All that a command printed.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Runs a test in a namespace of its own and removes that afterwards, also when the test fails.
pub async fn with_namespace<F: Future<Output = ()> + 'static>(test: impl FnOnce(Space) -> F) {
    let space = Space::make(client().await).await;
    let local = LocalSet::new();
    let test = local.spawn_local(test(space.clone()));
    let outcome = local.run_until(test).await;
    if outcome.is_err() {
        eprintln!("what is in the namespace {}:\n{}", space.name, space.shown());
    }
    space.remove().await;
    if let Err(failed) = outcome {
        resume_unwind(failed.into_panic());
    }
}

async fn delete_all<K>(space: &Space)
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    let api = space.api::<K>();
    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await.expect("all are deleted");
}

/// Asks until there is an answer; after the deadline it fails and shows what is in the namespace.
pub async fn wait_for<T>(space: &Space, what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    const LIMIT: Duration = Duration::from_mins(1);
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < LIMIT, "{what}: not within {LIMIT:?}\n{}", space.shown());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
