//! What policies ask of holds. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use marketrelay_api::{
    Hold, RetentionPolicySpec,
    hold::HoldStatus,
    relay::{HeldSelection, Placed},
};
use marketrelay_keyring::{DestroyAt, HoldKey};

/// Keys of holds in one keyring, those included that the policy doesn't ask for any more.
pub const MOST: usize = 100;

/// What a policy asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// When each hold ends.
    pub until: BTreeMap<String, DestroyAt>,
    /// Holds that may end earlier than they were made to.
    pub end: BTreeSet<String>,
}

impl Asked {
    /// By this policy.
    pub fn by(policy: &RetentionPolicySpec) -> Self {
        let until = policy.holds.iter().map(|hold| (hold.name.clone(), end(hold)));
        Self { until: until.collect(), end: policy.end_holds.iter().cloned().collect() }
    }

    /// Whether the policy lets go of it now: relays needn't wait for a key of it.
    pub fn lets_go(&self, name: &str, now: Timestamp) -> bool {
        self.end.contains(name) && self.until.get(name).is_none_or(|until| until.is_due(now))
    }

    /// Whether this key is kept though the policy doesn't ask for it any more, or not for so long.
    pub fn outlives(&self, key: &HoldKey) -> bool {
        self.until.get(key.name()).is_none_or(|until| *until < key.destroy_at())
    }

    /// Whether a later end is asked of this key too late: some clock may have reached its own, and then what it keeps is
    /// gone, or its relay learns of the later one only afterwards.
    pub fn comes_too_late(&self, key: &HoldKey, unreached: Timestamp) -> bool {
        self.is_later(key) && key.destroy_at().is_due(unreached)
    }

    /// Whether this key's end can be moved to one that is asked for.
    pub fn may_move(&self, key: &HoldKey, unreached: Timestamp) -> bool {
        let earlier = self.until.contains_key(key.name()) && self.outlives(key);
        earlier && self.end.contains(key.name()) || self.is_later(key) && !key.destroy_at().is_due(unreached)
    }

    fn is_later(&self, key: &HoldKey) -> bool {
        self.until.get(key.name()).is_some_and(|until| *until > key.destroy_at())
    }
}

/// Whether a hold had orders to keep, by what was told of it last, and has ended then: it gets no other key, or nobody would
/// notice what is lost.
pub fn has_ended(told: &HoldStatus, unreached: Timestamp) -> bool {
    told.orders.is_some() && told.until.0 <= unreached
}

fn end(hold: &Hold) -> DestroyAt {
    DestroyAt::from_second(hold.until.at().as_second())
}

/// Names of the policy's holds whose end has passed.
pub fn ended(policy: &RetentionPolicySpec, now: Timestamp) -> Vec<&str> {
    policy.holds.iter().filter(|hold| end(hold).is_due(now)).map(|hold| hold.name.as_str()).collect()
}

/// For the relay.
pub fn selections(policy: &RetentionPolicySpec) -> Vec<HeldSelection> {
    let selection = |hold: &Hold| HeldSelection {
        name: hold.name.clone(),
        digests: hold.digests.clone().unwrap_or_default(),
        placed: hold.placed.as_ref().map(|range| Placed { from: range.from.at(), to: range.to.at() }),
    };
    policy.holds.iter().map(selection).collect()
}

/// The last key of a hold.
pub fn last<'a>(keys: &'a [HoldKey], name: &str) -> Option<&'a HoldKey> {
    keys.iter().rev().find(|key| key.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_let_go_of_only_if_its_name_and_its_end_say_so() {
        let now = Timestamp::from_second(1_800_000_000).expect("in range");
        let until = [("past", -1), ("ahead", 1), ("unnamed", -1)];
        let at = |ends: i64| DestroyAt::from_second(now.as_second() + ends);
        let asked = Asked {
            until: until.map(|(name, ends)| (name.to_owned(), at(ends))).into(),
            end: ["past", "ahead", "gone"].map(str::to_owned).into(),
        };
        let let_go = ["past", "ahead", "unnamed", "gone", "other"].map(|name| asked.lets_go(name, now));
        assert_eq!(let_go, [true, false, false, true, false]);
    }
}
