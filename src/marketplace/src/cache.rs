//! Parcels that are known already: windows overlap, and an order that didn't change needs no further call.

use std::collections::HashMap;

use jiff::Timestamp;

const LARGEST: usize = 10_000;

pub(crate) struct Cache<T>(HashMap<String, (Timestamp, T)>);

impl<T: Clone> Cache<T> {
    pub(crate) fn new() -> Self {
        Self(HashMap::new())
    }

    /// What was kept of this order, if it hasn't changed since.
    pub(crate) fn get(&self, number: &str, changed: Timestamp) -> Option<T> {
        self.0.get(number).filter(|(at, _)| *at == changed).map(|(_, kept)| kept.clone())
    }

    pub(crate) fn keep(&mut self, number: &str, changed: Timestamp, value: T) {
        if self.0.len() >= LARGEST {
            self.0.clear();
        }
        self.0.insert(number.to_owned(), (changed, value));
    }
}
