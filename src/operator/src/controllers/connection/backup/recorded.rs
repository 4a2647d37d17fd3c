//! What Jobs have reported, onto what the status says already. Pure, and the same however often it is done.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use marketrelay_api::{
    Reason,
    backup::{Archived, Drilled, EscrowedKeys as Escrowed, Listing, Written},
    connection::{Backups, DrilledBackup, EscrowedKeys, HoldArchive, JobResult, SiteBackups},
};

use super::{ended::Ended, wanted::Wanted};
use crate::{conditions::seconds, controllers::backup::Task};

/// Of every site that is asked for.
pub fn recorded(before: Option<&Backups>, wanted: &Wanted, ended: &[Ended], now: Timestamp) -> Backups {
    let mut backups = Backups::default();
    for (site, store) in wanted.sites() {
        let known = before.and_then(|backups| backups.site(site)).cloned();
        // What is known of another store says nothing of this one.
        let known = match store {
            Ok(store) => known.filter(|known| known.store == store.location.place()),
            Err(_) => known,
        };
        let place = store.map(|store| store.location.place()).unwrap_or_default();
        let mut site_backups = known.unwrap_or_else(|| new(place, now));
        let of_site = ended.iter().filter(|ended| ended.site == site && ended.store == site_backups.store);
        let mut of_site: Vec<_> = of_site.collect();
        // Of several within a second, the last counts.
        of_site.sort_by(|a, b| (a.at, a.created, &a.job).cmp(&(b.at, b.created, &b.job)));
        for ended in of_site {
            record(&mut site_backups, ended);
        }
        *backups.site_mut(site) = Some(site_backups);
    }
    let oldest = |of: fn(&SiteBackups) -> Option<Time>| {
        let all: Option<Vec<_>> = wanted.sites().map(|(site, _)| of(backups.site(site)?)).collect();
        all.and_then(|all| all.into_iter().min_by_key(|at| at.0))
    };
    let newest = oldest(|known| known.newest.clone());
    let drilled = oldest(|known| known.drilled.as_ref().map(|drilled| drilled.at.clone()));
    Backups { newest, drilled, ..backups }
}

fn new(store: String, now: Timestamp) -> SiteBackups {
    SiteBackups {
        store,
        since: seconds(now),
        last_success: None,
        sequence: None,
        newest: None,
        oldest: None,
        count: 0,
        bytes: 0,
        overdue: 0,
        foreign: 0,
        damaged: 0,
        restorable: Vec::new(),
        listed_at: None,
        gone_at: None,
        last_run: None,
        last_prune: None,
        last_drill: None,
        drilled: None,
        archives: Vec::new(),
        last_escrow: None,
        escrowed: None,
    }
}

fn record(site: &mut SiteBackups, ended: &Ended) {
    let (report, before) = (ended.report.as_ref(), site.listed_at.clone());
    if let Some(written) = report.and_then(|report| report.written.as_ref()) {
        wrote(site, written);
    }
    match report.and_then(|report| report.listing.as_ref()) {
        Some(listing) => listed(site, listing),
        None if is_gone(site, ended) => *site = emptied(site, ended.at),
        None => {}
    }
    // What was there before a later listing is what that has left.
    let is_new = |archive: &&Archived| !is_earlier(&seconds(archive.created_at), before.as_ref());
    for archive in report.iter().flat_map(|report| &report.archives).filter(is_new) {
        archived(site, archive);
    }
    if let Some(found) = report.and_then(|report| report.drilled.as_ref()) {
        drilled(site, found);
    }
    if let Some(found) = report.and_then(|report| report.escrowed.as_ref()) {
        escrowed(site, found);
    }
    let last = match ended.task {
        Task::Run => &mut site.last_run,
        Task::Prune => &mut site.last_prune,
        Task::Drill => &mut site.last_drill,
        Task::Escrow => &mut site.last_escrow,
    };
    let at = seconds(ended.at);
    if last.as_ref().is_none_or(|last| last.finished_at.0 <= at.0) {
        let failure = ended.failure.clone();
        *last = Some(JobResult {
            job: ended.job.clone(),
            finished_at: at,
            reason: failure.as_ref().map(|(reason, _)| reason.to_string()),
            message: failure.map(|(_, message)| message),
        });
    }
}

/// Whether it has told, later than all others, that there is no bucket any more.
fn is_gone(site: &SiteBackups, ended: &Ended) -> bool {
    let is_nowhere = ended.failure.as_ref().is_some_and(|(reason, _)| *reason == Reason::BucketNotFound);
    let at = seconds(ended.at);
    is_nowhere && !is_earlier(&at, site.listed_at.as_ref()) && !was_gone(site, &at)
}

/// Whether the bucket was found to be gone at that time or later.
fn was_gone(site: &SiteBackups, at: &Time) -> bool {
    site.gone_at.as_ref().is_some_and(|gone| at.0 <= gone.0)
}

/// As a new one, but for what was done there, when it was last listed, and what should have been gone then: that it is isn't proven.
fn emptied(site: &SiteBackups, gone_at: Timestamp) -> SiteBackups {
    let known = site.clone();
    SiteBackups {
        since: known.since,
        last_success: known.last_success,
        sequence: known.sequence,
        listed_at: known.listed_at,
        overdue: known.overdue,
        gone_at: Some(seconds(gone_at)),
        last_run: known.last_run,
        last_prune: known.last_prune,
        last_drill: known.last_drill,
        drilled: known.drilled,
        last_escrow: known.last_escrow,
        ..new(known.store, gone_at)
    }
}

fn wrote(site: &mut SiteBackups, written: &Written) {
    let at = seconds(written.created_at);
    if !is_earlier(&at, site.last_success.as_ref()) {
        site.last_success = Some(at);
        site.sequence = Some(count(written.sequence));
    }
}

fn listed(site: &mut SiteBackups, listing: &Listing) {
    let at = seconds(listing.at);
    if !is_earlier(&at, site.listed_at.as_ref()) && !was_gone(site, &at) {
        site.newest = listing.newest.map(seconds);
        site.oldest = listing.oldest.map(seconds);
        site.count = count(listing.backups);
        site.bytes = count(listing.bytes);
        site.overdue = count(listing.overdue);
        site.foreign = count(listing.foreign);
        site.damaged = count(listing.damaged);
        site.restorable.clone_from(&listing.restorable);
        site.listed_at = Some(at);
        // Which are gone isn't told: all are made again.
        if count(listing.archives) < i64::try_from(site.archives.len()).unwrap_or(i64::MAX) {
            site.archives.clear();
        }
    }
}

/// The keyring has its name.
fn archived(site: &mut SiteBackups, written: &Archived) {
    let at = seconds(written.created_at);
    let known = site.archives.iter().find(|known| known.id == written.hold);
    if is_earlier(&at, known.map(|known| &known.at)) || was_gone(site, &at) {
        return;
    }
    site.archives.retain(|known| known.id != written.hold);
    site.archives.push(HoldArchive {
        hold: String::new(),
        id: written.hold.clone(),
        backup: written.backup.clone(),
        at,
        revision: count(written.revision),
        orders: count(written.orders),
    });
    site.archives.sort_by(|one, other| one.id.cmp(&other.id));
}

fn drilled(site: &mut SiteBackups, found: &Drilled) {
    let at = seconds(found.at);
    if !is_earlier(&at, site.drilled.as_ref().map(|before| &before.at)) {
        site.drilled = Some(DrilledBackup {
            backup: found.backup.clone(),
            age_seconds: found.at.duration_since(found.created_at).as_secs(),
            at,
            seconds: count(found.seconds),
            opened: count(found.opened),
        });
    }
}

fn escrowed(site: &mut SiteBackups, found: &Escrowed) {
    let at = seconds(found.at);
    if !is_earlier(&at, site.escrowed.as_ref().map(|before| &before.at)) && !was_gone(site, &at) {
        let (fingerprint, old_versions) = (found.fingerprint.clone(), count(found.old_versions));
        site.escrowed = Some(EscrowedKeys { fingerprint, at, old_versions });
    }
}

fn is_earlier(at: &Time, than: Option<&Time>) -> bool {
    than.is_some_and(|than| at.0 < than.0)
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use marketrelay_api::{
        Reason,
        backup::{JobReport, Site},
    };

    use super::*;
    use crate::controllers::connection::backup::wanted::tests::sample;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("in range")
    }

    fn listing(second: i64, newest: i64) -> Listing {
        Listing {
            at: at(second) + jiff::SignedDuration::from_millis(400),
            backups: 3,
            archives: 0,
            bytes: 900,
            newest: Some(at(newest)),
            oldest: Some(at(newest - 90)),
            pruned: 1,
            overdue: 0,
            foreign: 0,
            damaged: 0,
            restorable: vec![format!("taken-at-{newest}")],
        }
    }

    fn run(site: Site, second: i64, created: i64) -> Ended {
        let written = Written {
            backup: "b".to_owned(),
            created_at: at(created),
            expires_at: at(created + 9_000),
            sequence: 7,
            orders: 1,
            bytes: 300,
        };
        let report = JobReport {
            written: Some(written),
            listing: Some(listing(second, created)),
            ..JobReport::default()
        };
        let (store, task) =
            (sample().site(site).expect("a site").expect("a store").location.place(), Task::Run);
        Ended {
            job: format!("{site}-{second}"),
            site,
            task,
            store,
            created: at(second - 10),
            at: at(second),
            report: Some(report),
            failure: None,
        }
    }

    #[test]
    fn a_bucket_that_is_gone_holds_nothing_until_it_is_listed_again() {
        let wanted = sample();
        let failure = |second| Ended {
            report: None,
            failure: Some((Reason::BucketNotFound, "gone".to_owned())),
            ..run(Site::OnSite, second, 0)
        };
        let of = |before: Option<&Backups>, ended: &[Ended]| {
            let backups = recorded(before, &wanted, ended, at(900));
            let on_site = backups.on_site.clone().expect("on-site");
            (backups, (on_site.count, on_site.newest, on_site.restorable.len()))
        };
        let full = (3, Some(seconds(at(90))), 1);
        let (whole, held) = of(None, &[run(Site::OnSite, 100, 90), failure(80)]);
        assert_eq!(held, full, "it was listed since");
        let (gone, held) = of(Some(&whole), &[run(Site::OnSite, 100, 90), failure(200)]);
        assert_eq!(held, (0, None, 0));
        assert_eq!(of(Some(&gone), &[failure(200)]).0, gone);
        assert_eq!(
            of(Some(&gone), &[run(Site::OnSite, 100, 90)]).0,
            gone,
            "the Job that told of it has gone first"
        );
        let again = run(Site::OnSite, 300, 290);
        assert_eq!(of(Some(&gone), &[failure(200), again]).1, (3, Some(seconds(at(290))), 1));
    }

    #[test]
    fn a_report_is_recorded_once_and_an_older_one_changes_nothing() {
        let wanted = sample();
        let first = recorded(None, &wanted, &[run(Site::OnSite, 100, 90)], at(200));
        let on_site = first.on_site.clone().expect("on-site");
        assert_eq!(
            (on_site.count, on_site.sequence, on_site.last_success, on_site.restorable.as_slice()),
            (3, Some(7), Some(seconds(at(90))), &["taken-at-90".to_owned()][..])
        );
        assert_eq!(on_site.last_run.as_ref().map(|run| run.job.as_str()), Some("on-site-100"));
        assert_eq!(first.newest, None, "the other site has none yet");
        let both = [run(Site::OnSite, 100, 90), run(Site::OnSite, 50, 40), run(Site::OffSite, 60, 55)];
        let second = recorded(Some(&first), &wanted, &both, at(300));
        assert_eq!(second.on_site, first.on_site);
        assert_eq!(second.newest, Some(seconds(at(55))), "the older site's");
        assert_eq!(recorded(Some(&second), &wanted, &both, at(400)), second);
        assert_eq!(recorded(Some(&second), &wanted, &[], at(400)), second, "Jobs go, the status stays");
        // As the API server gives it back.
        let text = serde_json::to_string(&second).expect("JSON");
        let read: Backups = serde_json::from_str(&text).expect("a status");
        assert_eq!(recorded(Some(&read), &wanted, &both, at(500)), read);
    }

    #[test]
    fn a_failure_is_kept_until_a_later_job_of_its_kind_and_loses_nothing_else() {
        let wanted = sample();
        let good = run(Site::OnSite, 100, 90);
        let failure = Some((Reason::StoreFull, "because".to_owned()));
        let bad = Ended { report: None, failure, ..run(Site::OnSite, 200, 0) };
        let prune = Ended { task: Task::Prune, ..run(Site::OnSite, 300, 90) };
        let all = recorded(None, &wanted, &[prune, bad, good], at(400)).on_site.expect("on-site");
        let last = all.last_run.expect("a run");
        assert_eq!((last.reason.as_deref(), last.finished_at), (Some("StoreFull"), seconds(at(200))));
        assert_eq!(all.last_prune.expect("a prune").reason, None);
        assert_eq!((all.last_success, all.listed_at), (Some(seconds(at(90))), Some(seconds(at(300)))));
    }

    #[test]
    fn a_drill_is_recorded_until_a_later_one_and_a_failed_one_keeps_what_the_last_good_one_found() {
        let wanted = sample();
        let drill = |site, second: i64| {
            let found = Drilled {
                backup: "b".to_owned(),
                created_at: at(second - 60),
                at: at(second),
                seconds: 4,
                opened: 3,
                anonymised: 0,
                erased: 0,
                rows: 9,
            };
            let report = JobReport { drilled: Some(found), ..JobReport::default() };
            Ended { task: Task::Drill, report: Some(report), ..run(site, second, 0) }
        };
        let failure = Some((Reason::DrillFailed, "because".to_owned()));
        let bad = Ended { report: None, failure, ..drill(Site::OnSite, 300) };
        let all =
            recorded(None, &wanted, &[drill(Site::OffSite, 150), drill(Site::OnSite, 200), bad], at(400));
        assert_eq!(all.drilled, Some(seconds(at(150))), "the older site's");
        let on_site = all.on_site.expect("on-site");
        assert_eq!(on_site.last_drill.and_then(|last| last.reason).as_deref(), Some("DrillFailed"));
        let drilled = on_site.drilled.expect("a drill");
        assert_eq!((drilled.at, drilled.age_seconds, drilled.seconds), (seconds(at(200)), 60, 4));
        assert_eq!(on_site.last_run, None);
    }

    #[test]
    fn archives_are_recorded_until_a_listing_misses_one_and_an_older_report_brings_none_back() {
        let wanted = sample();
        let with = |second: i64, archives: &[&str], left: u64| {
            let of = |hold: &&str| Archived {
                hold: (*hold).to_owned(),
                backup: "b".to_owned(),
                created_at: at(second - 5),
                revision: 7,
                orders: 2,
            };
            let listing = Some(Listing { archives: left, ..listing(second, second - 9) });
            let archives = archives.iter().map(of).collect();
            let report = Some(JobReport { archives, listing, ..JobReport::default() });
            Ended { report, ..run(Site::OnSite, second, 0) }
        };
        let names = |backups: &Backups| {
            let archives = backups.on_site.iter().flat_map(|site| &site.archives);
            archives.map(|archive| (archive.id.clone(), archive.at.0)).collect::<Vec<_>>()
        };
        let (first, second) = (with(100, &["a", "b"], 2), with(200, &["b"], 2));
        let one = recorded(None, &wanted, std::slice::from_ref(&first), at(300));
        let both = recorded(Some(&one), &wanted, &[second.clone(), first.clone()], at(300));
        assert_eq!(names(&both), [("a".to_owned(), at(95)), ("b".to_owned(), at(195))]);
        let prune = Ended { task: Task::Prune, ..with(300, &[], 1) };
        let missed = recorded(Some(&both), &wanted, &[first.clone(), second.clone(), prune], at(400));
        assert_eq!(names(&missed), []);
        assert_eq!(names(&recorded(Some(&missed), &wanted, &[first, second], at(500))), []);
        let again = recorded(Some(&missed), &wanted, &[with(400, &["a"], 1)], at(500));
        assert_eq!(names(&again), [("a".to_owned(), at(395))]);
    }

    #[test]
    fn of_two_jobs_that_end_in_the_same_second_the_later_one_counts_whichever_is_seen_first() {
        let wanted = sample();
        let first = Ended { job: "b".to_owned(), ..run(Site::OnSite, 100, 90) };
        let failure = Some((Reason::StoreFull, "because".to_owned()));
        let second = Ended { job: "a".to_owned(), created: at(95), failure, report: None, ..first.clone() };
        let known = recorded(None, &wanted, std::slice::from_ref(&first), at(200));
        let both = recorded(Some(&known), &wanted, &[second, first], at(200));
        let last = both.on_site.as_ref().and_then(|site| site.last_run.as_ref()).expect("a run");
        assert_eq!((last.job.as_str(), last.reason.as_deref()), ("a", Some("StoreFull")));
    }

    #[test]
    fn another_store_begins_anew_and_reports_of_the_old_one_say_nothing() {
        let wanted = sample();
        let known = recorded(None, &wanted, &[run(Site::OnSite, 100, 90)], at(200));
        let mut elsewhere = known.clone();
        elsewhere.on_site.as_mut().expect("on-site").store = "https://old.example/b".to_owned();
        let old = Ended { store: "https://old.example/b".to_owned(), ..run(Site::OnSite, 150, 140) };
        let moved = recorded(Some(&elsewhere), &wanted, &[old], at(300)).on_site.expect("on-site");
        assert_eq!((moved.since, moved.last_run, moved.count), (seconds(at(300)), None, 0));
    }
}
