//! Everything that a reconcile reads before it decides.

use std::sync::Arc;

use k8s_openapi::api::storage::v1::StorageClass;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use marketrelay_api::{MarketplaceConnection, RetentionPolicy, connection::Backup};

use super::{Context, backup::Credentials, children::Children, keys};
use crate::{
    names::Names,
    problem::Problem,
    secrets::{filled_entries, judge_credentials, judge_signing, judge_store},
    stores::Stores,
};

/// What was read.
pub struct Loaded {
    /// The connection.
    pub connection: Arc<MarketplaceConnection>,
    /// The policy that it names, if there is one.
    pub policy: Option<Arc<RetentionPolicy>>,
    /// Of the Secret in `credentialsSecretRef`; `None` if there is none.
    pub credentials: Option<Result<(), Problem>>,
    /// Of the Secret in `signingSecretRef`; `None` if there is none.
    pub signing: Option<Result<(), Problem>>,
    /// Of the Secrets of its backups' stores.
    pub stores: Credentials,
    /// The volume's class.
    pub class: Class,
    /// The children that exist.
    pub children: Children,
    /// The keys that exist.
    pub keys: keys::Found,
}

/// The StorageClass that a volume is in or would be in.
pub enum Class {
    /// Neither the connection nor the operator nor the cluster names one.
    None,
    /// There is none of this name.
    Missing(String),
    /// This one.
    Found(Arc<StorageClass>),
}

/// Reads from the stores, and from the API server what the stores don't hold.
pub async fn load(connection: Arc<MarketplaceConnection>, context: &Context) -> kube::Result<Loaded> {
    let namespace = connection.namespace().unwrap_or_default();
    let stores = &context.stores;
    let spec = &connection.spec;
    let policy = stores.policy(&connection);
    let credentials = match spec.marketplace() {
        None => None,
        Some(marketplace) => {
            let name = &spec.credentials_secret_ref.name;
            let found =
                context.credentials.get(&context.client, &stores.secrets, &namespace, name, filled_entries);
            found.await?.map(|filled| judge_credentials(name, &filled, marketplace))
        }
    };
    let name = &spec.destination.webhook.signing_secret_ref.name;
    let signing =
        context.signing.get(&context.client, &stores.secrets, &namespace, name, judge_signing).await?;
    let of_stores = store_credentials(&connection, context).await?;
    let children = Children::load(stores, &namespace, Names(&connection.name_any()));
    let name = connection.name_any();
    let names = Names(&name);
    let keys = keys::find(context, &namespace, names, initialised(&connection, &children, stores)).await?;
    let class = class(&connection, &children, context);
    Ok(Loaded { connection, policy, credentials, signing, stores: of_stores, class, children, keys })
}

async fn store_credentials(
    connection: &MarketplaceConnection,
    context: &Context,
) -> kube::Result<Credentials> {
    let namespace = connection.namespace().unwrap_or_default();
    let mut found = Credentials::new();
    for (site, s3) in connection.spec.backup.iter().flat_map(Backup::sites) {
        let (client, secrets, name) =
            (&context.client, &context.stores.secrets, &s3.credentials_secret_ref.name);
        let filled = context.credentials.get(client, secrets, &namespace, name, filled_entries).await?;
        let field = format!("spec.backup.{}.s3.credentialsSecretRef", site.field());
        found.extend(filled.map(|filled| (site, judge_store(&field, name, &filled))));
    }
    Ok(found)
}

/// Who has had keys, as statuses and volumes show.
pub fn initialised(
    connection: &MarketplaceConnection,
    children: &Children,
    stores: &Stores,
) -> keys::Initialised {
    let has_id = connection.status.as_ref().is_some_and(|status| status.connection_id.is_some());
    let this = has_id || children.claim.is_some();
    let namespace = connection.metadata.namespace.as_deref();
    let has_claim = stores.claims.find(|claim| claim.metadata.namespace.as_deref() == namespace).is_some();
    keys::Initialised { connection: this, namespace: this || has_claim }
}

fn class(connection: &MarketplaceConnection, children: &Children, context: &Context) -> Class {
    let storage = &connection.spec.storage;
    let existing = children.claim.as_ref().and_then(|claim| claim.spec.as_ref()?.storage_class_name.clone());
    let configured = &context.config.storage.default_storage_class_name;
    let name = storage.storage_class_name.clone().or(existing).or_else(|| configured.clone());
    match name.or_else(|| cluster_default(context)) {
        None => Class::None,
        Some(name) => {
            context.stores.classes.get(&ObjectRef::new(&name)).map_or(Class::Missing(name), Class::Found)
        }
    }
}

const IS_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";

/// Of several defaults Kubernetes takes the newest.
fn cluster_default(context: &Context) -> Option<String> {
    let defaults = context
        .stores
        .classes
        .state_filter(|class| class.annotations().get(IS_DEFAULT).is_some_and(|value| value == "true"));
    let newest = defaults.iter().max_by_key(|class| class.creation_timestamp().map(|time| time.0));
    newest.map(|class| class.name_any())
}
