//! The operator in this process, as a ServiceAccount that has exactly the rights of `src/operator/rbac.yaml`. There is
//! no node and no controller here: pods and statuses of StatefulSets are what a test makes of them.

mod archives;
mod audit;
mod auditing;
mod backups;
mod children;
mod closures;
mod conflicts;
mod converging;
mod drift;
mod election;
mod erasures;
mod escrow;
mod events;
mod faults;
mod gate;
mod holds;
mod identities;
mod keyrings;
mod kubelet;
mod notices;
mod restores;
mod rights;
mod shortening;
mod stale;
mod steady;
mod waves;

use std::{net::SocketAddr, time::Duration};

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Secret, ServiceAccount},
    rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding},
    storage::v1::StorageClass,
};
use kube::{
    Api, Client, Config, Resource, ResourceExt,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    config::AuthInfo,
};
use marketrelay_api::{MarketplaceConnection, OperatorConfig};
use marketrelay_operator::{
    clock::Clock,
    names::PURGE,
    run::{Clients, Settings, run},
    scope::Scope,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use snafu::Whatever;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    samples::{Kind, create, yaml},
    support::{PLANE, Space, configuration, wait_for},
};

/// Looks again as often as it may.
const CONFIG: &str = "{relay: {image: 'registry.example/relay:1'}, controller: {statusIntervalSeconds: 5}}";
const ACCOUNT: &str = "marketrelay";

/// What the chart binds to the operator's ServiceAccount.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rights {
    cluster_role: Vec<PolicyRule>,
    role: Vec<PolicyRule>,
}

fn rights() -> Rights {
    serde_yaml::from_str(include_str!("../../../src/operator/rbac.yaml")).expect("rights")
}

/// A replica of the operator; it is killed when dropped.
struct Operator {
    stop: CancellationToken,
    task: JoinHandle<Result<(), Whatever>>,
    /// Of its own port.
    address: SocketAddr,
}

impl Operator {
    /// For the connections of a namespace, and living in it too.
    async fn start(space: &Space, config: &str) -> Self {
        Self::start_with(space, config, Clock::system()).await
    }

    /// The same, with a clock of its own.
    async fn start_with(space: &Space, config: &str, clock: Clock) -> Self {
        grant(space, space, &rights()).await;
        let access = configuration(&PLANE).await;
        Self::run(access, space, &[space], config, "operator-0", clock, |client| client).await
    }

    /// The same, with `through` between it and the API server, its lease aside.
    async fn start_through(space: &Space, config: &str, through: impl FnOnce(Client) -> Client) -> Self {
        grant(space, space, &rights()).await;
        let access = configuration(&PLANE).await;
        Self::run(access, space, &[space], config, "operator-0", Clock::system(), through).await
    }

    /// For the connections of several namespaces, living in the first.
    async fn start_over(spaces: &[&Space], config: &str, identity: &str) -> Self {
        let home = spaces[0];
        grant(home, home, &rights()).await;
        let access = configuration(&PLANE).await;
        Self::run(access, home, spaces, config, identity, Clock::system(), |client| client).await
    }

    /// Lives in `home` and works on `space`; `access` is an administrator's.
    async fn replica(access: Config, home: &Space, space: &Space, config: &str, identity: &str) -> Self {
        Self::run(access, home, &[space], config, identity, Clock::system(), |client| client).await
    }

    async fn run(
        access: Config,
        home: &Space,
        spaces: &[&Space],
        config: &str,
        identity: &str,
        clock: Clock,
        through: impl FnOnce(Client) -> Client,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let settings = Settings {
            config: OperatorConfig::parse(config).expect("a configuration"),
            namespace: home.name.clone(),
            identity: identity.to_owned(),
            scopes: spaces.iter().map(|space| Scope::Namespace(space.name.clone())).collect(),
            addresses: Some(std::sync::Arc::new(kubelet::address)),
            clock,
        };
        let mut work = access;
        work.auth_info = AuthInfo { token: Some(token(home).await.into()), ..AuthInfo::default() };
        let mut lease = work.clone();
        lease.default_retry = false;
        let client = |config| Client::try_from(config).expect("a client");
        let clients = Clients { work: through(client(work)), lease: client(lease) };
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(settings, clients, listener, stop.clone()));
        Self { stop, task, address }
    }

    /// Asks it to end, as SIGTERM does, and waits until it has.
    async fn stop(mut self) {
        self.stop.cancel();
        self.ended().await.expect("an orderly end");
    }

    /// Waits until it ends by itself.
    async fn ended(&mut self) -> Result<(), Whatever> {
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, &mut self.task).await.expect("it ends").expect("it doesn't panic")
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn token(home: &Space) -> String {
    let request = TokenRequest {
        spec: TokenRequestSpec { expiration_seconds: Some(3_600), ..TokenRequestSpec::default() },
        ..TokenRequest::default()
    };
    let accounts = home.api::<ServiceAccount>();
    let made = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await;
    made.expect("a token").status.expect("a status").token
}

async fn apply<K>(api: Api<K>, object: Value)
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Serialize + Clone + std::fmt::Debug,
{
    let mut object = object;
    object["apiVersion"] = json!(K::api_version(&()));
    object["kind"] = json!(K::kind(&()));
    let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
    let params = PatchParams::apply("api-server-tests").force();
    api.patch(&name, &params, &Patch::Apply(&object)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Makes the ServiceAccounts in `home` and binds both lists as the chart does.
async fn grant(home: &Space, space: &Space, rights: &Rights) {
    let client = &space.client;
    let name = format!("marketrelay-{}", space.name);
    let subjects = json!([{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": home.name}]);
    let binds =
        |kind: &str, role: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role});
    for account in [ACCOUNT, PURGE] {
        apply::<ServiceAccount>(home.api(), json!({"metadata": {"name": account}})).await;
    }
    let rules = &rights.cluster_role;
    apply::<ClusterRole>(Api::all(client.clone()), json!({"metadata": {"name": name}, "rules": rules})).await;
    let role = json!({"metadata": {"name": ACCOUNT}, "rules": rights.role});
    apply::<Role>(home.api(), role).await;
    let binding =
        json!({"metadata": {"name": name}, "subjects": subjects, "roleRef": binds("ClusterRole", &name)});
    apply::<ClusterRoleBinding>(Api::all(client.clone()), binding).await;
    let binding =
        json!({"metadata": {"name": ACCOUNT}, "subjects": subjects, "roleRef": binds("Role", ACCOUNT)});
    apply::<RoleBinding>(home.api(), binding).await;
}

/// The namespace's own encrypted StorageClass, and the Secrets that connections refer to.
async fn furnish(space: &Space) {
    class(space, &json!({"marketrelay.dev/encrypted": "true"})).await;
    let secrets = [
        ("bol-credentials", json!({"clientId": "a", "clientSecret": "b"})),
        ("erp-signing", json!({"signingSecret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})),
    ];
    for (name, entries) in secrets {
        apply::<Secret>(space.api(), json!({"metadata": {"name": name}, "stringData": entries})).await;
    }
}

async fn class(space: &Space, annotations: &Value) {
    let class = json!({
        "metadata": {"name": space.name, "annotations": annotations},
        "provisioner": "example.com/disks", "allowVolumeExpansion": true,
    });
    apply::<StorageClass>(Api::all(space.client.clone()), class).await;
}

/// Makes a connection in the namespace's StorageClass.
async fn connect(space: &Space, name: &str) -> DynamicObject {
    let change =
        format!("{{metadata: {{name: {name}}}, spec: {{storage: {{storageClassName: {}}}}}}}", space.name);
    create(space, Kind::Connection, &change).await
}

/// Changes an object; YAML.
async fn change<K>(space: &Space, name: &str, change: &str) -> K
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    K: DeserializeOwned + Clone + std::fmt::Debug,
{
    let changed = space.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(yaml(change))).await;
    changed.unwrap_or_else(|error| panic!("{change}: {error}"))
}

async fn connection(space: &Space, name: &str) -> MarketplaceConnection {
    space.api().get(name).await.expect("the connection")
}

/// Waits until Ready of the newest spec has this reason; gives its message.
async fn reason(space: &Space, name: &str, reason: &str) -> String {
    wait_for(space, &format!("{name} is {reason}"), async || {
        let connection = connection(space, name).await;
        let generation = connection.metadata.generation;
        let conditions = connection.status.unwrap_or_default().conditions;
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready")?;
        (ready.reason == reason && ready.observed_generation == generation).then_some(ready.message)
    })
    .await
}

/// Makes a connection whose children all exist.
async fn connected(space: &Space, name: &str) {
    connect(space, name).await;
    reason(space, name, "RelayStarting").await;
}

async fn identity(space: &Space, name: &str) -> String {
    let status = connection(space, name).await.status.unwrap_or_default();
    status.connection_id.expect("an identity")
}

async fn delete<K>(space: &Space, name: &str)
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    K: DeserializeOwned + Clone + std::fmt::Debug,
{
    let api = space.api::<K>();
    let there = api.get(name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    api.delete(name, &kube::api::DeleteParams::default())
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    wait_for(space, &format!("{name} is gone"), async || {
        let found = api.get_opt(name).await.expect("an answer");
        // The operator may have made another one already.
        found.is_none_or(|found| found.uid() != there.uid()).then_some(())
    })
    .await;
}

fn version(object: &impl ResourceExt) -> String {
    object.resource_version().expect("a version")
}
