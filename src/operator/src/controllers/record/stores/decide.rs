//! How far a purge of stores is, and what comes next. Pure, so that it may be interrupted anywhere.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use marketrelay_api::{
    ConnectionRecordStatus,
    backup::{Failure, StorePurge},
    labels,
    record::{PurgedStore, RecordStore, StoreFailure, StoreListing},
};

use super::{
    Facts,
    attempt::Attempt,
    known::address,
    purge::{Purge, What},
    unused::is_nowhere,
};
use crate::conditions::seconds;

/// After the first failure; then twice as long after each.
const SOONEST: SignedDuration = SignedDuration::from_mins(2);
const LATEST: SignedDuration = SignedDuration::from_hours(1);
/// Why no Job tries it.
const NO_CREDENTIALS: &str = "CredentialsMissing";
const NO_IMAGE: &str = "BackupsNotConfigured";

/// The stores that a closure has to purge.
pub fn begun(before: &ConnectionRecordStatus) -> Vec<PurgedStore> {
    before.stores.iter().map(unpurged).collect()
}

/// One that nothing was tried with yet.
pub fn unpurged(store: &RecordStore) -> PurgedStore {
    PurgedStore {
        site: store.site,
        store: address(store),
        id: store.id.clone(),
        purged_at: None,
        never_used_at: store.never_used_at.clone(),
        abandoned_at: store.abandoned_at.clone(),
        deleted: 0,
        listing: None,
        last_failure: None,
    }
}

/// A Job from before a store was left says nothing of what was written since.
pub fn is_since_left(at: &Time, store: &RecordStore) -> bool {
    store.left_at.as_ref().is_some_and(|left| at.0 >= left.0)
}

/// A store that was left, with whether it is settled.
pub fn settled(store: &RecordStore, known: &PurgedStore) -> RecordStore {
    let told = || known.never_used_at.clone().filter(|at| is_since_left(at, store));
    let never_used_at = store.never_used_at.clone().or_else(told);
    let is_of_use = |_: &StoreFailure| never_used_at.is_none();
    RecordStore {
        escrow_failure: store.escrow_failure.clone().filter(is_of_use),
        prune_failure: store.prune_failure.clone().filter(is_of_use),
        abandoned_at: store.abandoned_at.clone().or_else(|| known.abandoned_at.clone()),
        never_used_at,
        ..store.clone()
    }
}

/// It with what is new: how the last attempt ended, what can't be tried, and what is given up.
pub fn noted(before: &Purge, facts: &Facts, now: Timestamp) -> Purge {
    let mut purge = before.clone();
    if facts.attempt == Attempt::Runs {
        return purge;
    }
    if facts.attempt != Attempt::Missing {
        purge.attempts += 1;
    }
    for store in purge.stores.iter_mut().filter(|store| !store.is_done()) {
        tried_once(store, before.what, facts);
        if store.is_done() {
            continue;
        }
        match obstacle(store, facts) {
            None => store.last_failure = store.last_failure.take().filter(is_attempts),
            Some((reason, _)) if is_known(store, reason) => {}
            Some((reason, message)) => {
                let failure = Failure { reason: reason.to_owned(), message };
                store.last_failure = Some(failed(&failure, now));
            }
        }
        if facts.abandoned.contains(&store.id) && store.last_failure.is_some() {
            store.abandoned_at = Some(seconds(now));
        }
    }
    purge
}

/// What the attempt that has ended says of a store.
fn tried_once(store: &mut PurgedStore, what: What, facts: &Facts) {
    match &facts.attempt {
        Attempt::Missing | Attempt::Runs => {}
        Attempt::Failed(failure, at) => store.last_failure = Some(failed(failure, *at)),
        Attempt::Reported(report, at) => {
            let told = report.stores.iter().find(|told| told.id == store.id);
            match (told, &report.failure) {
                (Some(told), _) if is_nowhere(told.failure.as_ref()) && facts.unused.contains(&store.id) => {
                    store.never_used_at = Some(seconds(*at));
                    store.last_failure = None;
                }
                (Some(told), _) => reported(store, what, told, *at),
                (None, Some(failure)) => store.last_failure = Some(failed(failure, *at)),
                (None, None) => {}
            }
        }
    }
}

fn reported(store: &mut PurgedStore, what: What, told: &StorePurge, at: Timestamp) {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    store.deleted = store.deleted.saturating_add(count(told.deleted));
    if let Some(listing) = &told.listing {
        store.listing = Some(StoreListing {
            at: seconds(listing.at),
            found: count(listing.found),
            foreign: count(listing.foreign),
        });
    }
    store.last_failure = told.failure.as_ref().map(|failure| failed(failure, at));
    let is_clean = told.listing.as_ref().is_some_and(|listing| listing.found == 0);
    if is_clean && told.failure.is_none() {
        store.purged_at = store.listing.as_ref().map(|listing| listing.at.clone());
    } else if told.failure.is_none() && (what != What::Expired || told.listing.is_none()) {
        let unknown = Failure { reason: "ReportLost".to_owned(), message: "it was not listed".to_owned() };
        store.last_failure = Some(failed(&unknown, at));
    }
}

fn failed(failure: &Failure, at: Timestamp) -> StoreFailure {
    StoreFailure { reason: failure.reason.clone(), message: failure.message.clone(), at: seconds(at) }
}

fn is_known(store: &PurgedStore, reason: &str) -> bool {
    store.last_failure.as_ref().is_some_and(|failure| failure.reason == reason)
}

/// Whether an attempt has failed so, rather than that there was none.
fn is_attempts(failure: &StoreFailure) -> bool {
    ![NO_CREDENTIALS, NO_IMAGE].contains(&failure.reason.as_str())
}

/// Why no Job can try it.
fn obstacle(store: &PurgedStore, facts: &Facts) -> Option<(&'static str, String)> {
    let (home, id) = (&facts.home, &store.id);
    if !facts.is_possible {
        let message = "the operator's configuration has no backup.image: set it (the chart does)".to_owned();
        return Some((NO_IMAGE, message));
    }
    (!facts.credentials.contains(id)).then(|| {
        let message = format!(
            "Secret ID-stores of {home}, where ID is this record's name, lacks {id}.accessKeyId or {id}.secretAccessKey: add \
             them (docs/operations/closing-accounts.md)"
        );
        (NO_CREDENTIALS, message)
    })
}

/// The ids of the stores that the next attempt is for.
pub fn tried<'a>(purge: &'a Purge, facts: &Facts) -> Vec<&'a str> {
    let can_be = |store: &&PurgedStore| !store.is_done() && obstacle(store, facts).is_none();
    purge.stores.iter().filter(can_be).map(|store| store.id.as_str()).collect()
}

/// When the next attempt is due; `None`: nothing is to be tried, or is being tried.
pub fn due(purge: &Purge, facts: &Facts) -> Option<Timestamp> {
    if facts.attempt != Attempt::Missing {
        return None;
    }
    let doublings = u32::try_from(purge.attempts - 1).unwrap_or_default().min(10);
    let pause = (SOONEST * 2_i32.pow(doublings)).min(LATEST);
    let ids = tried(purge, facts);
    let stores = purge.stores.iter().filter(|store| ids.contains(&store.id.as_str()));
    let due = stores.map(|store| match &store.last_failure {
        Some(StoreFailure { at: Time(at), .. }) => *at + pause,
        None => purge.since,
    });
    due.min()
}

/// What a person must know of the stores that aren't purged.
pub fn waiting(purge: &Purge, facts: Option<&Facts>) -> Option<String> {
    let open: Vec<_> = purge.stores.iter().filter(|store| !store.is_done()).collect();
    if open.is_empty() {
        return None;
    }
    let shown = open.iter().map(|store| {
        let failure = store.last_failure.as_ref();
        let why = failure.map(|failure| format!(" ({}: {})", failure.reason, failure.message));
        format!("{} {}{}", store.site, store.store, why.unwrap_or_default())
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    let are = purge.what.are();
    let what = match facts {
        None => format!("{are} deleted once nothing can write any more"),
        Some(facts) if facts.attempt == Attempt::Runs => {
            let (home, component) = (&facts.home, labels::COMPONENT);
            format!("{are} being deleted (kubectl -n {home} get jobs -l {component}={})", labels::PURGE)
        }
        Some(facts) => match due(purge, facts).filter(|_| purge.attempts > 0) {
            Some(due) => {
                format!("{are} not all deleted, attempt {} is due at {due}", purge.attempts + 1)
            }
            None => format!("{are} not all deleted"),
        },
    };
    Some(format!("{what}: {shown}"))
}

#[cfg(test)]
mod tests {
    use marketrelay_api::backup::{PurgeListing, PurgeReport};

    use super::{super::known::tests::sample, *};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("in range")
    }

    fn purge() -> Purge {
        let stores = vec![sample("one"), sample("two")];
        let stores = begun(&ConnectionRecordStatus { stores, ..ConnectionRecordStatus::default() });
        Purge { what: What::Everything, stores, attempts: 0, since: at(0) }
    }

    fn facts(attempt: Attempt) -> Facts {
        let credentials = purge().stores.into_iter().map(|store| store.id).collect();
        let home = "home".to_owned();
        let (abandoned, unused) = Default::default();
        Facts { credentials, attempt, is_possible: true, abandoned, unused, expiry: None, home }
    }

    /// How many were deleted and found in each store; or why not.
    fn report(stores: [Result<(u64, u64), &str>; 2], second: i64) -> Attempt {
        let of = |(known, told): (PurgedStore, Result<(u64, u64), &str>)| StorePurge {
            id: known.id,
            deleted: told.map_or(1, |(deleted, _)| deleted),
            listing: told.ok().map(|(_, found)| PurgeListing {
                at: at(second - 1),
                found,
                foreign: 0,
                backups: None,
            }),
            failure: told.err().map(|reason| Failure { reason: reason.to_owned(), message: "m".to_owned() }),
        };
        let stores = purge().stores.into_iter().zip(stores).map(of).collect();
        Attempt::Reported(PurgeReport { stores, failure: None }, at(second))
    }

    #[test]
    fn each_store_is_purged_once_its_listing_is_empty_and_the_other_is_tried_again_later_each_time() {
        let missing = facts(Attempt::Missing);
        assert_eq!(due(&purge(), &missing), Some(at(0)), "at once");
        assert_eq!(noted(&purge(), &facts(Attempt::Runs), at(5)), purge());
        assert_eq!(due(&purge(), &facts(Attempt::Runs)), None);
        let mut now = noted(&purge(), &facts(report([Ok((4, 0)), Err("StoreRefused")], 10)), at(11));
        assert_eq!(now.stores[0].purged_at, Some(seconds(at(9))));
        assert_eq!(now.stores[0].listing.as_ref().map(|listing| listing.found), Some(0));
        assert_eq!((now.stores[0].deleted, now.stores[1].deleted, now.attempts), (4, 1, 1));
        assert!(!now.is_over() && tried(&now, &missing) == [now.stores[1].id.as_str()]);
        for (end, wait) in [(10, 120), (200, 240), (500, 480)] {
            now = if end == 10 {
                now
            } else {
                noted(&now, &facts(report([Ok((0, 0)), Err("StoreFull")], end)), at(end))
            };
            assert_eq!(due(&now, &missing), Some(at(end + wait)));
        }
        now.attempts = 40;
        assert_eq!(due(&now, &missing), Some(at(500 + 3_600)));
        let message = waiting(&now, Some(&missing)).expect("it waits");
        assert!(message.contains("attempt 41") && message.contains("StoreFull: m"), "{message}");
        let done = noted(&now, &facts(report([Ok((0, 0)), Ok((2, 0))], 600)), at(600));
        assert!(done.is_over() && waiting(&done, None).is_none());
        assert_eq!((done.stores[0].clone(), done.stores[1].deleted), (now.stores[0].clone(), 5));
    }

    #[test]
    fn what_a_listing_still_finds_is_no_proof_whatever_the_job_says_of_itself() {
        let found = noted(&purge(), &facts(report([Ok((4, 1)), Ok((0, 0))], 10)), at(11));
        assert!(found.stores[0].purged_at.is_none() && found.stores[0].last_failure.is_some());
        let lost = Attempt::Failed(Failure { reason: "BackupTimedOut".into(), message: "m".into() }, at(10));
        let lost = noted(&purge(), &facts(lost), at(11));
        assert!(lost.stores.iter().all(|store| is_known(store, "BackupTimedOut")) && lost.attempts == 1);
    }

    #[test]
    fn missing_credentials_are_named_and_tried_as_soon_as_they_are_there() {
        let mut some = facts(Attempt::Missing);
        some.credentials.remove(&purge().stores[0].id);
        let first = noted(&purge(), &some, at(50));
        assert!(is_known(&first.stores[0], NO_CREDENTIALS) && first.stores[1].last_failure.is_none());
        assert_eq!(tried(&first, &some), [first.stores[1].id.as_str()]);
        assert_eq!(noted(&first, &some, at(60)), first, "nothing new, nothing to write");
        let none = Facts { credentials: std::collections::BTreeSet::new(), ..some };
        assert_eq!((due(&first, &none), tried(&first, &none).len()), (None, 0));
        let impossible = noted(&first, &Facts { is_possible: false, ..facts(Attempt::Missing) }, at(70));
        assert!(impossible.stores.iter().all(|store| is_known(store, NO_IMAGE)));
        let there = noted(&impossible, &facts(Attempt::Missing), at(80));
        assert!(there.stores.iter().all(|store| store.last_failure.is_none()));
        assert_eq!(due(&there, &facts(Attempt::Missing)), Some(at(0)));
    }

    #[test]
    fn a_bucket_that_is_not_there_is_done_only_if_nothing_can_have_been_written_into_it() {
        let unused = [purge().stores[1].id.clone()].into();
        let missing = report([Err("BucketNotFound"), Err("BucketNotFound")], 10);
        let done = noted(&purge(), &Facts { unused, ..facts(missing) }, at(11));
        assert!(is_known(&done.stores[0], "BucketNotFound") && !done.stores[0].is_done());
        let never = &done.stores[1];
        assert_eq!((never.never_used_at.clone(), never.last_failure.clone()), (Some(seconds(at(10))), None));
        assert_eq!(tried(&done, &facts(Attempt::Missing)), [done.stores[0].id.as_str()]);
        let left = RecordStore { left_at: Some(seconds(at(12))), ..sample("two") };
        assert!(!settled(&left, never).is_settled(), "that was before it was left");
        let left = RecordStore {
            left_at: Some(seconds(at(9))),
            prune_failure: done.stores[0].last_failure.clone(),
            ..left
        };
        assert!(settled(&left, never).is_settled() && settled(&left, never).prune_failure.is_none());
    }

    #[test]
    fn a_store_that_is_named_is_given_up_and_no_other_one() {
        let abandoned = [purge().stores[0].id.clone()].into();
        let named = Facts { abandoned, ..facts(report([Err("StoreRefused"), Err("StoreRefused")], 10)) };
        let done = noted(&purge(), &named, at(11));
        assert_eq!(done.stores[0].abandoned_at, Some(seconds(at(11))));
        assert!(is_known(&done.stores[0], "StoreRefused") && !done.stores[1].is_done());
    }

    #[test]
    fn only_what_was_tried_in_vain_or_can_not_be_tried_is_given_up() {
        let abandoned = facts(Attempt::Missing).credentials;
        let abandons = |attempt| Facts { abandoned: abandoned.clone(), ..facts(attempt) };
        assert!(!noted(&purge(), &abandons(Attempt::Missing), at(1)).is_over(), "it was never tried");
        let one = noted(&purge(), &abandons(report([Ok((1, 0)), Err("BucketNotFound")], 10)), at(11));
        assert!(one.is_over());
        assert_eq!((one.stores[0].abandoned_at.clone(), one.stores[1].purged_at.clone()), (None, None));
        assert_eq!(one.stores[1].abandoned_at, Some(seconds(at(11))));
    }
}
