//! Who is to be reconciled when something changes.

use std::sync::Arc;

use futures::channel::mpsc;
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, api::PartialObjectMeta, runtime::reflector::ObjectRef};
use marketrelay_api::{ConnectionRecord, ErasureRequest, MarketplaceConnection, RetentionPolicy, labels};
use tokio::sync::Notify;

use crate::names::Names;

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
    /// Rung when something came or went that may have to be marked as retained.
    pub retained: Arc<Notify>,
    /// Rung when Jobs of backups change.
    pub backups: Arc<Notify>,
}

impl Senders {
    /// `home` is the operator's namespace; `backups` is rung when Jobs of backups change.
    pub fn new(home: &str, backups: &Arc<Notify>) -> (Self, Changes) {
        let (connections, connection_changes) = mpsc::unbounded();
        let (policies, policy_changes) = mpsc::unbounded();
        let (erasures, erasure_changes) = mpsc::unbounded();
        let (keyrings, keyring_changes) = mpsc::unbounded();
        let (records, record_changes) = mpsc::unbounded();
        let retained = Arc::new(Notify::new());
        let changes = Changes {
            connections: connection_changes,
            policies: policy_changes,
            erasures: erasure_changes,
            keyrings: keyring_changes,
            records: record_changes,
            retained: retained.clone(),
        };
        let (home, backups) = (home.into(), backups.clone());
        (Self { home, records, connections, policies, erasures, keyrings, retained, backups }, changes)
    }

    /// Has a connection reconciled. A closed channel: the controllers have ended, and the watches end too.
    pub fn connection(&self, namespace: Option<String>, name: &str) {
        let reference = ObjectRef::new(name).within(&namespace.unwrap_or_default());
        let _ended = self.connections.unbounded_send(reference);
    }

    /// Has a policy reconciled.
    pub fn policy(&self, namespace: Option<String>, name: &str) {
        let reference = ObjectRef::new(name).within(&namespace.unwrap_or_default());
        let _ended = self.policies.unbounded_send(reference);
    }

    /// Has an erasure request reconciled.
    pub fn erasure(&self, request: &ErasureRequest) {
        let _ended = self.erasures.unbounded_send(ObjectRef::from_obj(request));
    }

    /// Has a connection's keyring reconciled.
    pub fn keyring(&self, namespace: Option<String>, connection: &str) {
        let reference = ObjectRef::new(&Names(connection).keyring()).within(&namespace.unwrap_or_default());
        let _ended = self.keyrings.unbounded_send(reference);
    }

    /// Has the identities of a connection's backups reconciled.
    pub fn identities(&self, namespace: Option<String>, connection: &str) {
        let name = Names(connection).backup_identities();
        let _ended =
            self.keyrings.unbounded_send(ObjectRef::new(&name).within(&namespace.unwrap_or_default()));
    }

    /// Has a connection's record reconciled.
    pub fn record(&self, id: &str) {
        let _ended = self.records.unbounded_send(ObjectRef::new(id).within(&self.home));
    }

    /// Has the connection that an object of ours belongs to reconciled, and its record.
    pub fn owner(&self, object: &impl ResourceExt) {
        if let Some(name) = object.labels().get(labels::CONNECTION) {
            self.connection(object.namespace(), name);
        }
        if let Some(id) = object.labels().get(labels::CONNECTION_ID) {
            self.record(id);
        }
    }
}
