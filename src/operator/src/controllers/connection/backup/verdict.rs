//! What the backups mean for the conditions. Pure.

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::{
    ConditionType, Reason,
    backup::Site,
    connection::{Backups, JobResult, SiteBackups},
};

use super::wanted::{Store, Wanted};
use crate::{
    conditions::{Status, Verdict},
    problem::Problem,
};

/// A store is listed at least daily.
const LISTED: SignedDuration = SignedDuration::from_hours(48);

/// The conditions of the sites; `namespace`: of the connection, `deadline`: of one Job.
pub fn verdicts(
    namespace: &str,
    wanted: &Wanted,
    backups: &Backups,
    deadline: SignedDuration,
    now: Timestamp,
) -> Vec<(ConditionType, Verdict)> {
    let drills = wanted.sites().filter_map(|(site, store)| {
        let kind = match site {
            Site::OnSite => ConditionType::DrilledOnSite,
            Site::OffSite => ConditionType::DrilledOffSite,
        };
        Some((kind, drilled((namespace, wanted), store, backups.site(site)?, deadline, now)))
    });
    let verdict = |(site, store): (Site, Result<&Store, &Problem>)| {
        let kind = match site {
            Site::OnSite => ConditionType::BackedUpOnSite,
            Site::OffSite => ConditionType::BackedUpOffSite,
        };
        let known = backups.site(site)?;
        let verdict = match store {
            Err(problem) => failed(problem.reason, &problem.message),
            Ok(_) if wanted.suspend => {
                let message = "no backups are taken, since spec.suspend or spec.backup.suspend is true; those that there are \
                               still expire: set it to false to go on";
                failed(Reason::BackupsSuspended, message)
            }
            Ok(store) => judge(namespace, known, store, deadline, now),
        };
        Some((kind, verdict))
    };
    wanted.sites().filter_map(verdict).chain(drills).collect()
}

fn drilled(
    (namespace, wanted): (&str, &Wanted),
    store: Result<&Store, &Problem>,
    known: &SiteBackups,
    deadline: SignedDuration,
    now: Timestamp,
) -> Verdict {
    let store = match store {
        Err(problem) => return Verdict::new(Status::Unknown, problem.reason, &problem.message),
        Ok(_) if wanted.suspend => {
            let message = "nothing is drilled, since spec.suspend or spec.backup.suspend is true";
            return Verdict::new(Status::Unknown, Reason::BackupsSuspended, message);
        }
        Ok(store) => store,
    };
    let failure = known.last_drill.as_ref().and_then(|last| Some((last.reason.as_ref()?, last)));
    if let Some((_, last)) = failure {
        let message = format!(
            "the last drill failed: {} ({}; kubectl -n {namespace} logs job/{})",
            last.message.as_deref().unwrap_or_default(),
            store.shown(),
            last.job
        );
        return failed(Reason::DrillFailed, &message);
    }
    let (last, longest) = match &known.drilled {
        Some(drilled) => (drilled.at.0, store.drill_interval * 2 + deadline),
        None => (known.since.0, store.interval + deadline * 3),
    };
    if now.duration_since(last) > longest {
        let message = format!(
            "no drill has succeeded since {last}, so nobody knows that a restore would: look at its CronJob and Jobs (kubectl -n {namespace} get \
             cronjobs,jobs -l marketrelay.dev/task=drill)"
        );
        return failed(Reason::DrillOverdue, &message);
    }
    match &known.drilled {
        None => Verdict::new(Status::Unknown, Reason::FirstRun, "the first drill hasn't run yet"),
        Some(drilled) => {
            let message = format!(
                "backup {} was restored into a database of its own and agrees with its manifest; that took {}s",
                drilled.backup, drilled.seconds
            );
            Verdict::new(Status::True, Reason::Drilled, message)
        }
    }
}

fn failed(reason: impl Into<String>, message: &str) -> Verdict {
    Verdict::new(Status::False, reason, message)
}

fn judge(
    namespace: &str,
    known: &SiteBackups,
    store: &Store,
    deadline: SignedDuration,
    now: Timestamp,
) -> Verdict {
    if let Some(verdict) = known.last_run.as_ref().and_then(|last| failure(last, store)) {
        return verdict;
    }
    let interval = store.interval;
    let Some(newest) = newest(known) else {
        if let Some(last) = &known.last_success {
            let message = format!(
                "no good backup is left in the store {} ({} are damaged), though one was taken at {}: what was there has expired or was \
                 removed; the next run takes another",
                store.location.place(),
                known.damaged,
                last.0
            );
            return failed(Reason::BackupTooOld, &message);
        }
        if now.duration_since(known.since.0) <= interval + deadline {
            let message = "the first backup hasn't been taken yet";
            return Verdict::new(Status::Unknown, Reason::FirstRun, message);
        }
        let message = format!(
            "there has been no backup since {}: look at its Jobs (kubectl -n {namespace} get jobs -l \
             app.kubernetes.io/component=backup)",
            known.since.0
        );
        return failed(Reason::BackupTooOld, &message);
    };
    if now.duration_since(newest) > interval * 2 + deadline {
        let message = format!(
            "the newest backup is of {newest}, and there should be one at least every {interval:#}: look at its CronJobs and \
             Jobs (kubectl -n {namespace} get cronjobs,jobs -l app.kubernetes.io/component=backup)"
        );
        return failed(Reason::BackupTooOld, &message);
    }
    Verdict::new(Status::True, Reason::BackedUp, "the newest backup is as new as the schedule asks for")
}

/// When the newest backup was taken. What a later listing doesn't find isn't there.
fn newest(known: &SiteBackups) -> Option<Timestamp> {
    let (newest, last) = (known.newest.as_ref().map(|at| at.0), known.last_success.as_ref().map(|at| at.0));
    let is_listed = known.listed_at.as_ref().map(|at| at.0) >= last;
    if is_listed { newest } else { newest.max(last) }
}

fn failure(last: &JobResult, store: &Store) -> Option<Verdict> {
    let reason = last.reason.as_deref()?;
    let said = last.message.as_deref().unwrap_or_default();
    let message =
        format!("the last Job that takes backups, {}, failed: {said} ({})", last.job, store.shown());
    Some(failed(reason, &message))
}

/// Why it can't be said that backups are gone in time; `namespace`: of the connection.
pub fn overdue(namespace: &str, backups: &Backups, now: Timestamp) -> Option<(Reason, String)> {
    let sites = || Site::ALL.into_iter().filter_map(move |site| Some((site, backups.site(site)?)));
    let overdue = sites().find(|(_, known)| known.overdue > 0).map(|(site, known)| {
        let message = format!(
            "{} backups, versions or unfinished uploads in the {site} store should be gone and are still there, though nobody \
             can read them any more if their keys died on time: {}",
            known.overdue,
            hindrance(namespace, known)
        );
        (Reason::BackupsOverdue, message)
    });
    let unlisted = || {
        let late = |known: &SiteBackups| {
            now.duration_since(known.listed_at.as_ref().unwrap_or(&known.since).0) > LISTED
        };
        let (site, known) = sites().find(|(_, known)| late(known))?;
        let message = format!(
            "the {site} store has not been listed for more than 2 days, so it can't be said that expired backups are gone: {}",
            hindrance(namespace, known)
        );
        Some((Reason::BackupsNotListed, message))
    };
    overdue.or_else(unlisted)
}

/// The last that pruned and failed.
fn hindrance(namespace: &str, known: &SiteBackups) -> String {
    let last =
        [&known.last_prune, &known.last_run].into_iter().flatten().max_by_key(|last| last.finished_at.0);
    match last.and_then(|last| Some((&last.job, last.reason.as_ref()?, last.message.as_ref()?))) {
        Some((job, reason, message)) => format!("Job {job} failed: {reason}: {message}"),
        None => format!(
            "look at its Jobs (kubectl -n {namespace} get jobs -l app.kubernetes.io/component=backup)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use marketrelay_api::connection::DrilledBackup;

    use super::*;
    use crate::{
        conditions::seconds,
        controllers::connection::backup::{recorded::recorded, wanted::tests::sample},
    };

    const HOUR: i64 = 3_600;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hour * HOUR).expect("in range")
    }

    fn known(change: impl FnOnce(&mut SiteBackups)) -> Backups {
        let mut backups = recorded(None, &sample(), &[], at(0));
        backups.off_site = None;
        change(backups.on_site.as_mut().expect("on-site"));
        backups
    }

    fn ended(hour: i64, reason: Option<&str>) -> JobResult {
        let text = reason.map(str::to_owned);
        JobResult { job: "j".to_owned(), finished_at: seconds(at(hour)), reason: text.clone(), message: text }
    }

    fn told(backups: &Backups, wanted: &Wanted, hour: i64) -> (Status, String) {
        let all = verdicts("acme", wanted, backups, SignedDuration::from_hours(1), at(hour));
        let (kind, verdict) = all.into_iter().next().expect("on-site");
        assert_eq!(kind, ConditionType::BackedUpOnSite);
        (verdict.status, verdict.reason)
    }

    #[test]
    fn a_site_is_backed_up_only_with_a_backup_that_is_new_enough_and_a_last_run_that_worked() {
        let wanted = sample();
        let first = known(|_| {});
        let good = known(|site| {
            (site.newest, site.last_run) = (Some(seconds(at(1))), Some(ended(2, None)));
        });
        let bad = known(|site| {
            (site.newest, site.last_run) = (Some(seconds(at(1))), Some(ended(2, Some("StoreFull"))));
        });
        let taken = |listed| {
            known(|site| {
                (site.last_success, site.listed_at) = (Some(seconds(at(1))), Some(seconds(at(listed))));
            })
        };
        let (removed, unlisted) = (taken(2), taken(0));
        for (backups, hour, status, reason) in [
            (&first, 25, Status::Unknown, Reason::FirstRun),
            (&first, 26, Status::False, Reason::BackupTooOld),
            (&good, 50, Status::True, Reason::BackedUp),
            (&good, 51, Status::False, Reason::BackupTooOld),
            (&bad, 3, Status::False, Reason::StoreFull),
            (&removed, 3, Status::False, Reason::BackupTooOld),
            (&unlisted, 3, Status::True, Reason::BackedUp),
        ] {
            assert_eq!(told(backups, &wanted, hour), (status, reason.to_string()), "hour {hour}");
        }
        let mut suspended = sample();
        suspended.suspend = true;
        assert_eq!(told(&good, &suspended, 3), (Status::False, Reason::BackupsSuspended.to_string()));
        let blocked = sample().blocked(&Problem::new(Reason::NameConflict, "taken"));
        assert_eq!(told(&good, &blocked, 3), (Status::False, Reason::NameConflict.to_string()));
    }

    #[test]
    fn what_was_not_drilled_lately_or_not_well_is_not_proven() {
        let told = |change: fn(&mut SiteBackups), hour| {
            let all = verdicts("acme", &sample(), &known(change), SignedDuration::from_hours(1), at(hour));
            let of_drills = |(kind, _): &(ConditionType, Verdict)| *kind == ConditionType::DrilledOnSite;
            let (_, verdict) = all.into_iter().find(of_drills).expect("on-site");
            (verdict.status, verdict.reason, verdict.message)
        };
        let good = |site: &mut SiteBackups| {
            site.drilled = Some(DrilledBackup {
                backup: "b".to_owned(),
                at: seconds(at(10)),
                age_seconds: 60,
                seconds: 4,
                opened: 3,
            });
        };
        let bad = |site: &mut SiteBackups| site.last_drill = Some(ended(20, Some("DrillFailed")));
        let week = 7 * 24;
        for (change, hour, status, reason) in [
            ((|_| {}) as fn(&mut SiteBackups), 27, Status::Unknown, Reason::FirstRun),
            (|_| {}, 28, Status::False, Reason::DrillOverdue),
            (good, 11 + 2 * week, Status::True, Reason::Drilled),
            (good, 12 + 2 * week, Status::False, Reason::DrillOverdue),
            (bad, 21, Status::False, Reason::DrillFailed),
        ] {
            let (found, why, message) = told(change, hour);
            assert_eq!((found, why), (status, reason.to_string()), "hour {hour}: {message}");
        }
    }

    #[test]
    fn that_backups_are_gone_in_time_must_be_seen_every_two_days() {
        let reason = |backups: &Backups, hour| overdue("acme", backups, at(hour)).map(|(reason, _)| reason);
        let first = known(|_| {});
        assert_eq!((reason(&first, 48), reason(&first, 49)), (None, Some(Reason::BackupsNotListed)));
        let listed = known(|site| site.listed_at = Some(seconds(at(10))));
        assert_eq!((reason(&listed, 58), reason(&listed, 59)), (None, Some(Reason::BackupsNotListed)));
        let left = known(|site| {
            (site.listed_at, site.overdue) = (Some(seconds(at(10))), 2);
            site.last_prune = Some(ended(10, Some("ObjectLocked")));
        });
        let (found, message) = overdue("acme", &left, at(11)).expect("overdue");
        assert_eq!(found, Reason::BackupsOverdue);
        assert!(
            message.starts_with("2 backups") && message.contains("Job j failed: ObjectLocked"),
            "{message}"
        );
    }
}
