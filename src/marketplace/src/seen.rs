//! What one window has shown so far: finds pages that come twice, lists that moved and orders that are new.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

/// In memory alone, as order numbers have no place in a cursor; hashes, as they are many. A page is noted once all of
/// its orders are at hand, and an order under the page that showed it first: a call that is repeated, because it or the
/// storing of its orders failed, finds everything as before.
#[derive(Default)]
pub(crate) struct Seen {
    hasher: RandomState,
    pages: HashMap<String, u64>,
    /// Order, and the page that showed it first.
    orders: HashMap<u64, u64>,
}

impl Seen {
    pub(crate) fn clear(&mut self) {
        self.pages.clear();
        self.orders.clear();
    }

    /// The same listing is read once more: its pages may be the same again, its orders are known.
    pub(crate) fn next_pass(&mut self) {
        self.pages.clear();
    }

    /// Whether these orders, and no others, already came as another page.
    pub(crate) fn repeats(&self, place: &str, orders: &[impl AsRef<str>]) -> bool {
        let hash = self.page(orders);
        !orders.is_empty() && self.pages.iter().any(|(other, page)| other != place && *page == hash)
    }

    /// Whether another page than the one at `place` has shown the order first.
    pub(crate) fn elsewhere(&self, place: &str, order: &str) -> bool {
        self.orders
            .get(&self.hasher.hash_one(order))
            .is_some_and(|first| *first != self.hasher.hash_one(place))
    }

    /// Keeps the page at `place`.
    pub(crate) fn note(&mut self, place: &str, orders: &[impl AsRef<str>]) {
        for order in orders {
            self.note_as(place, order.as_ref());
        }
        self.pages.insert(place.to_owned(), self.page(orders));
    }

    /// Keeps that the page at `place` shows the order, under one more of its names.
    pub(crate) fn note_as(&mut self, place: &str, order: &str) {
        let at = self.hasher.hash_one(place);
        self.orders.entry(self.hasher.hash_one(order)).or_insert(at);
    }

    /// Whether the page at `place` was read since the window began; not after a restart of the process.
    pub(crate) fn has_page(&self, place: &str) -> bool {
        self.pages.contains_key(place)
    }

    fn page(&self, orders: &[impl AsRef<str>]) -> u64 {
        let orders: Vec<_> = orders.iter().map(AsRef::as_ref).collect();
        self.hasher.hash_one(orders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_comes_twice_is_found_and_a_repeated_call_is_none() {
        let mut seen = Seen::default();
        seen.note("0", &["a", "b"]);
        assert!(!seen.repeats("0", &["a", "b"]), "the call was repeated");
        assert!(!seen.repeats("2", &["b", "c"]), "pages may overlap");
        seen.note("2", &["b", "c"]);
        assert!(seen.repeats("4", &["a", "b"]));
        seen.note("6", &[] as &[&str]);
        assert!(!seen.repeats("8", &[] as &[&str]), "empty pages are alike");
        assert!(seen.has_page("2"));
        seen.next_pass();
        assert!(!seen.repeats("again 0", &["a", "b"]), "another pass shows the same pages");
        assert!(!seen.has_page("0") && seen.elsewhere("again 0", "a"));
        seen.clear();
        assert!(!seen.elsewhere("4", "a"));
    }

    #[test]
    fn an_order_stays_new_on_the_page_that_showed_it_first() {
        let mut seen = Seen::default();
        assert!(!seen.elsewhere("0", "a"));
        seen.note("0", &["a"]);
        assert!(!seen.elsewhere("0", "a"), "storing may have failed, the page is read again");
        seen.note("2", &["a"]);
        assert!(seen.elsewhere("2", "a") && !seen.elsewhere("0", "a"));
    }
}
