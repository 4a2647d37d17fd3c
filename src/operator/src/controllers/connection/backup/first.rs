//! What doesn't wait for its schedule: a new site's first backup and its drill, which are tried again while there has never been one,
//! the escrow of keys that have changed, and archives of holds that are missing.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, Job},
        core::v1::Secret,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ObjectMeta, PartialObjectMeta, PostParams},
};
use marketrelay_api::{
    backup::Site,
    connection::{Backups, JobResult, SiteBackups},
    labels,
    relay::HoldUse,
};

use super::{archives, wanted::Wanted};
use crate::{
    compare::hash,
    controllers::{
        backup::{BackupJob, Task},
        connection::{
            apply::{api_problem, is_passing},
            children::backup::Existing,
        },
    },
    problem::Problem,
};

/// After the first failure; then twice as long after each, by the time that has passed since the beginning.
pub(super) const SOONEST: SignedDuration = SignedDuration::from_mins(5);
/// What may be due at once.
const TASKS: [Task; 3] = [Task::Run, Task::Drill, Task::Escrow];
/// Of a digest in a Job's name.
const SHOWN: usize = 10;
/// As kubectl marks a Job that it makes of a CronJob.
const BY_HAND: (&str, &str) = ("cronjob.kubernetes.io/instantiate", "manual");

/// What is known when Jobs may be due.
pub struct Facts<'a> {
    /// What is wanted.
    pub wanted: &'a Wanted,
    /// As the status has it.
    pub before: Option<&'a Backups>,
    /// As it will have it.
    pub backups: &'a Backups,
    /// The CronJobs, and the escrowed keys.
    pub existing: &'a Existing,
    /// The Jobs that there are.
    pub jobs: &'a [BackupJob],
    /// The relay can be asked for a snapshot.
    pub relay_is_ready: bool,
    /// The relay's word of holds, if it can be asked.
    pub holds: &'a [HoldUse],
    /// Now.
    pub now: Timestamp,
}

/// Makes the Jobs that are due, once the status has since when the sites are there.
pub async fn begin(client: &Client, facts: &Facts<'_>) -> Result<(), Problem> {
    let Facts { wanted, existing, .. } = facts;
    let since = |backups: &Backups, site| backups.site(site).map(|known| known.since.clone());
    for (site, task) in wanted.stores().flat_map(|(site, _)| TASKS.map(|task| (site, task))) {
        if facts.before.and_then(|before| since(before, site)) != since(facts.backups, site) {
            continue;
        }
        let Some(known) = facts.backups.site(site) else { continue };
        let attempt = due(facts, known, site, task);
        let cron_job = existing.cron_jobs.get(&(site, task)).filter(|cron_job| is_of(cron_job, known));
        let Some((attempt, cron_job)) = attempt.zip(cron_job) else { continue };
        let Some(job) = job(cron_job, &attempt) else { continue };
        let api = Api::<Job>::namespaced(client.clone(), &cron_job.namespace().unwrap_or_default());
        match api.create(&PostParams::default(), &job).await {
            // Made before the stores have seen it.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) if is_passing(&error) => {
                tracing::warn!(name = job.name_any(), %error, "a Job is made with the next look");
            }
            Err(error) => return Err(api_problem("Job", &job.name_any(), &error)),
            Ok(_) => tracing::info!(name = job.name_any(), %task, "it doesn't wait for its schedule"),
        }
    }
    Ok(())
}

/// What the attempt is known by, if one is due: each is made once.
fn due(facts: &Facts<'_>, known: &SiteBackups, site: Site, task: Task) -> Option<String> {
    if facts.jobs.iter().any(|job| job.is_under_way(site, task, &known.store)) {
        return None;
    }
    if task == Task::Escrow {
        return facts.existing.escrow.as_deref().and_then(|keys| escrow_is_due(keys, known, facts.now));
    }
    let first = first_is_due(known, task, facts).map(|at| format!("f{}", at.as_second()));
    let of_holds = || {
        let at = archives::due(facts.holds, known, facts.now).filter(|_| task == Task::Run)?;
        (!facts.wanted.suspend).then(|| format!("h{}", at.as_second()))
    };
    first.or_else(of_holds)
}

/// What hasn't been backed up isn't drilled.
fn first_is_due(known: &SiteBackups, task: Task, facts: &Facts<'_>) -> Option<Timestamp> {
    let gone = known.gone_at.as_ref();
    let has_backup = known.last_success.as_ref().is_some_and(|at| gone.is_none_or(|gone| at.0 > gone.0));
    let (is_due, last) = match task {
        Task::Run => (!has_backup, &known.last_run),
        Task::Drill => (has_backup && known.drilled.is_none(), &known.last_drill),
        Task::Prune | Task::Escrow => return None,
    };
    if !is_due || facts.wanted.suspend || !facts.relay_is_ready {
        return None;
    }
    let Some(last) = last else { return Some(known.since.0) };
    let (since, failed) = (gone.unwrap_or(&known.since).0, last.finished_at.0);
    let wait = failed.duration_since(since).max(SOONEST);
    (facts.now.duration_since(failed) >= wait).then_some(failed)
}

/// Keys that have changed are escrowed at once, and after a failure again.
fn escrow_is_due(keys: &PartialObjectMeta<Secret>, known: &SiteBackups, now: Timestamp) -> Option<String> {
    let annotation = |name| keys.annotations().get(name);
    let fingerprint = annotation(labels::FINGERPRINT)?;
    let since: Timestamp = annotation(labels::FINGERPRINT_SINCE)?.parse().ok()?;
    if known.escrowed.as_ref().is_some_and(|escrowed| escrowed.fingerprint == *fingerprint) {
        return None;
    }
    let first = of_store(fingerprint, known).get(..SHOWN).map(str::to_owned)?;
    // One that ended before has not seen these, nor has one that began before and has escrowed others.
    let has_seen = |last: &&JobResult| {
        last.finished_at.0 >= since && (last.reason.is_some() || last.job.ends_with(&first))
    };
    let last = known.last_escrow.as_ref().filter(has_seen).map(|last| last.finished_at.0);
    let Some(last) = last else { return Some(first) };
    (now.duration_since(last) >= SOONEST).then(|| format!("f{}", last.as_second()))
}

/// Where the same keys were escrowed in another store, the Job that did it may be there yet.
fn of_store(fingerprint: &str, known: &SiteBackups) -> String {
    hash(format!("{fingerprint} {} {}", known.store, known.since.0).as_bytes())
}

/// Whether it works with that store: one that was seen before it was changed would have its Job work with the store of before.
fn is_of(cron_job: &CronJob, known: &SiteBackups) -> bool {
    let template = cron_job.spec.as_ref().and_then(|spec| spec.job_template.metadata.as_ref());
    let annotations = template.and_then(|metadata| metadata.annotations.as_ref());
    annotations.and_then(|annotations| annotations.get(labels::PLACE)) == Some(&known.store)
}

/// As `kubectl create job --from=cronjob/NAME` makes it.
fn job(cron_job: &Arc<CronJob>, attempt: &str) -> Option<Job> {
    let template = cron_job.spec.as_ref()?.job_template.clone();
    let owner = OwnerReference {
        api_version: CronJob::api_version(&()).into_owned(),
        kind: CronJob::kind(&()).into_owned(),
        name: cron_job.name_any(),
        uid: cron_job.uid()?,
        controller: Some(true),
        block_owner_deletion: None,
    };
    let ObjectMeta { labels, annotations, .. } = template.metadata.unwrap_or_default();
    let mut annotations = annotations.unwrap_or_default();
    annotations.insert(BY_HAND.0.to_owned(), BY_HAND.1.to_owned());
    Some(Job {
        metadata: ObjectMeta {
            // A CronJob's own Jobs are named after minutes.
            name: Some(format!("{}-{attempt}", cron_job.name_any())),
            namespace: cron_job.namespace(),
            labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use marketrelay_api::connection::EscrowedKeys;

    use super::*;
    use crate::{
        conditions::seconds,
        controllers::backup::Stage,
        controllers::connection::backup::{recorded::recorded, wanted::tests::sample},
    };

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minute * 60).expect("in range")
    }

    fn known(failed: Option<i64>) -> SiteBackups {
        let mut site = recorded(None, &sample(), &[], at(0)).on_site.expect("on-site");
        site.last_run = failed.map(|minute| JobResult {
            job: "j".to_owned(),
            finished_at: seconds(at(minute)),
            reason: Some("NoBackupKey".to_owned()),
            message: None,
        });
        site
    }

    fn due_of(site: &SiteBackups, which: (Site, Task), jobs: &[BackupJob], minute: i64) -> Option<String> {
        let (wanted, backups, existing) = (sample(), Backups::default(), Existing::default());
        let facts = Facts {
            wanted: &wanted,
            before: None,
            backups: &backups,
            existing: &existing,
            jobs,
            relay_is_ready: true,
            holds: &[],
            now: at(minute),
        };
        due(&facts, site, which.0, which.1)
    }

    fn name(minute: i64) -> String {
        format!("f{}", at(minute).as_second())
    }

    #[test]
    fn the_first_backup_is_tried_at_once_then_ever_more_rarely_and_no_more_once_there_is_one() {
        let due = |site: &SiteBackups, minute| due_of(site, (Site::OnSite, Task::Run), &[], minute);
        assert_eq!(due(&known(None), 0), Some(name(0)));
        for (failed, again) in [(1, 6), (4, 9), (6, 12), (60, 120), (600, 1_200)] {
            assert_eq!(due(&known(Some(failed)), again - 1), None, "{failed}");
            assert_eq!(due(&known(Some(failed)), again), Some(name(failed)));
        }
        let done = SiteBackups { last_success: Some(seconds(at(3))), ..known(Some(60)) };
        assert_eq!(due(&done, 9_000), None);
        let gone = SiteBackups { gone_at: Some(seconds(at(60))), ..done.clone() };
        assert_eq!((due(&gone, 64), due(&gone, 65)), (None, Some(name(60))), "its bucket may be made again");
        let drill = |site: &SiteBackups, minute| due_of(site, (Site::OnSite, Task::Drill), &[], minute);
        assert_eq!(drill(&known(None), 5), None, "there is nothing to drill yet");
        assert_eq!(drill(&done, 5), Some(name(0)));
    }

    #[test]
    fn no_second_one_begins_while_one_waits_or_runs() {
        let site = known(None);
        let mut job = BackupJob {
            namespace: "acme".to_owned(),
            name: "bol-on-site-1".to_owned(),
            uid: "u".to_owned(),
            version: None,
            connection: "bol".to_owned(),
            site: Site::OnSite,
            task: Task::Run,
            store: String::new(),
            place: site.store.clone(),
            created: at(0),
            stage: Stage::Waits,
        };
        let due = |job: &BackupJob| due_of(&site, (Site::OnSite, Task::Run), std::slice::from_ref(job), 5);
        assert_eq!(due(&job), None);
        job.site = Site::OffSite;
        assert_eq!(due(&job), Some(name(0)), "the other site's");
        job = BackupJob { site: Site::OnSite, task: Task::Prune, ..job };
        assert_eq!(due(&job), Some(name(0)), "it only prunes");
    }

    #[test]
    fn changed_keys_are_escrowed_at_once_and_after_a_failure_again() {
        let mut keys = PartialObjectMeta::<Secret>::default();
        keys.annotations_mut().insert(labels::FINGERPRINT.to_owned(), "0123456789abcdef".to_owned());
        keys.annotations_mut().insert(labels::FINGERPRINT_SINCE.to_owned(), at(10).to_string());
        let due = |site: &SiteBackups, minute| escrow_is_due(&keys, site, at(minute));
        let last = |minute| SiteBackups { last_escrow: known(Some(minute)).last_run, ..known(None) };
        let first = due(&known(None), 10).filter(|name| name.len() == SHOWN);
        assert!(first.is_some());
        let moved = due(&SiteBackups { since: seconds(at(10)), ..known(None) }, 10);
        assert!(moved.is_some() && moved != first, "the Job of the other store may be there yet");
        assert_eq!(due(&last(9), 10), first, "that one had others");
        assert_eq!(due(&last(11), 15), None);
        assert_eq!(due(&last(11), 16), Some(name(11)));
        let done = |job: &str| {
            let result =
                JobResult { job: job.to_owned(), reason: None, ..last(11).last_escrow.expect("one") };
            SiteBackups { last_escrow: Some(result), ..known(None) }
        };
        assert_eq!(due(&done("bol-off-escrow-0123456789"), 11), first, "it began before these were there");
        let own = format!("bol-off-escrow-{}", first.as_deref().expect("a name"));
        assert_eq!((due(&done(&own), 15), due(&done(&own), 16)), (None, Some(name(11))));
        let escrowed = |fingerprint: &str| {
            let keys =
                EscrowedKeys { fingerprint: fingerprint.to_owned(), at: seconds(at(9)), old_versions: 0 };
            SiteBackups { escrowed: Some(keys), ..known(None) }
        };
        assert_eq!(due(&escrowed("0123456789abcdef"), 99), None);
        assert_eq!(due(&escrowed("ffff"), 10), first);
    }
}
