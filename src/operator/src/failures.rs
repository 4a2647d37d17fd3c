//! How long to wait after a reconcile failed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kube::{Resource, runtime::reflector::ObjectRef};
use rand::RngExt;

const FIRST: Duration = Duration::from_secs(2);
/// For what isn't due at a moment of its own.
pub const LONGEST: Duration = Duration::from_mins(5);

/// Failures in a row, by object.
pub struct Failures<K: Resource<DynamicType = ()> + 'static> {
    counts: Mutex<HashMap<ObjectRef<K>, u32>>,
    longest: Duration,
}

impl<K: Resource<DynamicType = ()>> Failures<K> {
    /// None yet; waits won't be longer than `longest`.
    pub fn new(longest: Duration) -> Self {
        Self { counts: Mutex::default(), longest }
    }

    /// One more; when to try again: doubling, capped, spread.
    pub fn next(&self, object: ObjectRef<K>) -> Duration {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(object).or_default();
        let doubled = FIRST * 2_u32.saturating_pow((*count).min(16));
        *count += 1;
        doubled.min(self.longest).mul_f64(rand::rng().random_range(0.75..1.25))
    }

    /// It worked.
    pub fn forget(&self, object: &ObjectRef<K>) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }
}

#[cfg(test)]
mod tests {
    use marketrelay_api::RetentionPolicy;

    use super::*;

    #[test]
    fn waits_double_are_capped_and_start_anew_after_a_success() {
        let failures = Failures::<RetentionPolicy>::new(LONGEST);
        let object = || ObjectRef::new("standard").within("acme");
        let first = failures.next(object());
        assert!(first >= FIRST.mul_f64(0.75) && first <= FIRST.mul_f64(1.25));
        let last = (0..40).map(|_| failures.next(object())).last().expect("a wait");
        assert!(last >= LONGEST.mul_f64(0.75) && last <= LONGEST.mul_f64(1.25), "{last:?}");
        failures.forget(&object());
        assert!(failures.next(object()) <= FIRST.mul_f64(1.25));
    }
}
