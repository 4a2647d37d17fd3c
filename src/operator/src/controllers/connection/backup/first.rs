//! A new site's first backup is taken at once, and drilled at once; both are tried again while there has never been one. The
//! same where an archive of a hold is missing.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::batch::v1::{CronJob, Job},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use marketrelay_api::{
    backup::Site,
    connection::{Backups, SiteBackups},
    relay::HoldUse,
};

use super::{archives, wanted::Wanted};
use crate::{
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
/// In the names of Jobs: a first one, and one because of an archive.
const FIRST: char = 'f';
const OF_HOLDS: char = 'h';
/// As kubectl marks a Job that it makes of a CronJob.
const BY_HAND: (&str, &str) = ("cronjob.kubernetes.io/instantiate", "manual");

/// What there is.
pub struct Known<'a> {
    /// What the status had before.
    pub before: Option<&'a Backups>,
    /// What it is to have.
    pub backups: &'a Backups,
    /// Of the connection.
    pub jobs: &'a [BackupJob],
    /// As the relay has them.
    pub holds: &'a [HoldUse],
}

/// Makes the Jobs that are due, once the status has since when the sites are there. The relay must be there to be asked for
/// a snapshot.
pub async fn begin(
    client: &Client,
    wanted: &Wanted,
    known: &Known<'_>,
    existing: &Existing,
    now: Timestamp,
) -> Result<(), Problem> {
    let Known { before, backups, jobs, holds } = *known;
    let since = |backups: &Backups, site| backups.site(site).map(|known| known.since.clone());
    let sites = wanted.sites().filter(|(_, store)| store.is_ok() && !wanted.suspend);
    for (site, task) in sites.flat_map(|(site, _)| [Task::Run, Task::Drill].map(|task| (site, task))) {
        if before.and_then(|before| since(before, site)) != since(backups, site) {
            continue;
        }
        let Some(known) = backups.site(site) else { continue };
        let first = due(known, site, task, jobs, now).map(|attempt| (FIRST, attempt));
        let of_holds = || {
            let attempt = archives::due(holds, known, site, jobs, now).filter(|_| task == Task::Run)?;
            Some((OF_HOLDS, attempt))
        };
        let cron_job = existing.cron_jobs.get(&(site, task));
        let Some((attempt, cron_job)) = first.or_else(of_holds).zip(cron_job) else { continue };
        let Some(job) = job(cron_job, attempt) else { continue };
        let api = Api::<Job>::namespaced(client.clone(), &cron_job.namespace().unwrap_or_default());
        match api.create(&PostParams::default(), &job).await {
            // Made before the stores have seen it.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) if is_passing(&error) => {
                tracing::warn!(name = job.name_any(), %error, "a Job is made with the next look");
            }
            Err(error) => return Err(api_problem("Job", &job.name_any(), &error)),
            Ok(_) => tracing::info!(
                name = job.name_any(),
                "a first backup, or one for an archive, is to be taken or drilled"
            ),
        }
    }
    Ok(())
}

/// What the attempt is known by, if one is due: each is made once. What hasn't been backed up isn't drilled.
fn due(known: &SiteBackups, site: Site, task: Task, jobs: &[BackupJob], now: Timestamp) -> Option<Timestamp> {
    let is_under_way = |job: &BackupJob| job.is_under_way(site, task, &known.store);
    let has_backup = known.last_success.is_some();
    let (is_due, last) = match task {
        Task::Run => (!has_backup, &known.last_run),
        Task::Drill => (has_backup && known.drilled.is_none(), &known.last_drill),
        Task::Prune => return None,
    };
    if !is_due || jobs.iter().any(is_under_way) {
        return None;
    }
    let Some(last) = last else { return Some(known.since.0) };
    let (since, failed) = (known.since.0, last.finished_at.0);
    let wait = failed.duration_since(since).max(SOONEST);
    (now.duration_since(failed) >= wait).then_some(failed)
}

/// As `kubectl create job --from=cronjob/NAME` makes it.
fn job(cron_job: &Arc<CronJob>, (why, attempt): (char, Timestamp)) -> Option<Job> {
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
            name: Some(format!("{}-{why}{}", cron_job.name_any(), attempt.as_second())),
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
    use marketrelay_api::connection::JobResult;

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

    #[test]
    fn the_first_backup_is_tried_at_once_then_ever_more_rarely_and_no_more_once_there_is_one() {
        let due = |site: &SiteBackups, minute| due(site, Site::OnSite, Task::Run, &[], at(minute));
        assert_eq!(due(&known(None), 0), Some(at(0)));
        for (failed, again) in [(1, 6), (4, 9), (6, 12), (60, 120), (600, 1_200)] {
            assert_eq!(due(&known(Some(failed)), again - 1), None, "{failed}");
            assert_eq!(due(&known(Some(failed)), again), Some(at(failed)));
        }
        let done = SiteBackups { last_success: Some(seconds(at(3))), ..known(Some(60)) };
        assert_eq!(due(&done, 9_000), None);
        let drill = |site: &SiteBackups, minute| super::due(site, Site::OnSite, Task::Drill, &[], at(minute));
        assert_eq!(drill(&known(None), 5), None, "there is nothing to drill yet");
        assert_eq!(drill(&done, 5), Some(at(0)));
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
            store: site.store.clone(),
            created: at(0),
            stage: Stage::Waits,
        };
        let due = |job: &BackupJob| due(&site, Site::OnSite, Task::Run, std::slice::from_ref(job), at(5));
        assert_eq!(due(&job), None);
        job.site = Site::OffSite;
        assert_eq!(due(&job), Some(at(0)), "the other site's");
        job = BackupJob { site: Site::OnSite, task: Task::Prune, ..job };
        assert_eq!(due(&job), Some(at(0)), "it only prunes");
    }
}
