//! What is watched in a scope, and whom each kind concerns.

use std::sync::Arc;

use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::{Pod, Secret},
    storage::v1::StorageClass,
};
use kube::{
    Client, ResourceExt,
    api::PartialObjectMeta,
    runtime::{
        reflector::Store,
        watcher::{self, watcher},
    },
};
use marketrelay_api::{
    ConnectionRecord, ErasureRequest, MarketplaceConnection, RetentionPolicy, connection::Backup, labels,
};
use tokio::sync::watch;

use super::{
    Stores,
    index::Index,
    plan::Plan,
    senders::Senders,
    trim::{bare, without_managed_fields, without_spec, without_template},
    users,
};
use crate::{
    controllers::keyring::{facts::is_keyring, identities::facts::is_identities},
    scope::Scope,
};

/// The watches of a scope that are being made.
pub struct Watched<'a> {
    pub client: &'a Client,
    pub scope: &'a Scope,
    pub senders: &'a Senders,
    pub plan: &'a mut Plan,
}

impl Watched<'_> {
    /// All of them.
    pub fn stores(mut self, records: Store<ConnectionRecord>) -> Stores {
        let connections = self.connections();
        let policies = self.policies(&connections);
        let erasures = self.erasures();
        let secrets = self.secrets(&connections, &erasures);
        let classes = self.classes(&connections);
        let (pods, job_pods_of) = self.pods();
        let (jobs, jobs_of) = self.jobs();
        let cron_jobs = self.cron_jobs();
        let Self { client, scope, senders, plan } = self;
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
            claims: plan.ours(scope.api(client), without_managed_fields, senders),
            pods,
            cron_jobs,
            jobs,
            jobs_of,
            job_pods_of,
            read: watch::Sender::new(false),
            records,
        }
    }

    fn connections(&mut self) -> Store<MarketplaceConnection> {
        let senders = self.senders.clone();
        let tell = move |connection: &MarketplaceConnection| {
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
        };
        let events = watcher(self.scope.api(self.client), watcher::Config::default());
        self.plan.watch(events, without_managed_fields, tell)
    }

    fn policies(&mut self, connections: &Store<MarketplaceConnection>) -> Store<RetentionPolicy> {
        let (senders, connections) = (self.senders.clone(), connections.clone());
        let tell = move |policy: &RetentionPolicy| {
            senders.policy(policy.namespace(), &policy.name_any());
            for connection in users(&connections, policy) {
                senders.connection(connection.namespace(), &connection.name_any());
                senders.keyring(connection.namespace(), &connection.name_any());
            }
        };
        let events = watcher(self.scope.api(self.client), watcher::Config::default());
        self.plan.watch(events, without_managed_fields, tell)
    }

    fn erasures(&mut self) -> Store<ErasureRequest> {
        let senders = self.senders.clone();
        let events = watcher(self.scope.api(self.client), watcher::Config::default());
        self.plan.watch(events, without_managed_fields, move |request| senders.erasure(request))
    }

    /// Metadata of every Secret: others than ours hold credentials.
    fn secrets(
        &mut self,
        connections: &Store<MarketplaceConnection>,
        erasures: &Store<ErasureRequest>,
    ) -> Store<PartialObjectMeta<Secret>> {
        let (senders, connections, erasures) = (self.senders.clone(), connections.clone(), erasures.clone());
        let tell = move |secret: &PartialObjectMeta<Secret>| {
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
            keys(&senders, secret);
        };
        let events =
            watcher(self.scope.api::<PartialObjectMeta<Secret>>(self.client), watcher::Config::default());
        self.plan.watch(events, bare, tell)
    }

    fn classes(&mut self, connections: &Store<MarketplaceConnection>) -> Store<StorageClass> {
        let (senders, connections) = (self.senders.clone(), connections.clone());
        let tell = move |_: &StorageClass| {
            for connection in connections.state() {
                senders.connection(connection.namespace(), &connection.name_any());
            }
        };
        let events = watcher(Scope::cluster(self.client), watcher::Config::default());
        self.plan.watch(events, without_managed_fields, tell)
    }

    /// Our pods, and by connection those of Jobs.
    fn pods(&mut self) -> (Store<Pod>, Arc<Index>) {
        let index = Arc::<Index>::default();
        let noted = index.clone();
        let note = move |pod: &Pod| {
            if pod.labels().get(labels::COMPONENT).is_some_and(|component| component == labels::BACKUP) {
                noted.note(pod);
            }
        };
        (self.plan.ours_noted(self.scope.api(self.client), without_spec, self.senders, note), index)
    }

    /// Our Jobs, and the same by connection.
    fn jobs(&mut self) -> (Store<Job>, Arc<Index>) {
        let index = Arc::<Index>::default();
        let (noted, bell) = (index.clone(), self.senders.backups.clone());
        let note = move |job: &Job| {
            noted.note(job);
            bell.notify_one();
        };
        (self.plan.ours_noted(self.scope.api(self.client), without_template, self.senders, note), index)
    }

    fn cron_jobs(&mut self) -> Store<CronJob> {
        let bell = self.senders.backups.clone();
        let ring = move |_: &CronJob| bell.notify_one();
        self.plan.ours_noted(self.scope.api(self.client), without_managed_fields, self.senders, ring)
    }
}

/// Keyrings and identities of backups follow each other.
fn keys(senders: &Senders, secret: &PartialObjectMeta<Secret>) {
    let Some(connection) = secret.labels().get(labels::CONNECTION) else { return };
    senders.retained.notify_one();
    if is_identities(secret) {
        senders.identities(secret.namespace(), connection);
        senders.keyring(secret.namespace(), connection);
    } else if is_keyring(secret) {
        senders.keyring(secret.namespace(), connection);
    }
}

fn refers_to_secret(connection: &MarketplaceConnection, name: &str) -> bool {
    let spec = &connection.spec;
    let mut sites = spec.backup.iter().flat_map(Backup::sites);
    spec.credentials_secret_ref.name == name
        || spec.destination.webhook.signing_secret_ref.name == name
        || sites.any(|(_, s3)| s3.credentials_secret_ref.name == name)
}
