//! Tenants: a namespace each, with the Secrets that its connection refers to, and the connection.

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use marketrelay_api::MarketplaceConnection;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Of every tenant's only connection.
pub const CONNECTION: &str = "bol";
/// Calls at the same time.
const CALLS: usize = 16;
/// Numbers of the same length: the names sort as they do.
const FIRST: usize = 1_000;

/// The namespaces of so many tenants.
pub fn namespaces(count: usize) -> Vec<String> {
    (FIRST..FIRST + count).map(|number| format!("tenant-{number}")).collect()
}

/// Makes the tenants, with backups every minute at both sites.
pub async fn make(client: &Client, namespaces: &[String]) {
    for_each(namespaces, async |namespace| furnish(client, namespace).await).await;
    for_each(namespaces, async |namespace| {
        create::<MarketplaceConnection>(Api::namespaced(client.clone(), namespace), connection()).await;
    })
    .await;
}

/// No backups are taken from now on.
pub async fn suspend(client: &Client, namespaces: &[String]) {
    for_each(namespaces, async |namespace| {
        let api = Api::<MarketplaceConnection>::namespaced(client.clone(), namespace);
        let patch = Patch::Merge(json!({"spec": {"backup": {"suspend": true}}}));
        api.patch(CONNECTION, &PatchParams::default(), &patch).await.expect("suspended");
    })
    .await;
}

async fn for_each(namespaces: &[String], deed: impl AsyncFn(&str)) {
    stream::iter(namespaces).for_each_concurrent(CALLS, |namespace| deed(namespace)).await;
}

async fn furnish(client: &Client, namespace: &str) {
    create::<Namespace>(Api::all(client.clone()), json!({"metadata": {"name": namespace}})).await;
    let store = json!({"accessKeyId": "a", "secretAccessKey": "b"});
    for (name, entries) in [
        ("bol-credentials", json!({"clientId": "a", "clientSecret": "b"})),
        ("erp-signing", json!({"signingSecret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})),
        ("onsite-s3", store.clone()),
        ("offsite-s3", store),
    ] {
        let secret = json!({"metadata": {"name": name}, "stringData": entries});
        create::<Secret>(Api::namespaced(client.clone(), namespace), secret).await;
    }
}

async fn create<K>(api: Api<K>, mut object: Value)
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Serialize + Clone + std::fmt::Debug,
{
    object["apiVersion"] = json!(K::api_version(&()));
    object["kind"] = json!(K::kind(&()));
    let object = serde_json::from_value(object).expect("an object");
    api.create(&PostParams::default(), &object).await.unwrap_or_else(|error| panic!("{object:?}: {error}"));
}

fn connection() -> Value {
    let s3 = |secret: &str| json!({"s3": {"credentialsSecretRef": {"name": secret}}});
    json!({"metadata": {"name": CONNECTION}, "spec": {
        "bol": {}, "credentialsSecretRef": {"name": "bol-credentials"}, "storage": {"storageClassName": "disks"},
        "destination": {"webhook": {
            "url": "https://erp.acme.example/orders", "signingSecretRef": {"name": "erp-signing"}}},
        "backup": {"schedule": "* * * * *", "onSite": s3("onsite-s3"), "offSite": s3("offsite-s3")},
    }})
}
