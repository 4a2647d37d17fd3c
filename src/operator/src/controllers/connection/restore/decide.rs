//! When a database is restored, and how far that is. Pure.

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::{
    backup::{Choice, Restored},
    connection::{JobResult, Restore, RestoreCause, RestoreStatus, RestoredBackup},
};

use super::attempt::Attempt;
use crate::conditions::seconds;

/// After the first failure; then twice as long after each.
const SOONEST: SignedDuration = SignedDuration::from_mins(2);
const LATEST: SignedDuration = SignedDuration::from_hours(1);
/// As the Job says that there is a database after all.
const VOLUME_IN_USE: &str = "VolumeInUse";
/// As the Job says that what is asked for isn't in any store, or nothing is.
const NOT_FOUND: [&str; 2] = ["BackupNotFound", "NoBackup"];

/// What is known.
pub struct Facts<'a> {
    /// As the status has it.
    pub before: Option<&'a RestoreStatus>,
    /// As the spec has it.
    pub asked: Option<&'a Restore>,
    /// The relay doesn't find its database.
    pub is_missing: bool,
    /// There are stores, and it is known whose signature counts.
    pub is_possible: bool,
    /// Of the Job that is this attempt's.
    pub attempt: &'a Attempt,
    /// Now.
    pub now: Timestamp,
}

/// The restore that has begun and hasn't ended.
pub fn under_way(status: Option<&RestoreStatus>) -> Option<&RestoreStatus> {
    status.filter(|restore| restore.finished_at.is_none())
}

/// What was asked for and wasn't there, so that the relay went on with the database that it had: how its Job ended.
pub fn refused(status: Option<&RestoreStatus>) -> Option<&JobResult> {
    let is_refused = |restore: &&RestoreStatus| {
        let is_over = restore.finished_at.is_some() && restore.restored.is_none();
        restore.cause == RestoreCause::Asked && is_over
    };
    status.filter(is_refused)?.last_failure.as_ref()
}

/// Whether a value of spec.restore isn't taken up again.
pub fn was_taken_up(status: Option<&RestoreStatus>, asked: &Restore) -> bool {
    let known = status.map(|restore| [&restore.asked, &restore.done]);
    known.into_iter().flatten().flatten().any(|known| known == asked)
}

/// Whether something else is asked for now than what is under way: the next look begins that, or ends this.
pub fn is_changed(current: &RestoreStatus, asked: Option<&Restore>) -> bool {
    let is_withdrawn = current.cause == RestoreCause::Asked && asked != current.asked.as_ref();
    is_withdrawn || asked.is_some_and(|asked| !was_taken_up(Some(current), asked))
}

/// What the status has from now on.
pub fn decide(facts: &Facts<'_>) -> Option<RestoreStatus> {
    let asked_before = facts.before.and_then(|before| before.asked.as_ref());
    let is_new = |asked: &&Restore| !was_taken_up(facts.before, asked);
    let wish = facts.asked.filter(is_new).filter(|_| facts.is_possible);
    let is_withdrawn = facts.asked != asked_before;
    let Some(current) = under_way(facts.before) else {
        let cause = match (wish, facts.is_missing && facts.is_possible) {
            (Some(_), _) => RestoreCause::Asked,
            (None, true) => RestoreCause::VolumeEmpty,
            // It may be asked for again.
            (None, false) if is_withdrawn => {
                return facts.before.and_then(|before| recalled(before, facts.now));
            }
            (None, false) => return facts.before.cloned(),
        };
        return Some(begun(cause, wish.or(asked_before), facts));
    };
    match facts.attempt {
        Attempt::Restored(restored) => return Some(ended(current, restored, facts.now)),
        Attempt::Runs => return Some(current.clone()),
        Attempt::Missing | Attempt::Failed(_) => {}
    }
    if wish.is_some() {
        return Some(begun(RestoreCause::Asked, wish, facts));
    }
    let is_asked = current.cause == RestoreCause::Asked;
    if is_asked && (is_withdrawn || !facts.is_possible) {
        return forgotten(current, facts.now);
    }
    match facts.attempt {
        _ if !facts.is_possible => Some(given_up(current, facts.now)),
        Attempt::Failed(failure) if is_final(failure, is_asked) => {
            let told = if is_asked { failed(current, failure) } else { current.clone() };
            Some(given_up(&told, facts.now))
        }
        Attempt::Failed(failure) => Some(failed(current, failure)),
        _ => Some(current.clone()),
    }
}

/// Whether it isn't tried again: it would fail again, and the relay would be away for nothing; or the relay judges for itself, and
/// says so if it still misses its own.
fn is_final(failure: &JobResult, is_asked: bool) -> bool {
    let reason = failure.reason.as_deref().unwrap_or_default();
    if is_asked { NOT_FOUND.contains(&reason) } else { reason == VOLUME_IN_USE }
}

/// What was restored isn't asked for again; what wasn't, may be.
fn recalled(before: &RestoreStatus, now: Timestamp) -> Option<RestoreStatus> {
    if refused(Some(before)).is_some() {
        return forgotten(before, now);
    }
    Some(RestoreStatus { asked: before.done.clone(), ..before.clone() })
}

/// What is withdrawn may be asked for again; what was restored before it isn't then.
fn forgotten(current: &RestoreStatus, now: Timestamp) -> Option<RestoreStatus> {
    let done = current.done.clone()?;
    Some(RestoreStatus {
        asked: Some(done),
        failures: 0,
        last_failure: None,
        finished_at: Some(seconds(now)),
        ..current.clone()
    })
}

/// What was done once on purpose stays known.
fn given_up(current: &RestoreStatus, now: Timestamp) -> RestoreStatus {
    RestoreStatus { finished_at: Some(seconds(now)), ..current.clone() }
}

/// Later than the one before, by whole seconds: Jobs are named after that.
fn begun(cause: RestoreCause, asked: Option<&Restore>, facts: &Facts<'_>) -> RestoreStatus {
    let earliest = facts.before.map(|before| before.since.0 + SignedDuration::from_secs(1));
    RestoreStatus {
        since: seconds(earliest.map_or(facts.now, |earliest| earliest.max(facts.now))),
        cause,
        asked: asked.cloned(),
        done: facts.before.and_then(|before| before.done.clone()),
        failures: 0,
        last_failure: None,
        finished_at: None,
        restored: None,
    }
}

fn failed(current: &RestoreStatus, failure: &JobResult) -> RestoreStatus {
    RestoreStatus { failures: current.failures + 1, last_failure: Some(failure.clone()), ..current.clone() }
}

fn ended(current: &RestoreStatus, restored: &Restored, now: Timestamp) -> RestoreStatus {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let backup = RestoredBackup {
        backup: restored.backup.clone(),
        site: restored.site,
        taken_at: seconds(restored.created_at),
        orders: count(restored.orders),
        anonymised: count(restored.anonymised),
        erased: count(restored.erased),
        held: count(restored.held),
        passed_over: restored.passed_over.clone(),
    };
    let asked = current.asked.clone().filter(|_| current.cause == RestoreCause::Asked);
    RestoreStatus {
        done: asked.or_else(|| current.done.clone()),
        finished_at: Some(seconds(now)),
        restored: Some(backup),
        ..current.clone()
    }
}

/// When the next attempt is due.
pub fn due(current: &RestoreStatus) -> Timestamp {
    let Some(failure) = &current.last_failure else { return current.since.0 };
    let doublings = u32::try_from(current.failures - 1).unwrap_or_default().min(10);
    failure.finished_at.0 + (SOONEST * 2_i32.pow(doublings)).min(LATEST)
}

/// Which backup it is to be.
pub fn choice(current: &RestoreStatus) -> Choice {
    let asked = current.asked.as_ref().filter(|_| current.cause == RestoreCause::Asked);
    let backup = asked.and_then(|asked| asked.backup.clone()).map(Choice::Backup);
    let before = || asked.and_then(|asked| asked.before.as_ref()).map(|moment| Choice::Before(moment.at()));
    backup.or_else(before).unwrap_or(Choice::Newest)
}

#[cfg(test)]
mod tests {
    use marketrelay_api::backup::{AuditHead, Site};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("in range")
    }

    fn wish(backup: &str) -> Restore {
        Restore { backup: Some(backup.to_owned()), before: None, confirm: "id".to_owned() }
    }

    fn facts<'a>(
        before: Option<&'a RestoreStatus>,
        asked: Option<&'a Restore>,
        attempt: &'a Attempt,
    ) -> Facts<'a> {
        let (is_missing, is_possible) = (false, true);
        Facts { before, asked, is_missing, is_possible, attempt, now: at(100) }
    }

    fn failure(second: i64) -> Attempt {
        failure_of("StoreUnreachable", second)
    }

    fn failure_of(reason: &str, second: i64) -> Attempt {
        Attempt::Failed(JobResult {
            job: "j".to_owned(),
            finished_at: seconds(at(second)),
            reason: Some(reason.to_owned()),
            message: Some("none".to_owned()),
        })
    }

    fn restored() -> Attempt {
        Attempt::Restored(Box::new(Restored {
            backup: "b".to_owned(),
            site: Site::OnSite,
            created_at: at(1),
            sequence: 7,
            orders: 3,
            anonymised: 1,
            erased: 0,
            held: 0,
            audit: AuditHead { chain: "c".to_owned(), sequence: 4, hash: "0".repeat(64) },
            passed_over: Vec::new(),
        }))
    }

    #[test]
    fn a_missing_database_is_restored_once_and_again_if_it_goes_missing_again() {
        let nothing = Facts { is_missing: true, is_possible: false, ..facts(None, None, &Attempt::Missing) };
        assert_eq!(decide(&nothing), None, "there is nothing to restore from");
        let missing = Facts { is_possible: true, ..nothing };
        let begun = decide(&missing).expect("it begins");
        assert_eq!((begun.cause, choice(&begun)), (RestoreCause::VolumeEmpty, Choice::Newest));
        assert_eq!(decide(&facts(Some(&begun), None, &Attempt::Runs)), Some(begun.clone()));
        let done = decide(&facts(Some(&begun), None, &restored())).expect("it ends");
        assert_eq!(done.restored.as_ref().map(|backup| backup.orders), Some(3));
        assert_eq!(decide(&facts(Some(&done), None, &Attempt::Missing)), Some(done.clone()));
        let again = decide(&Facts { before: Some(&done), ..missing }).expect("it begins");
        assert_eq!((again.finished_at, again.cause), (None, RestoreCause::VolumeEmpty));
    }

    #[test]
    fn what_is_asked_for_is_done_once_for_each_value() {
        let (first, second) = (wish("first"), wish("second"));
        let begun = decide(&facts(None, Some(&first), &Attempt::Missing)).expect("it begins");
        assert_eq!(choice(&begun), Choice::Backup("first".to_owned()));
        let done = decide(&facts(Some(&begun), Some(&first), &restored())).expect("it ends");
        assert_eq!(decide(&facts(Some(&done), Some(&first), &Attempt::Missing)), Some(done.clone()));
        let missing = Facts { is_missing: true, ..facts(Some(&done), Some(&first), &Attempt::Missing) };
        let empty = decide(&missing).expect("it begins");
        assert_eq!((empty.cause, choice(&empty)), (RestoreCause::VolumeEmpty, Choice::Newest));
        let done = decide(&facts(Some(&empty), Some(&first), &restored())).expect("it ends");
        assert_eq!(decide(&facts(Some(&done), Some(&first), &Attempt::Missing)), Some(done.clone()));
        let next = decide(&facts(Some(&done), Some(&second), &Attempt::Missing)).expect("it begins");
        assert_eq!(choice(&next), Choice::Backup("second".to_owned()));
    }

    #[test]
    fn a_failure_waits_longer_each_time_and_a_corrected_wish_does_not_wait() {
        let (first, second) = (wish("first"), wish("second"));
        let begun = decide(&facts(None, Some(&first), &Attempt::Missing)).expect("it begins");
        assert_eq!(due(&begun), at(100));
        let mut current = begun;
        for (end, wait) in [(200, 120), (400, 240), (900, 480)] {
            current = decide(&facts(Some(&current), Some(&first), &failure(end))).expect("it goes on");
            assert_eq!(due(&current), at(end + wait));
        }
        current.failures = 40;
        assert_eq!(due(&current), at(900 + 3_600));
        let mended = decide(&facts(Some(&current), Some(&second), &failure(1_000))).expect("it goes on");
        assert_eq!((choice(&mended), due(&mended)), (Choice::Backup("second".to_owned()), at(101)));
        let runs = decide(&facts(Some(&current), Some(&second), &Attempt::Runs)).expect("it goes on");
        assert_eq!(choice(&runs), Choice::Backup("first".to_owned()), "the Job that runs is let end");
    }

    #[test]
    fn an_old_wish_is_not_done_again_because_a_restore_was_impossible_for_a_moment() {
        let first = wish("first");
        let begun = decide(&facts(None, Some(&first), &Attempt::Missing)).expect("it begins");
        let done = decide(&facts(Some(&begun), Some(&first), &restored())).expect("it ends");
        let missing = Facts { is_missing: true, ..facts(Some(&done), Some(&first), &Attempt::Missing) };
        let empty = decide(&missing).expect("it begins");
        let impossible = Facts { is_possible: false, ..facts(Some(&empty), Some(&first), &Attempt::Missing) };
        let ended = decide(&impossible).expect("it is remembered");
        assert_eq!((ended.finished_at.is_some(), ended.restored.is_some()), (true, false));
        assert_eq!(decide(&facts(Some(&ended), Some(&first), &Attempt::Missing)), Some(ended.clone()));
        let again = decide(&Facts { before: Some(&ended), ..missing }).expect("it begins");
        assert_eq!((again.cause, choice(&again)), (RestoreCause::VolumeEmpty, Choice::Newest));
    }

    #[test]
    fn a_database_that_is_there_after_all_is_let_alone() {
        let missing = Facts { is_missing: true, ..facts(None, None, &Attempt::Missing) };
        let begun = decide(&missing).expect("it begins");
        let in_use = failure_of("VolumeInUse", 200);
        let ended = decide(&facts(Some(&begun), None, &in_use)).expect("it is remembered");
        assert!(ended.finished_at.is_some());
    }

    #[test]
    fn what_is_asked_for_and_is_not_there_ends_the_relays_rest_until_something_else_is_asked_for() {
        let (first, second) = (wish("first"), wish("second"));
        let begun = decide(&facts(None, Some(&first), &Attempt::Missing)).expect("it begins");
        let not_found = failure_of("BackupNotFound", 200);
        let ended = decide(&facts(Some(&begun), Some(&first), &not_found)).expect("it is told");
        assert_eq!((under_way(Some(&ended)), ended.failures), (None, 1));
        assert_eq!(refused(Some(&ended)), ended.last_failure.as_ref());
        let later = facts(Some(&ended), Some(&first), &Attempt::Missing);
        assert_eq!(decide(&later), Some(ended.clone()), "it isn't tried again");
        let next = decide(&facts(Some(&ended), Some(&second), &Attempt::Missing)).expect("it begins");
        assert_eq!((choice(&next), refused(Some(&next))), (Choice::Backup("second".to_owned()), None));
        assert_eq!(decide(&facts(Some(&ended), None, &Attempt::Missing)), None, "withdrawn, it is forgotten");
        let missing = Facts { is_missing: true, ..later };
        let empty = decide(&missing).expect("it begins");
        assert_eq!((empty.cause, refused(Some(&empty))), (RestoreCause::VolumeEmpty, None));
        let full = decide(&facts(Some(&empty), Some(&first), &restored())).expect("it ends");
        assert_eq!(decide(&facts(Some(&full), Some(&first), &Attempt::Missing)), Some(full.clone()));
        let withdrawn = decide(&facts(Some(&full), None, &Attempt::Missing)).expect("it is remembered");
        assert_eq!((&withdrawn.asked, &withdrawn.restored), (&None, &full.restored));
        let again = decide(&facts(Some(&withdrawn), Some(&first), &Attempt::Missing)).expect("it begins");
        assert_eq!(again.cause, RestoreCause::Asked, "it never was restored");
        let away = decide(&facts(Some(&empty), Some(&first), &not_found)).expect("it goes on");
        assert!(under_way(Some(&away)).is_some(), "a database that is missing is waited for");
        let none = failure_of("NoBackup", 200);
        let ended = decide(&facts(Some(&begun), Some(&first), &none)).expect("it is told");
        assert!(refused(Some(&ended)).is_some(), "without the relay there would never be one");
        let elsewhere = failure_of("SiteLeftOut", 200);
        let waits = decide(&facts(Some(&begun), Some(&first), &elsewhere)).expect("it goes on");
        assert!(under_way(Some(&waits)).is_some(), "it may be at the site that can't be asked");
    }

    #[test]
    fn a_wish_that_is_withdrawn_in_favour_of_what_was_restored_before_restores_nothing() {
        let (first, second) = (wish("first"), wish("second"));
        let begun = decide(&facts(None, Some(&first), &Attempt::Missing)).expect("it begins");
        let done = decide(&facts(Some(&begun), Some(&first), &restored())).expect("it ends");
        let other = decide(&facts(Some(&done), Some(&second), &Attempt::Missing)).expect("it begins");
        let not_found = failure_of("BackupNotFound", 200);
        let refusal = decide(&facts(Some(&other), Some(&second), &not_found)).expect("it is told");
        let failing = decide(&facts(Some(&other), Some(&second), &failure(200))).expect("it goes on");
        for before in [&refusal, &failing] {
            for asked in [Some(&first), None] {
                let back = decide(&facts(Some(before), asked, &Attempt::Missing)).expect("it is remembered");
                assert_eq!((under_way(Some(&back)), refused(Some(&back))), (None, None));
                for asked in [Some(&first), None] {
                    assert_eq!(decide(&facts(Some(&back), asked, &Attempt::Missing)), Some(back.clone()));
                }
                let again = decide(&facts(Some(&back), Some(&second), &Attempt::Missing)).expect("it begins");
                assert_eq!(choice(&again), Choice::Backup("second".to_owned()));
            }
        }
        let missing = Facts { is_missing: true, ..facts(Some(&refusal), Some(&second), &Attempt::Missing) };
        let empty = decide(&missing).expect("it begins");
        for (asked, is_new) in [(Some(&first), false), (Some(&second), false), (None, false)] {
            assert_eq!(
                is_changed(&empty, asked),
                is_new,
                "the lost database is restored whatever is asked for"
            );
        }
        assert!(is_changed(&empty, Some(&wish("third"))));
        assert!(
            is_changed(&other, Some(&first))
                && is_changed(&other, None)
                && !is_changed(&other, Some(&second))
        );
        let both = decide(&facts(Some(&other), Some(&second), &restored())).expect("it ends");
        let again = decide(&facts(Some(&both), Some(&first), &Attempt::Missing)).expect("it begins");
        assert_eq!(choice(&again), Choice::Backup("first".to_owned()), "another one was restored since");
    }

    #[test]
    fn a_withdrawn_wish_ends_the_relays_rest_but_not_while_its_job_runs() {
        let first = wish("first");
        let begun = decide(&facts(None, Some(&first), &Attempt::Missing)).expect("it begins");
        assert_eq!(decide(&facts(Some(&begun), None, &Attempt::Runs)), Some(begun.clone()));
        assert_eq!(decide(&facts(Some(&begun), None, &failure(200))), None);
        let failed = failure(200);
        let impossible = Facts { is_possible: false, ..facts(Some(&begun), Some(&first), &failed) };
        assert_eq!(decide(&impossible), None);
    }
}
