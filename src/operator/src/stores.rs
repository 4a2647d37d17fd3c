//! What the operator knows of the cluster: watches that fill stores, and who is to be reconciled when something changes.

mod index;
mod plan;
mod records;
mod senders;
mod trim;
mod watched;

use std::sync::Arc;

use futures::future::{BoxFuture, Shared};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    storage::v1::StorageClass,
};
use kube::{
    Client, ResourceExt,
    api::PartialObjectMeta,
    runtime::reflector::{ObjectRef, Store},
};
use marketrelay_api::{ConnectionRecord, ErasureRequest, MarketplaceConnection, RetentionPolicy};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::scope::Scope;
use index::Index;
use plan::Plan;
pub use records::Records;
pub use senders::{Changes, Senders};
use watched::Watched;

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

/// A running set of watches; they end when it is dropped.
pub struct Watches {
    /// What they fill.
    pub stores: Arc<Stores>,
    records_read: Shared<BoxFuture<'static, ()>>,
    tasks: JoinSet<()>,
}

/// Starts watching a scope. `home` is the operator's namespace; `backups` is rung when Jobs of backups change.
pub fn watch(
    client: &Client,
    scope: &Scope,
    home: &str,
    records: &Records,
    backups: &Arc<Notify>,
) -> (Watches, Changes, Senders) {
    let (senders, changes) = Senders::new(home, backups);
    let mut plan = Plan::default();
    let watched = Watched { client, scope, senders: &senders, plan: &mut plan };
    let stores = Arc::new(watched.stores(records.store.clone()));
    (Watches { stores, records_read: records.read.clone(), tasks: plan.tasks }, changes, senders)
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
