//! The objects of one connection, among those of all.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use kube::{
    Resource, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use marketrelay_api::{MarketplaceConnection, labels};

/// Names by connection, of which each look forgets those that are gone.
#[derive(Debug, Default)]
pub struct Index {
    names: Mutex<HashMap<ObjectRef<MarketplaceConnection>, BTreeSet<String>>>,
}

impl Index {
    /// An object of a connection came, changed or went.
    pub fn note(&self, object: &impl ResourceExt) {
        let Some(connection) = object.labels().get(labels::CONNECTION) else { return };
        let connection = ObjectRef::new(connection).within(&object.namespace().unwrap_or_default());
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.entry(connection).or_default().insert(object.name_any());
    }

    /// Those of them that are there.
    pub fn of<K>(&self, store: &Store<K>, connection: &ObjectRef<MarketplaceConnection>) -> Vec<Arc<K>>
    where
        K: Resource<DynamicType = ()> + Clone + 'static,
    {
        let namespace = connection.namespace.clone().unwrap_or_default();
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = names.get_mut(connection) else { return Vec::new() };
        let mut found = Vec::new();
        known.retain(|name| match store.get(&ObjectRef::new(name).within(&namespace)) {
            Some(object) => {
                found.push(object);
                true
            }
            None => false,
        });
        if known.is_empty() {
            names.remove(connection);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::runtime::{reflector, watcher::Event};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_connections_objects_are_its_own_and_those_that_are_gone_are_forgotten() {
        let (store, mut writer) = reflector::store::<Pod>();
        let index = Index::default();
        let pod = |namespace: &str, name: &str, connection: &str| -> Pod {
            let labels = json!({labels::CONNECTION: connection});
            let value = json!({"metadata": {"namespace": namespace, "name": name, "labels": labels}});
            serde_json::from_value(value).expect("a pod")
        };
        for pod in [
            pod("acme", "a-1", "a"),
            pod("acme", "b-1", "b"),
            pod("blue", "a-1", "a"),
            pod("acme", "a-2", "a"),
        ] {
            writer.apply_watcher_event(&Event::Apply(pod.clone()));
            index.note(&pod);
        }
        let acme = ObjectRef::new("a").within("acme");
        let names = || index.of(&store, &acme).iter().map(|pod| pod.name_any()).collect::<Vec<_>>();
        assert_eq!(names(), ["a-1", "a-2"]);
        let gone = pod("acme", "a-1", "a");
        writer.apply_watcher_event(&Event::Delete(gone.clone()));
        index.note(&gone);
        assert_eq!(names(), ["a-2"]);
        writer.apply_watcher_event(&Event::Delete(pod("acme", "a-2", "a")));
        assert_eq!(names(), Vec::<String>::new());
        assert!(!index.names.lock().expect("a lock").contains_key(&acme));
    }
}
