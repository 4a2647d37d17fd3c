//! Objects that changed and wait for their reconcile.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use kube::{Resource, runtime::reflector::ObjectRef};
use prometheus::IntGauge;

/// Those of one controller; the gauge shows how many they are, of all scopes together.
pub struct Queue<K: Resource<DynamicType = ()> + 'static> {
    waiting: Mutex<HashSet<ObjectRef<K>>>,
    length: IntGauge,
}

impl<K: Resource<DynamicType = ()>> Queue<K> {
    /// An empty one that `length` counts.
    pub fn new(length: IntGauge) -> Self {
        Self { waiting: Mutex::default(), length }
    }

    /// It changed; several changes are one reconcile.
    pub fn put(&self, object: &ObjectRef<K>) {
        if self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(object.clone()) {
            self.length.inc();
        }
    }

    /// Its reconcile begins, or it is gone.
    pub fn take(&self, object: &ObjectRef<K>) {
        if self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(object) {
            self.length.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use marketrelay_api::RetentionPolicy;

    use super::*;

    #[test]
    fn an_object_waits_once_until_its_reconcile_begins() {
        let length = IntGauge::new("length", "Of a test.").expect("a gauge");
        let queue = Queue::<RetentionPolicy>::new(length.clone());
        let (first, second) = (ObjectRef::new("a").within("acme"), ObjectRef::new("b").within("acme"));
        for object in [&first, &second, &first] {
            queue.put(object);
        }
        assert_eq!(length.get(), 2);
        queue.take(&first);
        queue.take(&first);
        assert_eq!(length.get(), 1);
    }
}
