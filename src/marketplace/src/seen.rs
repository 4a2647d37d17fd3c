//! What one window has shown so far: finds pages that come twice and orders that are missing.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
};

/// In memory alone, as order numbers have no place in a cursor; hashes, as they are many.
#[derive(Default)]
pub(crate) struct Seen {
    hasher: RandomState,
    pages: HashMap<String, u64>,
    orders: HashSet<u64>,
}

impl Seen {
    pub(crate) fn clear(&mut self) {
        self.pages.clear();
        self.orders.clear();
    }

    /// Notes the page at `place`. True if its orders, and no others, already came as another page.
    pub(crate) fn repeats(&mut self, place: &str, numbers: &[&str]) -> bool {
        self.orders.extend(numbers.iter().map(|number| self.hasher.hash_one(number)));
        let hash = self.hasher.hash_one(numbers);
        let twice =
            !numbers.is_empty() && self.pages.iter().any(|(other, page)| other != place && *page == hash);
        if !twice {
            self.pages.insert(place.to_owned(), hash);
        }
        twice
    }

    /// Whether the page at `place` was read since the window began; not after a restart of the process.
    pub(crate) fn has_page(&self, place: &str) -> bool {
        self.pages.contains_key(place)
    }

    pub(crate) fn has_order(&self, number: &str) -> bool {
        self.orders.contains(&self.hasher.hash_one(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_comes_twice_is_found_and_a_repeated_call_is_none() {
        let mut seen = Seen::default();
        assert!(!seen.repeats("0", &["a", "b"]));
        assert!(!seen.repeats("0", &["a", "b"]), "the call was repeated");
        assert!(!seen.repeats("2", &["b", "c"]), "pages may overlap");
        assert!(seen.repeats("4", &["a", "b"]));
        assert!(!seen.repeats("6", &[]) && !seen.repeats("8", &[]), "empty pages are alike");
        assert!(seen.has_order("c") && !seen.has_order("d") && seen.has_page("2"));
        seen.clear();
        assert!(!seen.has_page("0") && !seen.has_order("c"));
    }
}
