//! Archives of holds: which a Job writes, which are missing or too old, and when a Job is due because of that. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::{
    backup::{LiveHold, MOST_ARCHIVES, Site},
    connection::{Backups, HoldArchive, SiteBackups},
    relay::HoldUse,
};
use marketrelay_keyring::{HoldId, HoldKey};

use super::first::SOONEST;

/// Orders come all day. Those that have come since the last archive are in the next one, after so long.
const FRESH: SignedDuration = SignedDuration::from_hours(1);
/// Between two attempts at most.
const RAREST: SignedDuration = SignedDuration::from_hours(1);
/// After so long they count as missing: a Job may wait for its turn, or fail once.
const LATE: SignedDuration = SignedDuration::from_hours(3);

/// The holds whose keys there are, and their ids.
pub type Holds = BTreeMap<HoldKey, HoldId>;

/// As a Job of the site has them. `known`: what the site has; those that were archived longest ago are archived next.
pub fn live(holds: &Holds, known: Option<&SiteBackups>) -> Vec<LiveHold> {
    let archived = |id: &str| known.and_then(|known| archive(known, id)).map(|archive| archive.at.0);
    let mut ids: Vec<_> = holds.values().map(HoldId::to_string).collect();
    ids.sort_by_key(|id| (archived(id), id.clone()));
    let next: BTreeSet<_> = ids.into_iter().take(MOST_ARCHIVES).collect();
    let hold = |(key, id): (&HoldKey, &HoldId)| {
        let id = id.to_string();
        let until = Timestamp::from_second(key.destroy_at().as_second()).unwrap_or(Timestamp::MAX);
        LiveHold { archive: next.contains(&id), id, name: key.name().to_owned(), until }
    };
    holds.iter().map(hold).collect()
}

/// Forgets archives of holds whose keys are gone, and names the others.
pub fn settle(backups: &mut Backups, holds: &Holds) {
    let names: BTreeMap<_, _> = holds.iter().map(|(key, id)| (id.to_string(), key.name())).collect();
    for site in Site::ALL {
        let Some(known) = backups.site_mut(site) else { continue };
        known.archives.retain(|archive| names.contains_key(&archive.id));
        for archive in &mut known.archives {
            if let Some(name) = names.get(&archive.id) {
                (*name).clone_into(&mut archive.hold);
            }
        }
    }
}

/// Whether the site's archive has what the relay keeps for the hold, but for what has come in the last hours.
pub fn has(word: &HoldUse, known: &SiteBackups, now: Timestamp) -> bool {
    match need(word, known) {
        Need::Nothing => true,
        Need::Fresh { archived } => now.duration_since(archived) < LATE,
        Need::Missing { .. } => false,
    }
}

enum Need {
    Nothing,
    /// Orders have come since it was archived then.
    Fresh {
        archived: Timestamp,
    },
    /// What it selects, since then.
    Missing {
        since: Timestamp,
    },
}

fn need(word: &HoldUse, known: &SiteBackups) -> Need {
    let missing = |revision| Need::Missing { since: at(revision) };
    if word.orders == 0 {
        return Need::Nothing;
    }
    let Some(archive) = archive(known, &word.id) else { return missing(word.revision) };
    let archived = u64::try_from(archive.revision).unwrap_or_default();
    if archived >= word.revision {
        Need::Nothing
    } else if archived < word.selected_revision {
        missing(word.selected_revision)
    } else {
        Need::Fresh { archived: archive.at.0 }
    }
}

/// A revision is a time of the relay's, in milliseconds.
fn at(revision: u64) -> Timestamp {
    i64::try_from(revision).ok().and_then(|at| Timestamp::from_millisecond(at).ok()).unwrap_or(Timestamp::MIN)
}

fn archive<'a>(known: &'a SiteBackups, id: &str) -> Option<&'a HoldArchive> {
    known.archives.iter().find(|archive| archive.id == id)
}

/// What a Job is known by that is due because an archive is missing or too old: each is made once. After one that has brought
/// nothing they become rarer, as first ones do.
pub fn due(words: &[HoldUse], known: &SiteBackups, now: Timestamp) -> Option<Timestamp> {
    let since = words.iter().filter_map(|word| match need(word, known) {
        Need::Nothing => None,
        Need::Fresh { archived } => archived.checked_add(FRESH).ok(),
        Need::Missing { since } => Some(since),
    });
    let since = since.min().filter(|since| *since <= now)?;
    // Without one the first backup is due.
    let last = known.last_run.as_ref()?.finished_at.0;
    if last < since {
        return Some(since);
    }
    // Whatever has brought something, or has lost it again, begins a new count.
    let archived = known.archives.iter().map(|archive| archive.at.0).max();
    let from = [Some(since), archived, known.listed_at.as_ref().map(|at| at.0)];
    let from = from.into_iter().flatten().filter(|from| *from <= last).max().unwrap_or(since);
    let wait = last.duration_since(from).clamp(SOONEST, RAREST);
    (now.duration_since(last) >= wait).then_some(last)
}

#[cfg(test)]
mod tests {
    use marketrelay_api::connection::JobResult;
    use marketrelay_keyring::DestroyAt;

    use super::*;
    use crate::{
        conditions::seconds,
        controllers::connection::backup::{recorded::recorded, wanted::tests::sample},
    };

    fn minute(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minute * 60).expect("in range")
    }

    fn revision(of: i64) -> u64 {
        minute(of).as_millisecond().unsigned_abs()
    }

    /// Whose selection was looked at, and which has taken an order since.
    fn word(selected: i64, last: i64) -> HoldUse {
        HoldUse {
            name: "tax".to_owned(),
            until: minute(9_000),
            orders: 2,
            complete: true,
            id: "ab".to_owned(),
            revision: revision(last),
            selected_revision: revision(selected),
        }
    }

    /// With an archive of then, and a Job that ended then.
    fn known(archived: Option<i64>, finished: i64) -> SiteBackups {
        let mut site = recorded(None, &sample(), &[], minute(0)).on_site.expect("on-site");
        site.archives = archived.into_iter().map(|at| archived_at("ab", at)).collect();
        site.last_run = Some(JobResult {
            job: "j".to_owned(),
            finished_at: seconds(minute(finished)),
            reason: None,
            message: None,
        });
        site
    }

    fn archived_at(id: &str, at: i64) -> HoldArchive {
        HoldArchive {
            hold: String::new(),
            id: id.to_owned(),
            backup: "b".to_owned(),
            at: seconds(minute(at)),
            revision: minute(at).as_millisecond(),
            orders: 1,
        }
    }

    fn due_at(word: &HoldUse, known: &SiteBackups, at: i64) -> Option<Timestamp> {
        due(std::slice::from_ref(word), known, minute(at))
    }

    #[test]
    fn a_missing_archive_is_made_at_once_and_then_ever_more_rarely() {
        let word = word(100, 100);
        assert!(!has(&word, &known(None, 50), minute(100)));
        assert_eq!(due_at(&word, &known(None, 50), 100), Some(minute(100)));
        for (finished, again) in [(101, 106), (110, 120), (150, 200), (9_000, 9_060)] {
            assert_eq!(due_at(&word, &known(None, finished), again - 1), None, "{finished}");
            assert_eq!(due_at(&word, &known(None, finished), again), Some(minute(finished)));
        }
        let done = known(Some(100), 101);
        assert!(has(&word, &done, minute(9_000)) && due_at(&word, &done, 9_000).is_none());
        let nothing = HoldUse { orders: 0, ..word };
        assert!(has(&nothing, &known(None, 50), minute(100)));
        assert_eq!(due_at(&nothing, &known(None, 50), 200), None, "it keeps nothing");
    }

    #[test]
    fn what_a_hold_selects_is_waited_for_and_orders_that_come_meanwhile_have_an_hour() {
        let selects_more = word(300, 300);
        assert!(!has(&selects_more, &known(Some(299), 299), minute(300)));
        assert_eq!(due_at(&selects_more, &known(Some(299), 299), 300), Some(minute(300)));
        let fresh = word(100, 300);
        let archived = known(Some(299), 299);
        assert_eq!(
            (due_at(&fresh, &archived, 358), due_at(&fresh, &archived, 359)),
            (None, Some(minute(359)))
        );
        assert!(has(&fresh, &archived, minute(299 + 179)) && !has(&fresh, &archived, minute(299 + 180)));
    }

    #[test]
    fn a_later_hold_of_the_same_name_has_no_archive_yet_and_the_old_one_is_forgotten() {
        let key = |name| HoldKey::new(name, DestroyAt::from_second(2_000_000_000)).expect("a name");
        let id = HoldId::from([9; 32]);
        let mut backups = recorded(None, &sample(), &[], minute(0));
        let site = backups.on_site.as_mut().expect("on-site");
        site.archives = vec![archived_at("ab", 1), archived_at(&id.to_string(), 2)];
        settle(&mut backups, &Holds::from([(key("tax"), id)]));
        let left = &backups.on_site.as_ref().expect("on-site").archives;
        assert_eq!(
            left.iter().map(|one| (one.hold.as_str(), one.at.0)).collect::<Vec<_>>(),
            [("tax", minute(2))]
        );
        let other = HoldUse { id: HoldId::from([8; 32]).to_string(), ..word(1, 1) };
        assert!(!has(&other, backups.on_site.as_ref().expect("on-site"), minute(3)));
    }

    #[test]
    fn of_many_holds_those_are_archived_next_that_were_archived_longest_ago_and_all_stay() {
        let key = |number: u8| HoldKey::new(&format!("h{number}"), DestroyAt::from_second(2_000_000_000));
        let holds: Holds =
            (0..15).map(|number| (key(number).expect("a name"), HoldId::from([number; 32]))).collect();
        let mut site = known(None, 0);
        let next = |site: &SiteBackups| {
            let all = live(&holds, Some(site));
            assert_eq!(all.len(), 15);
            all.into_iter().filter(|hold| hold.archive).map(|hold| hold.id).collect::<BTreeSet<_>>()
        };
        let first = next(&site);
        assert_eq!(first.len(), MOST_ARCHIVES);
        site.archives = first.iter().map(|id| archived_at(id, 5)).collect();
        let second = next(&site);
        assert_eq!(second.difference(&first).count(), 5, "those that have none");
    }
}
