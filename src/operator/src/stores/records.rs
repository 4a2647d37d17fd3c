//! The records of all connections, which are watched once for all scopes.

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        reflector::{self, Store},
        watcher::{self, watcher},
    },
};
use marketrelay_api::ConnectionRecord;
use tokio::task::JoinSet;

use super::{plan::Plan, senders::Senders, trim::without_managed_fields};
use crate::scope::Scope;

/// The records of all connections; each scope is told of its own.
pub struct Records {
    /// What there is.
    pub store: Store<ConnectionRecord>,
    writer: reflector::store::Writer<ConnectionRecord>,
    /// A store wakes the last of those that wait for it and no other, so this waits for all scopes.
    pub read: Shared<BoxFuture<'static, ()>>,
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
        let mut plan = Plan::default();
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
