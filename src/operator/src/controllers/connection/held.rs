//! What has become of the holds at a connection. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use marketrelay_api::{
    Reason,
    backup::Site,
    connection::Backups,
    hold::{HoldState, HoldStatus},
    relay::HoldUse,
};
use marketrelay_keyring::DestroyAt;

use super::{backup::archives, status::Relay};
use crate::{
    conditions::{Status, Verdict},
    controllers::{
        holds::{Asked, MOST, has_ended, last},
        keyring::facts::KeyringFacts,
    },
};

/// When a status is made.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// By our clock.
    pub now: Timestamp,
    /// No operator's clock that agrees has reached it.
    pub unreached: Timestamp,
}

/// What is known of what the relay keeps.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a> {
    /// Its own word.
    pub relay: &'a Relay,
    /// Digest of the configuration that the relay is to have; none while it can't have one.
    pub wanted: Option<&'a str>,
    /// Where else it is.
    pub archives: &'a Archives,
}

/// What the stores have of what the relay keeps.
#[derive(Clone, Debug, Default)]
pub struct Archives {
    /// There are to be some.
    are_wanted: bool,
    /// By the names of holds of which the relay keeps everything: the sites that don't have it.
    missing: BTreeMap<String, Vec<Site>>,
}

impl Archives {
    /// `backups`: of every site that is asked for; none without any.
    pub fn of(relay: &Relay, backups: Option<&Backups>, now: Timestamp) -> Self {
        let words = match relay {
            Relay::Answered(status) => &status.holds[..],
            _ => &[],
        };
        let sites = |word: &HoldUse| {
            let lacks = |site: &Site| {
                let known = backups.and_then(|backups| backups.site(*site));
                known.is_some_and(|known| !archives::has(word, known, now))
            };
            Site::ALL.into_iter().filter(lacks).collect::<Vec<_>>()
        };
        let complete = words.iter().filter(|word| word.complete);
        let missing = complete.map(|word| (word.name.clone(), sites(word)));
        let missing = missing.filter(|(_, sites)| !sites.is_empty()).collect();
        Self { are_wanted: backups.is_some(), missing }
    }

    fn have(&self, name: &str) -> bool {
        !self.missing.contains_key(name)
    }

    /// Sites that lack something of these holds.
    fn sites(&self) -> String {
        let sites: BTreeSet<_> = self.missing.values().flatten().map(ToString::to_string).collect();
        sites.into_iter().collect::<Vec<_>>().join(" and ")
    }

    /// What is to be said where everything else is well.
    fn copies(&self) -> String {
        match (self.are_wanted, self.missing.is_empty()) {
            (false, _) => COPY.to_owned(),
            (true, true) => ARCHIVED.to_owned(),
            (true, false) => format!("The {} store has no archive of all of it yet", self.sites()),
        }
    }
}

/// Of every hold that is asked for, and of every one whose key there is.
pub fn holds(
    asked: &Asked,
    keyring: Option<&KeyringFacts>,
    Word { relay, wanted, archives }: Word<'_>,
    before: &[HoldStatus],
    Times { now, unreached }: Times,
) -> Vec<HoldStatus> {
    let keys = keyring.map_or(&[][..], |facts| &facts.holds);
    let names: BTreeSet<_> = asked
        .until
        .keys()
        .map(String::as_str)
        .chain(keys.iter().map(marketrelay_keyring::HoldKey::name))
        .collect();
    let hold = |name: &str| {
        let old = before.iter().find(|old| old.name == name);
        let Some(key) = last(keys, name).filter(|key| !key.destroy_at().is_due(now)) else {
            let until = *asked.until.get(name)?;
            if let Some(old) = old.filter(|old| has_ended(old, unreached)) {
                return Some(HoldStatus { orders: Some(0), state: HoldState::Ended, ..old.clone() });
            }
            let state = if until.is_due(now) { HoldState::Ended } else { HoldState::Pending };
            return Some(HoldStatus { name: name.to_owned(), until: time(until), orders: None, state });
        };
        let (orders, confirmed) = match relay {
            Relay::Answered(status) => {
                let word = status.holds.iter().find(|word| word.name == name);
                // Of another configuration it may not know yet what is selected.
                let knows = wanted == Some(status.config_digest.as_str());
                (word.map(count), knows && word.is_some_and(|word| word.complete) && archives.have(name))
            }
            _ => (
                old.and_then(|old| old.orders),
                old.is_some_and(|old| matches!(old.state, HoldState::Held | HoldState::Kept)),
            ),
        };
        let state = match (confirmed, asked.outlives(key)) {
            _ if asked.comes_too_late(key, unreached) => HoldState::Ended,
            (_, true) => HoldState::Kept,
            (true, false) => HoldState::Held,
            (false, false) => HoldState::Pending,
        };
        Some(HoldStatus { name: name.to_owned(), until: time(key.destroy_at()), orders, state })
    };
    names.into_iter().filter_map(hold).collect()
}

fn count(word: &HoldUse) -> i64 {
    i64::try_from(word.orders).unwrap_or(i64::MAX)
}

fn time(at: DestroyAt) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(Timestamp::MAX))
}

/// The condition `Held`; none without holds.
pub fn condition(
    holds: &[HoldStatus],
    asked: &Asked,
    keyring: Option<&KeyringFacts>,
    archives: &Archives,
) -> Option<Verdict> {
    let of = |state| names(holds, |hold| hold.state == state);
    let late = names(holds, |hold| hold.state == HoldState::Ended && is_shorter(hold, asked));
    let [pending, held, kept, ended] =
        [HoldState::Pending, HoldState::Held, HoldState::Kept, HoldState::Ended].map(of);
    let full = keyring.is_some_and(|facts| facts.holds.len() >= MOST);
    let also_ended = match ended.as_str() {
        "" => String::new(),
        names => format!(". The end of {names} has passed: it holds nothing"),
    };
    let waits = |hold: &HoldStatus| hold.state == HoldState::Pending && archives.have(&hold.name);
    let (copies, unarchived) = (archives.copies(), !pending.is_empty() && !holds.iter().any(waits));
    let verdict = if !late.is_empty() {
        let message = format!(
            "{late}: the later end came too late: within 5 minutes of the old one (status.holds) it can't be moved any more, \
             and what this hold alone keeps is gone then: for what isn't past its deadline yet, make a hold of another name"
        );
        Verdict::new(Status::False, Reason::HoldEnded, message)
    } else if !pending.is_empty() && full {
        let message = format!(
            "{pending}: no key can be made, since the keyring has those of {MOST} holds already, and nothing is held: \
             end some of status.holds that aren't needed (spec.endHolds of the RetentionPolicy)"
        );
        Verdict::new(Status::False, Reason::TooManyHolds, message)
    } else if unarchived {
        let message = format!(
            "{pending}: the relay keeps every order, and waits for its archive in the {} store: a Job that writes it is made at \
             once (status.backups; kubectl get jobs -l app.kubernetes.io/component=backup). Until then losing the relay's \
             volume may lose what is held",
            archives.sites()
        );
        Verdict::new(Status::False, Reason::HoldNotArchived, message)
    } else if !pending.is_empty() {
        let message = format!(
            "{pending}: the key isn't made yet (one that ends within 5 minutes never is) or waits for its escrow (condition \
             Escrowed), or the relay hasn't confirmed yet that it keeps every order: deadlines go on meanwhile"
        );
        Verdict::new(Status::False, Reason::HoldPending, message)
    } else if !kept.is_empty() {
        let message = format!(
            "{kept}: kept until its own end (status.holds), though the RetentionPolicy doesn't ask for it any more, or not \
             for so long: to end it early, which can't be undone, add its name to spec.endHolds of the policy. {copies}\
             {also_ended}"
        );
        Verdict::new(Status::True, Reason::HoldKept, message)
    } else if !held.is_empty() {
        let message = format!(
            "{held}: what was selected and not past its deadline yet is kept until the hold's end (status.holds). \
             {copies}{also_ended}"
        );
        Verdict::new(Status::True, Reason::Held, message)
    } else if !ended.is_empty() {
        let message = format!(
            "{ended}: its end has passed, so it holds nothing: take it out of the RetentionPolicy; for what isn't past its \
             deadline yet, make a hold of another name"
        );
        Verdict::new(Status::False, Reason::HoldEnded, message)
    } else {
        return None;
    };
    Some(verdict)
}

fn names(holds: &[HoldStatus], which: impl Fn(&HoldStatus) -> bool) -> String {
    let names = holds.iter().filter(|hold| which(hold)).map(|hold| hold.name.as_str());
    names.collect::<Vec<_>>().join(", ")
}

/// Whether its end is earlier than the policy asks.
fn is_shorter(hold: &HoldStatus, asked: &Asked) -> bool {
    asked.until.get(&hold.name).is_some_and(|until| until.as_second() > hold.until.0.as_second())
}

/// Without backups.
const COPY: &str =
    "The relay's volume is the only copy of what is held once the orders' own deadlines have passed";
/// With them.
const ARCHIVED: &str = "Each store of backups has an archive of it that lasts as long (status.backups)";

#[cfg(test)]
mod tests {
    use marketrelay_api::{connection::HoldArchive, relay::RelayStatus};
    use marketrelay_keyring::HoldKey;

    use super::*;
    use crate::controllers::connection::backup::{recorded, sample};

    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(NOW + second).expect("in range")
    }

    fn key(name: &str, ends: i64) -> HoldKey {
        HoldKey::new(name, DestroyAt::from_second(NOW + ends)).expect("a name")
    }

    fn keyring(holds: Vec<HoldKey>) -> KeyringFacts {
        KeyringFacts { holds, ..KeyringFacts::sample() }
    }

    static NONE: Archives = Archives { are_wanted: false, missing: BTreeMap::new() };
    const SILENT: Word<'_> = Word { relay: &Relay::Silent, wanted: None, archives: &NONE };

    fn asked(holds: &[(&str, i64)]) -> Asked {
        let until = holds.iter().map(|(name, ends)| ((*name).to_owned(), DestroyAt::from_second(NOW + ends)));
        Asked { until: until.collect(), end: BTreeSet::new() }
    }

    fn state(asked: &Asked, keys: Vec<HoldKey>, before: &[HoldStatus]) -> (Vec<HoldState>, Option<String>) {
        let keyring = keyring(keys);
        let times = Times { now: at(0), unreached: at(300) };
        let found = holds(asked, Some(&keyring), SILENT, before, times);
        let reason = condition(&found, asked, Some(&keyring), &NONE).map(|verdict| verdict.reason);
        (found.into_iter().map(|hold| hold.state).collect(), reason)
    }

    fn told(name: &str) -> HoldStatus {
        HoldStatus { name: name.to_owned(), until: Time(at(900)), orders: Some(3), state: HoldState::Held }
    }

    #[test]
    fn a_hold_that_is_prolonged_too_late_says_so_and_goes_on_saying_so() {
        let ended = (vec![HoldState::Ended], Some(Reason::HoldEnded.to_string()));
        let before = |ends| HoldStatus { until: Time(at(ends)), ..told("tax") };
        let prolonged = asked(&[("tax", 9_000)]);
        assert_eq!(state(&prolonged, vec![key("tax", 300)], &[before(300)]), ended);
        assert_eq!(state(&prolonged, vec![key("tax", 301)], &[before(301)]).0, [HoldState::Held]);
        let keyring = keyring(vec![]);
        let times = Times { now: at(0), unreached: at(300) };
        let look = |before: &[HoldStatus]| {
            let found = holds(&prolonged, Some(&keyring), SILENT, before, times);
            let message = condition(&found, &prolonged, Some(&keyring), &NONE).expect("a verdict").message;
            assert!(message.starts_with("tax: the later end came too late"), "{message}");
            found
        };
        let first = look(&[before(-1)]);
        assert_eq!((first[0].orders, &first[0].until.0), (Some(0), &at(-1)), "nothing of it is left");
        assert_eq!(look(&first), first);
        let other = holds(&asked(&[("tax-2", 9_000)]), Some(&keyring), SILENT, &first, times);
        assert_eq!((other.len(), other[0].state), (1, HoldState::Pending), "another name begins anew");
        // A date that was corrected: nothing was ever held.
        let past = HoldStatus { orders: None, state: HoldState::Ended, ..before(-1) };
        assert_eq!(state(&prolonged, vec![], &[past]).0, [HoldState::Pending]);
    }

    #[test]
    fn a_hold_is_held_once_every_store_that_is_asked_for_has_its_archive() {
        let word = HoldUse {
            name: "tax".to_owned(),
            until: at(900),
            orders: 3,
            complete: true,
            id: "ab".to_owned(),
            revision: 7,
            selected_revision: 7,
        };
        let status =
            RelayStatus { config_digest: "c".to_owned(), holds: vec![word], ..RelayStatus::default() };
        let relay = Relay::Answered(Box::new(status));
        let (asked, keyring) = (asked(&[("tax", 900)]), keyring(vec![key("tax", 900)]));
        let told = |backups: Option<&Backups>| {
            let archives = Archives::of(&relay, backups, at(0));
            let word = Word { relay: &relay, wanted: Some("c"), archives: &archives };
            let found = holds(&asked, Some(&keyring), word, &[], Times { now: at(0), unreached: at(300) });
            let verdict = condition(&found, &asked, Some(&keyring), &archives).expect("a verdict");
            (found[0].state, verdict.reason, verdict.message)
        };
        let (state, _, message) = told(None);
        assert!(state == HoldState::Held && message.contains("only copy"), "{message}");
        let mut backups = recorded(None, &sample(), &[], at(0));
        let archive = |revision| HoldArchive {
            hold: "tax".to_owned(),
            id: "ab".to_owned(),
            backup: "b".to_owned(),
            at: Time(at(-9)),
            revision,
            orders: 3,
        };
        for (on_site, off_site, lacking) in [
            (None, None, "off-site and on-site"),
            (Some(7), None, "the off-site store"),
            (Some(6), Some(7), "the on-site store"),
        ] {
            for (site, revision) in [(Site::OnSite, on_site), (Site::OffSite, off_site)] {
                let site = backups.site_mut(site).as_mut().expect("it is asked for");
                site.archives = revision.into_iter().map(archive).collect();
            }
            let (state, reason, message) = told(Some(&backups));
            assert_eq!((state, reason), (HoldState::Pending, Reason::HoldNotArchived.to_string()));
            assert!(message.contains(lacking), "{message}");
        }
        backups.on_site.as_mut().expect("on-site").archives = vec![archive(7)];
        let (state, reason, message) = told(Some(&backups));
        assert_eq!((state, reason), (HoldState::Held, Reason::Held.to_string()));
        assert!(message.contains("an archive of it"), "{message}");
    }

    #[test]
    fn each_hold_says_what_became_of_it_and_what_needs_a_person_comes_first() {
        let reason = |reason: Reason| Some(reason.to_string());
        assert_eq!(state(&asked(&[]), vec![], &[]), (vec![], None));
        let both = asked(&[("court", 850), ("tax", 890)]);
        let keys = || vec![key("court", 850), key("tax", 890)];
        let known = [told("court"), told("tax")];
        let held = vec![HoldState::Held, HoldState::Held];
        assert_eq!(state(&both, keys(), &known), (held, reason(Reason::Held)));
        let pending = vec![HoldState::Held, HoldState::Pending];
        assert_eq!(state(&both, keys(), &known[..1]), (pending.clone(), reason(Reason::HoldPending)));
        assert_eq!(state(&both, vec![key("court", 850)], &known), (pending, reason(Reason::HoldPending)));
        for asked in [asked(&[("court", 850)]), asked(&[("court", 850), ("tax", 889)])] {
            let kept = vec![HoldState::Held, HoldState::Kept];
            assert_eq!(state(&asked, keys(), &known), (kept, reason(Reason::HoldKept)));
        }
        let past = asked(&[("court", 0)]);
        assert_eq!(state(&past, vec![], &[]), (vec![HoldState::Ended], reason(Reason::HoldEnded)));
        let many = (0..100).map(|number| key(&format!("n{number}"), 90)).collect();
        assert_eq!(state(&asked(&[("tax", 890)]), many, &[]).1, reason(Reason::TooManyHolds));
    }
}
