//! Keys that wait for their escrow.

use std::{collections::BTreeSet, fmt};

use crate::Keyring;

impl Keyring {
    /// The names of the keys that must not seal anything yet.
    pub fn pending(&self) -> &BTreeSet<String> {
        &self.pending
    }

    /// Keys that aren't among `known` must not seal anything before [`Keyring::confirm`].
    pub fn hold_back(&mut self, known: &BTreeSet<String>) {
        self.pending.extend(self.key_names().difference(known).cloned());
    }

    /// All keys may seal; whether there was one that was not to.
    pub fn confirm(&mut self) -> bool {
        !std::mem::take(&mut self.pending).is_empty()
    }

    pub(crate) fn is_pending(&self, key: &impl fmt::Display) -> bool {
        !self.pending.is_empty() && self.pending.contains(&key.to_string())
    }

    pub(crate) fn forget_pending_of_no_key(&mut self) {
        if !self.pending.is_empty() {
            let names = self.key_names();
            self.pending.retain(|name| names.contains(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::{ConnectionId, DestroyAt, Grid, HoldKey};

    const DAY: i64 = 86_400;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn a_key_that_waits_for_its_escrow_seals_nothing_until_it_is_confirmed() {
        let id: ConnectionId = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34".parse().expect("a UUID");
        let grid = Grid::new(&id, SignedDuration::from_secs(DAY));
        let mut keyring = Keyring::generate(id).expect("random bytes");
        keyring.extend(grid, at(0), at(10 * DAY)).expect("random bytes");
        let known = keyring.key_names();
        keyring.extend(grid, at(0), at(20 * DAY)).expect("random bytes");
        let (tax, court) = (
            HoldKey::new("tax", DestroyAt::from_second(50)).expect("a name"),
            HoldKey::new("court", DestroyAt::from_second(60)).expect("a name"),
        );
        keyring.add_hold(tax.clone()).expect("random bytes");
        keyring.add_hold(court.clone()).expect("random bytes");
        keyring.hold_back(&known);
        keyring.move_hold(&tax, DestroyAt::from_second(70));
        keyring.remove_hold(&court);
        let entries = keyring.entries();
        let mut read = Keyring::from_entries(entries.iter().map(|(k, v)| (k.as_str(), v.as_slice())))
            .expect("own entries");
        assert_eq!(read.pending(), keyring.pending());
        let last_known: DestroyAt = known.last().expect("keys").parse().expect("a name");
        assert!(!read.reaches(at(20 * DAY)), "an order waits at the marketplace for it");
        assert_eq!(
            read.name_for(at(20 * DAY), at(0)),
            Some(last_known),
            "what is stored dies earlier instead"
        );
        assert_eq!(read.holds().count(), 0);
        assert_eq!(read.drop_due(at(70)), 1, "it dies at its second all the same");
        assert!(!read.pending().contains(&tax.moved(DestroyAt::from_second(70)).to_string()));
        assert!(read.confirm() && !read.confirm() && !read.entries().contains_key("pending"));
        assert!(read.name_for(at(20 * DAY), at(0)).expect("a key") > last_known);
    }
}
