//! Which stores a connection has left with backups whose time is to come, and what is noted of them. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::{
    ConnectionRecordStatus, Duration,
    backup::{BackupsLeft, Expiry, PurgeListing},
    record::{LeftBackups, PurgedStore, RecordStore},
};

use super::{
    Facts,
    attempt::Attempt,
    decide::{settled, unpurged},
    known::address,
    purge::{Purge, What},
};
use crate::{
    conditions::seconds,
    controllers::{connection::backup::archives, keyring::facts::KeyringFacts},
    problem::Problem,
};

/// As the connection's own Jobs did.
const DAILY: SignedDuration = SignedDuration::from_hours(24);
/// Between two Jobs at least: clocks differ.
const SOONEST: SignedDuration = SignedDuration::from_mins(2);
/// Until then a pod may have begun that writes there yet: what a listing doesn't find before may still come.
const SETTLED: SignedDuration = SignedDuration::from_mins(5);
/// No policy may have them kept for longer.
const LONGEST: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Whether backups may still be there.
pub(super) fn has_backups_left(store: &RecordStore) -> bool {
    store.left_at.is_some()
        && !store.is_settled()
        && store.backups.as_ref().is_none_or(|backups| backups.next_at.is_some())
}

/// The addresses of stores that the connection has left, and where backups may still be.
pub fn with_backups_left(status: &ConnectionRecordStatus) -> Vec<String> {
    status.stores.iter().filter(|store| has_backups_left(store)).map(address).collect()
}

fn is_due(store: &RecordStore, now: Timestamp) -> bool {
    let next = store.backups.as_ref().and_then(|backups| backups.next_at.as_ref());
    has_backups_left(store) && (store.prune_failure.is_some() || next.is_none_or(|next| next.0 <= now))
}

/// Of the stores that it is time for; `None`: there are none.
pub fn expiring(status: &ConnectionRecordStatus, now: Timestamp) -> Option<Purge> {
    let due: Vec<_> = status.stores.iter().filter(|store| is_due(store, now)).collect();
    let since = due.iter().filter_map(|store| store.left_at.as_ref()).map(|left| left.0).min()?;
    let store =
        |store: &&RecordStore| PurgedStore { last_failure: store.prune_failure.clone(), ..unpurged(store) };
    let stores = due.iter().map(store).collect();
    Some(Purge { what: What::Expired, stores, attempts: status.prune_attempts, since })
}

/// When their time has come. `keyring`: its own, if there is one; a problem: it isn't known which holds live.
pub fn expiry(
    retention: Option<&Duration>,
    deadline_seconds: u32,
    keyring: Result<Option<&KeyringFacts>, &Problem>,
) -> Expiry {
    let live = |keyring: Option<&KeyringFacts>| {
        archives::live(keyring.map_or(&BTreeMap::new(), |keyring| &keyring.hold_ids), None)
    };
    Expiry {
        public_key: keyring.ok().flatten().and_then(|keyring| keyring.public_key.clone()),
        backup_retention_seconds: retention.map_or(LONGEST.as_secs(), Duration::as_secs),
        // It may wait for its turn, and take its time.
        interval_seconds: DAILY.as_secs() + i64::from(deadline_seconds),
        holds: keyring.ok().map(live),
    }
}

/// With what has become of it.
pub fn pruned(before: &ConnectionRecordStatus, after: &Purge, facts: &Facts) -> ConnectionRecordStatus {
    let noted = |store: &RecordStore| {
        let Some(known) = after.stores.iter().find(|known| known.id == store.id) else {
            return store.clone();
        };
        RecordStore {
            backups: told(store, facts).or_else(|| store.backups.clone()),
            prune_failure: known.last_failure.clone(),
            ..settled(store, known)
        }
    };
    let stores = before.stores.iter().map(noted).collect();
    ConnectionRecordStatus { stores, prune_attempts: after.attempts, ..before.clone() }
}

/// What the attempt that has ended tells of the store as it was left.
fn told(store: &RecordStore, facts: &Facts) -> Option<LeftBackups> {
    let Attempt::Reported(report, _) = &facts.attempt else { return None };
    let told = report.stores.iter().find(|told| told.id == store.id)?;
    let (listing, left_at) = (told.listing.as_ref()?, store.left_at.as_ref()?.0);
    let found = listing.backups.as_ref()?;
    if listing.at < left_at {
        return None;
    }
    let before = store.backups.as_ref().map_or(0, |backups| backups.pruned);
    Some(LeftBackups {
        at: seconds(listing.at),
        left: count(listing.found),
        count: count(found.count),
        archives: count(found.archives),
        newest: found.newest.map(seconds),
        oldest: found.oldest.map(seconds),
        overdue: count(found.overdue),
        foreign: count(listing.foreign),
        pruned: before.saturating_add(count(told.deleted)),
        next_at: next(listing, found, left_at).map(seconds),
    })
}

/// When it is pruned next: to the minute at which the next backup expires, if that is sooner than a day from now.
fn next(listing: &PurgeListing, found: &BackupsLeft, left_at: Timestamp) -> Option<Timestamp> {
    if listing.found > 0 {
        let expires = found.expires.unwrap_or(Timestamp::MAX);
        return Some(expires.clamp(listing.at + SOONEST, listing.at + DAILY));
    }
    let last = left_at + SETTLED;
    (listing.at < last).then_some(last)
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What a person must know of those that wait for their time.
pub fn remaining(stores: &[RecordStore], now: Timestamp) -> Option<String> {
    let shown =
        stores.iter().filter(|store| has_backups_left(store) && !is_due(store, now)).filter_map(|store| {
            let LeftBackups { count, archives, next_at, .. } = store.backups.as_ref()?;
            let (place, next) = (address(store), next_at.as_ref()?.0);
            Some(format!("{} {place} ({count} backups and {archives} archives, next at {next})", store.site))
        });
    let shown = shown.collect::<Vec<_>>().join(", ");
    (!shown.is_empty())
        .then(|| format!("backups in stores that it doesn't use are pruned until none is left: {shown}"))
}

#[cfg(test)]
mod tests {
    use marketrelay_api::backup::{Failure, PurgeReport, StorePurge};

    use super::{
        super::{decide::noted, known::tests::sample, withdraw::retained},
        *,
    };

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hour * 3_600).expect("in range")
    }

    /// Of a connection that was deleted at the first hour.
    fn status() -> ConnectionRecordStatus {
        let stores = retained(&[sample("near"), sample("far")], at(0));
        ConnectionRecordStatus { stores, ..ConnectionRecordStatus::default() }
    }

    fn facts(attempt: Attempt) -> Facts {
        let credentials = status().stores.into_iter().map(|store| store.id).collect();
        let expiry = Some(expiry(None, 0, Ok(None)));
        let (abandoned, unused) = Default::default();
        Facts { credentials, attempt, is_possible: true, abandoned, unused, expiry, home: "home".to_owned() }
    }

    /// Listed at this hour: how many objects and backups there are, the second half of them, and when the next expires.
    fn listed(store: &RecordStore, hour: i64, left: u64, expires: Option<Timestamp>) -> StorePurge {
        let backups = BackupsLeft {
            count: left / 2,
            archives: 0,
            newest: expires.map(|_| at(0)),
            oldest: expires.map(|_| at(-24)),
            expires,
            overdue: 0,
        };
        let listing = PurgeListing { at: at(hour), found: left, foreign: 1, backups: Some(backups) };
        StorePurge { id: store.id.clone(), deleted: 2, listing: Some(listing), failure: None }
    }

    /// The status after an attempt that is reported at this hour.
    fn after(before: &ConnectionRecordStatus, hour: i64, stores: Vec<StorePurge>) -> ConnectionRecordStatus {
        let facts = facts(Attempt::Reported(PurgeReport { stores, failure: None }, at(hour)));
        let purge = expiring(before, at(hour)).expect("something is due");
        pruned(before, &noted(&purge, &facts, at(hour)), &facts)
    }

    fn due(status: &ConnectionRecordStatus, hour: i64) -> Vec<String> {
        let purge = expiring(status, at(hour));
        purge.into_iter().flat_map(|purge| purge.stores).map(|store| store.store).collect()
    }

    fn next_of(status: &ConnectionRecordStatus, place: usize) -> Option<Timestamp> {
        status.stores[place].backups.as_ref()?.next_at.as_ref().map(|next| next.0)
    }

    #[test]
    fn a_store_that_was_left_is_pruned_daily_and_when_its_last_backup_expires_until_it_is_empty() {
        let used = ConnectionRecordStatus { stores: vec![sample("near")], ..status() };
        assert_eq!(expiring(&used, at(1)), None, "its own CronJobs do it");
        let first = status();
        let [near, far] = [&first.stores[0], &first.stores[1]];
        assert_eq!(due(&first, 0), [address(near), address(far)]);
        let seen = after(&first, 1, vec![listed(near, 1, 6, Some(at(500))), listed(far, 1, 2, Some(at(7)))]);
        assert_eq!((next_of(&seen, 0), next_of(&seen, 1)), (Some(at(25)), Some(at(7))));
        assert_eq!((due(&seen, 6), due(&seen, 7)), (Vec::new(), vec![address(far)]));
        let told = remaining(&seen.stores, at(2)).expect("something to tell");
        assert!(told.contains("3 backups and 0 archives") && told.contains(&address(far)), "{told}");
        let half = after(&seen, 7, vec![listed(far, 7, 0, None)]);
        let empty = half.stores[1].backups.as_ref().expect("a listing");
        assert_eq!((empty.left, empty.pruned, empty.foreign, empty.next_at.as_ref()), (0, 4, 1, None));
        assert_eq!(due(&half, 25), [address(near)], "and never the empty one again");
        let over = after(&half, 25, vec![listed(near, 25, 0, None)]);
        assert_eq!((expiring(&over, at(9_000)), remaining(&over.stores, at(26))), (None, None));
        assert_eq!(over.prune_attempts, 3);
    }

    #[test]
    fn a_listing_proves_nothing_before_the_last_that_could_write_must_have_begun() {
        let first = status();
        let early = |hour| after(&first, 1, vec![listed(&first.stores[0], hour, 0, None)]);
        assert_eq!(next_of(&early(0), 0), Some(at(0) + SETTLED));
        assert_eq!(due(&early(0), 1).len(), 2);
        assert_eq!(early(-1).stores[0].backups, None, "it was listed before it was left");
        let soon = after(&first, 1, vec![listed(&first.stores[0], 1, 2, Some(at(0)))]);
        assert_eq!(next_of(&soon, 0), Some(at(1) + SOONEST), "clocks differ");
    }

    #[test]
    fn a_failure_is_told_and_tried_again_and_keeps_what_was_seen() {
        let first = status();
        let seen = after(&first, 1, vec![listed(&first.stores[0], 1, 2, Some(at(500)))]);
        let failure = Some(Failure { reason: "StoreRefused".to_owned(), message: "m".to_owned() });
        let refused = StorePurge { listing: None, failure, ..listed(&first.stores[0], 25, 0, None) };
        let failed = after(&seen, 25, vec![refused]);
        assert_eq!(failed.stores[0].backups, seen.stores[0].backups);
        let reason = failed.stores[0].prune_failure.as_ref().map(|failure| failure.reason.as_str());
        assert_eq!(reason, Some("StoreRefused"));
        assert!(due(&failed, 25).contains(&address(&first.stores[0])), "the pause is the attempt's");
        let well = after(&failed, 26, vec![listed(&first.stores[0], 26, 2, Some(at(500)))]);
        assert_eq!((well.stores[0].prune_failure.as_ref(), next_of(&well, 0)), (None, Some(at(50))));
    }

    #[test]
    fn backups_of_a_record_that_knows_no_retention_are_kept_no_longer_than_any_policy_allows() {
        assert_eq!(expiry(None, 60, Ok(None)).backup_retention_seconds, 30 * 86_400);
        let week = expiry(Some(&Duration::days(7)), 60, Ok(None));
        assert_eq!((week.backup_retention_seconds, week.interval_seconds), (7 * 86_400, 86_460));
    }

    #[test]
    fn a_keyring_that_can_not_be_read_lets_backups_go_and_no_archive_of_a_hold() {
        let problem = crate::controllers::keyring::facts::lost("bol-keyring", "damaged");
        assert_eq!(expiry(None, 60, Err(&problem)).holds, None);
        assert_eq!(expiry(None, 60, Ok(None)).holds, Some(Vec::new()), "without one no hold lives");
    }
}
