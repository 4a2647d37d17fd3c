//! What the operator knows of the cluster: watches that fill stores, and who is to be reconciled when something changes.

mod index;

use std::{fmt::Debug, sync::Arc};

use futures::{
    FutureExt, StreamExt,
    channel::mpsc,
    future::{BoxFuture, Shared},
    pin_mut,
};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, PodTemplateSpec, Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    storage::v1::StorageClass,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher::{self, watcher},
    },
};
use marketrelay_api::{
    ConnectionRecord, ErasureRequest, MarketplaceConnection, RetentionPolicy, connection::Backup, labels,
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::{
    controllers::keyring::{facts::is_keyring, identities::facts::is_identities},
    names::Names,
    scope::Scope,
};
use index::Index;

/// Everything that is watched in one scope.
pub struct Stores {
    /// Connections.
    pub connections: Store<MarketplaceConnection>,
    /// Policies.
    pub policies: Store<RetentionPolicy>,
    /// Erasure requests.
    pub erasures: Store<ErasureRequest>,
    /// Metadata of every Secret.
    pub secrets: Store<PartialObjectMeta<Secret>>,
    /// Storage classes.
    pub classes: Store<StorageClass>,
    /// Our StatefulSets.
    pub stateful_sets: Store<StatefulSet>,
    /// Our ConfigMaps.
    pub config_maps: Store<ConfigMap>,
    /// Our Services.
    pub services: Store<Service>,
    /// Our ServiceAccounts.
    pub service_accounts: Store<ServiceAccount>,
    /// Our NetworkPolicies.
    pub network_policies: Store<NetworkPolicy>,
    /// Our volume claims.
    pub claims: Store<PersistentVolumeClaim>,
    /// Our pods, without their specs.
    pub pods: Store<Pod>,
    /// Our CronJobs.
    pub cron_jobs: Store<CronJob>,
    /// Our Jobs, without their pods' templates.
    pub jobs: Store<Job>,
    /// By connection: the above.
    jobs_of: Arc<Index>,
    /// By connection: the pods of its Jobs.
    job_pods_of: Arc<Index>,
    /// Whether everything is read.
    read: watch::Sender<bool>,
    /// The records of all connections, those of other scopes too.
    pub records: Store<ConnectionRecord>,
}

impl Stores {
    /// The policy that a connection names, if there is one.
    pub fn policy(&self, connection: &MarketplaceConnection) -> Option<Arc<RetentionPolicy>> {
        let reference = connection.spec.retention_policy_ref.as_ref()?;
        let namespace = connection.namespace().unwrap_or_default();
        self.policies.get(&ObjectRef::new(&reference.name).within(&namespace))
    }

    /// The Jobs of a connection, and their pods.
    pub fn jobs(&self, connection: &ObjectRef<MarketplaceConnection>) -> (Vec<Arc<Job>>, Vec<Arc<Pod>>) {
        (self.jobs_of.of(&self.jobs, connection), self.job_pods_of.of(&self.pods, connection))
    }

    /// Tells when everything is read.
    pub fn read(&self) -> watch::Receiver<bool> {
        self.read.subscribe()
    }
}

/// What watches tell.
pub struct Changes {
    /// Connections to reconcile.
    pub connections: mpsc::UnboundedReceiver<ObjectRef<MarketplaceConnection>>,
    /// Policies to reconcile.
    pub policies: mpsc::UnboundedReceiver<ObjectRef<RetentionPolicy>>,
    /// Erasure requests to reconcile.
    pub erasures: mpsc::UnboundedReceiver<ObjectRef<ErasureRequest>>,
    /// Keyrings and identities of backups to reconcile.
    pub keyrings: mpsc::UnboundedReceiver<ObjectRef<PartialObjectMeta<Secret>>>,
    /// Records of this scope's connections to reconcile.
    pub records: mpsc::UnboundedReceiver<ObjectRef<ConnectionRecord>>,
    /// Rung when something came or went that may have to be marked as retained.
    pub retained: Arc<Notify>,
}

/// A running set of watches; they end when it is dropped.
pub struct Watches {
    /// What they fill.
    pub stores: Arc<Stores>,
    records_read: Shared<BoxFuture<'static, ()>>,
    tasks: JoinSet<()>,
}

/// Whom the watches of a scope tell.
#[derive(Clone)]
pub struct Senders {
    /// The operator's namespace, where the records are.
    home: Arc<str>,
    records: mpsc::UnboundedSender<ObjectRef<ConnectionRecord>>,
    connections: mpsc::UnboundedSender<ObjectRef<MarketplaceConnection>>,
    policies: mpsc::UnboundedSender<ObjectRef<RetentionPolicy>>,
    erasures: mpsc::UnboundedSender<ObjectRef<ErasureRequest>>,
    keyrings: mpsc::UnboundedSender<ObjectRef<PartialObjectMeta<Secret>>>,
    retained: Arc<Notify>,
    backups: Arc<Notify>,
}

impl Senders {
    /// A closed channel: the controllers have ended, and the watches end too.
    fn connection(&self, namespace: Option<String>, name: &str) {
        let reference = ObjectRef::new(name).within(&namespace.unwrap_or_default());
        let _ended = self.connections.unbounded_send(reference);
    }

    fn policy(&self, namespace: Option<String>, name: &str) {
        let reference = ObjectRef::new(name).within(&namespace.unwrap_or_default());
        let _ended = self.policies.unbounded_send(reference);
    }

    fn erasure(&self, request: &ErasureRequest) {
        let _ended = self.erasures.unbounded_send(ObjectRef::from_obj(request));
    }

    fn keyring(&self, namespace: Option<String>, connection: &str) {
        let reference = ObjectRef::new(&Names(connection).keyring()).within(&namespace.unwrap_or_default());
        let _ended = self.keyrings.unbounded_send(reference);
    }

    fn identities(&self, namespace: Option<String>, connection: &str) {
        let name = Names(connection).backup_identities();
        let _ended =
            self.keyrings.unbounded_send(ObjectRef::new(&name).within(&namespace.unwrap_or_default()));
    }

    fn record(&self, id: &str) {
        let _ended = self.records.unbounded_send(ObjectRef::new(id).within(&self.home));
    }

    /// The connection that an object of ours belongs to, and its record.
    fn owner(&self, object: &impl ResourceExt) {
        if let Some(name) = object.labels().get(labels::CONNECTION) {
            self.connection(object.namespace(), name);
        }
        if let Some(id) = object.labels().get(labels::CONNECTION_ID) {
            self.record(id);
        }
    }
}

/// Where each watch stores what it sees and whom it tells.
struct Plan {
    tasks: JoinSet<()>,
}

impl Plan {
    fn watch<K>(
        &mut self,
        events: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
        trim: fn(&mut K),
        tell: impl Fn(&K) + Send + 'static,
    ) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    {
        let (reader, writer) = reflector::store();
        self.reflect(writer, events, trim, tell);
        reader
    }

    fn reflect<K>(
        &mut self,
        writer: reflector::store::Writer<K>,
        events: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
        trim: fn(&mut K),
        tell: impl Fn(&K) + Send + 'static,
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    {
        let stream = events.default_backoff().modify(trim).reflect(writer).touched_objects();
        self.tasks.spawn(async move {
            pin_mut!(stream);
            while let Some(result) = stream.next().await {
                match result {
                    Ok(object) => tell(&object),
                    Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "a watch is interrupted"),
                }
            }
        });
    }

    fn ours<K>(&mut self, api: Api<K>, trim: fn(&mut K), senders: &Senders) -> Store<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    {
        self.ours_noted(api, trim, senders, |_| {})
    }

    /// `note` comes before anybody is told.
    fn ours_noted<K>(
        &mut self,
        api: Api<K>,
        trim: fn(&mut K),
        senders: &Senders,
        note: impl Fn(&K) + Send + 'static,
    ) -> Store<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    {
        let only = watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::OPERATOR));
        let senders = senders.clone();
        self.watch(watcher(api, only), trim, move |object| {
            note(object);
            senders.owner(object);
        })
    }
}

fn without_managed_fields<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

fn without_spec(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    pod.spec = None;
}

fn without_template(job: &mut Job) {
    job.metadata.managed_fields = None;
    if let Some(spec) = &mut job.spec {
        spec.template = PodTemplateSpec::default();
    }
}

/// Of Secrets, the last applied configuration would hold their contents.
fn bare(secret: &mut PartialObjectMeta<Secret>) {
    secret.metadata.managed_fields = None;
    if let Some(annotations) = &mut secret.metadata.annotations {
        annotations.retain(|name, _| name.starts_with("marketrelay.dev/"));
    }
}

/// The records of all connections; each scope is told of its own.
pub struct Records {
    store: Store<ConnectionRecord>,
    writer: reflector::store::Writer<ConnectionRecord>,
    /// A store wakes the last of those that wait for it and no other, so this waits for all scopes.
    read: Shared<BoxFuture<'static, ()>>,
}

impl Records {
    /// Not watched yet.
    pub fn new() -> Self {
        let (store, writer) = reflector::store();
        let awaited = store.clone();
        let read = async move {
            // The writer lives as long as its watch, which only ends with us.
            let _never_dropped = awaited.wait_until_ready().await;
        };
        Self { store, writer, read: read.boxed().shared() }
    }

    /// Watches until dropped. `scopes` are those of which `watch` has begun.
    pub fn watch(self, client: &Client, home: &str, scopes: Vec<(Scope, Senders)>) -> JoinSet<()> {
        let mut plan = Plan { tasks: JoinSet::new() };
        let events = watcher(Api::namespaced(client.clone(), home), watcher::Config::default());
        plan.reflect(self.writer, events, without_managed_fields, move |record: &ConnectionRecord| {
            let spec = &record.spec;
            for (_, senders) in scopes.iter().filter(|(scope, _)| scope.covers(&spec.namespace)) {
                senders.record(&record.name_any());
                senders.connection(Some(spec.namespace.clone()), &spec.connection);
            }
        });
        plan.tasks
    }
}

impl Default for Records {
    fn default() -> Self {
        Self::new()
    }
}

/// Starts watching a scope. `home` is the operator's namespace; `backups` is rung when Jobs of backups change.
pub fn watch(
    client: &Client,
    scope: &Scope,
    home: &str,
    records: &Records,
    backups: &Arc<Notify>,
) -> (Watches, Changes, Senders) {
    let (connections, connection_changes) = mpsc::unbounded();
    let (policies, policy_changes) = mpsc::unbounded();
    let (erasures, erasure_changes) = mpsc::unbounded();
    let (keyrings, keyring_changes) = mpsc::unbounded();
    let (closures, record_changes) = mpsc::unbounded();
    let retained = Arc::new(Notify::new());
    let senders = Senders {
        home: home.into(),
        records: closures,
        connections,
        policies,
        erasures,
        keyrings,
        retained: retained.clone(),
        backups: backups.clone(),
    };
    let mut plan = Plan { tasks: JoinSet::new() };
    let stores = Arc::new(stores(client, scope, &senders, &mut plan, records.store.clone()));
    let changes = Changes {
        connections: connection_changes,
        policies: policy_changes,
        erasures: erasure_changes,
        keyrings: keyring_changes,
        records: record_changes,
        retained,
    };
    (Watches { stores, records_read: records.read.clone(), tasks: plan.tasks }, changes, senders)
}

fn stores(
    client: &Client,
    scope: &Scope,
    senders: &Senders,
    plan: &mut Plan,
    records: Store<ConnectionRecord>,
) -> Stores {
    let config = watcher::Config::default;
    let connections = plan.watch(watcher(scope.api(client), config()), without_managed_fields, {
        let senders = senders.clone();
        move |connection: &MarketplaceConnection| {
            senders.connection(connection.namespace(), &connection.name_any());
            senders.keyring(connection.namespace(), &connection.name_any());
            if connection.spec.backup.is_some() {
                senders.identities(connection.namespace(), &connection.name_any());
            }
            if let Some(policy) = &connection.spec.retention_policy_ref {
                senders.policy(connection.namespace(), &policy.name);
            }
            if let Some(id) = connection.status.as_ref().and_then(|status| status.connection_id.as_ref()) {
                senders.record(id);
            }
            senders.retained.notify_one();
        }
    });
    let policies = plan.watch(watcher(scope.api(client), config()), without_managed_fields, {
        let (senders, connections) = (senders.clone(), connections.clone());
        move |policy: &RetentionPolicy| {
            senders.policy(policy.namespace(), &policy.name_any());
            for connection in users(&connections, policy) {
                senders.connection(connection.namespace(), &connection.name_any());
                senders.keyring(connection.namespace(), &connection.name_any());
            }
        }
    });
    let erasures = plan.watch(watcher(scope.api(client), config()), without_managed_fields, {
        let senders = senders.clone();
        move |request: &ErasureRequest| senders.erasure(request)
    });
    let secrets = plan.watch(watcher(scope.api::<PartialObjectMeta<Secret>>(client), config()), bare, {
        let (senders, connections, erasures) = (senders.clone(), connections.clone(), erasures.clone());
        move |secret: &PartialObjectMeta<Secret>| {
            senders.owner(secret);
            let (namespace, name) = (secret.namespace(), secret.name_any());
            for connection in connections.state_filter(|connection| {
                connection.namespace() == namespace && refers_to_secret(connection, &name)
            }) {
                senders.connection(connection.namespace(), &connection.name_any());
            }
            let subject = |request: &ErasureRequest| {
                let named = request.spec.subject.secret_ref.as_ref();
                request.namespace() == namespace && named.is_some_and(|secret| secret.name == name)
            };
            erasures.state_filter(subject).iter().for_each(|request| senders.erasure(request));
            if let Some(connection) = secret.labels().get(labels::CONNECTION) {
                senders.retained.notify_one();
                if is_identities(secret) {
                    senders.identities(namespace.clone(), connection);
                    senders.keyring(namespace, connection);
                } else if is_keyring(secret) {
                    senders.keyring(namespace, connection);
                }
            }
        }
    });
    let classes = plan.watch(watcher(Scope::cluster(client), config()), without_managed_fields, {
        let (senders, connections) = (senders.clone(), connections.clone());
        move |_: &StorageClass| {
            for connection in connections.state() {
                senders.connection(connection.namespace(), &connection.name_any());
            }
        }
    });
    let claims = plan.ours(scope.api(client), without_managed_fields, senders);
    let (pods, job_pods_of) = pods(client, scope, senders, plan);
    let (jobs, jobs_of) = jobs(client, scope, senders, plan);
    let bell = senders.backups.clone();
    let ring = move |_: &CronJob| bell.notify_one();
    let cron_jobs = plan.ours_noted(scope.api(client), without_managed_fields, senders, ring);
    Stores {
        connections,
        policies,
        erasures,
        secrets,
        classes,
        stateful_sets: plan.ours(scope.api(client), without_managed_fields, senders),
        config_maps: plan.ours(scope.api(client), without_managed_fields, senders),
        services: plan.ours(scope.api(client), without_managed_fields, senders),
        service_accounts: plan.ours(scope.api(client), without_managed_fields, senders),
        network_policies: plan.ours(scope.api(client), without_managed_fields, senders),
        claims,
        pods,
        cron_jobs,
        jobs,
        jobs_of,
        job_pods_of,
        read: watch::Sender::new(false),
        records,
    }
}

/// Our pods, and by connection those of Jobs.
fn pods(client: &Client, scope: &Scope, senders: &Senders, plan: &mut Plan) -> (Store<Pod>, Arc<Index>) {
    let index = Arc::<Index>::default();
    let noted = index.clone();
    let pods = plan.ours_noted(scope.api(client), without_spec, senders, move |pod: &Pod| {
        if pod.labels().get(labels::COMPONENT).is_some_and(|component| component == labels::BACKUP) {
            noted.note(pod);
        }
    });
    (pods, index)
}

/// Our Jobs, and the same by connection.
fn jobs(client: &Client, scope: &Scope, senders: &Senders, plan: &mut Plan) -> (Store<Job>, Arc<Index>) {
    let index = Arc::<Index>::default();
    let (noted, bell) = (index.clone(), senders.backups.clone());
    let jobs = plan.ours_noted(scope.api(client), without_template, senders, move |job: &Job| {
        noted.note(job);
        bell.notify_one();
    });
    (jobs, index)
}

fn refers_to_secret(connection: &MarketplaceConnection, name: &str) -> bool {
    let spec = &connection.spec;
    let mut sites = spec.backup.iter().flat_map(Backup::sites);
    spec.credentials_secret_ref.name == name
        || spec.destination.webhook.signing_secret_ref.name == name
        || sites.any(|(_, s3)| s3.credentials_secret_ref.name == name)
}

/// The connections that refer to a policy.
pub fn users(
    connections: &Store<MarketplaceConnection>,
    policy: &RetentionPolicy,
) -> Vec<Arc<MarketplaceConnection>> {
    let (namespace, name) = (policy.namespace(), policy.name_any());
    connections.state_filter(|connection| {
        connection.namespace() == namespace
            && connection.spec.retention_policy_ref.as_ref().is_some_and(|policy| policy.name == name)
    })
}

impl Watches {
    /// Waits until every store holds what is there now.
    pub async fn ready(&self) {
        let stores = &self.stores;
        // A store's writer lives as long as its watch, which only ends with us.
        let _never_dropped = tokio::join!(
            stores.connections.wait_until_ready(),
            stores.policies.wait_until_ready(),
            stores.erasures.wait_until_ready(),
            stores.secrets.wait_until_ready(),
            stores.classes.wait_until_ready(),
            stores.stateful_sets.wait_until_ready(),
            stores.config_maps.wait_until_ready(),
            stores.services.wait_until_ready(),
            stores.service_accounts.wait_until_ready(),
            stores.network_policies.wait_until_ready(),
            stores.claims.wait_until_ready(),
            stores.pods.wait_until_ready(),
            stores.cron_jobs.wait_until_ready(),
            stores.jobs.wait_until_ready(),
            self.records_read.clone(),
        );
        stores.read.send_replace(true);
        tracing::info!(watches = self.tasks.len(), "everything is read");
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;

    use super::Records;

    #[tokio::test]
    async fn every_scope_learns_that_the_records_are_read() {
        let mut records = Records::new();
        let scopes = [(); 3].map(|()| tokio::spawn(records.read.clone()));
        tokio::task::yield_now().await;
        records.writer.apply_watcher_event(&Event::Init);
        records.writer.apply_watcher_event(&Event::InitDone);
        for scope in scopes {
            let limit = std::time::Duration::from_secs(10);
            tokio::time::timeout(limit, scope).await.expect("it is woken").expect("it doesn't panic");
        }
    }
}
