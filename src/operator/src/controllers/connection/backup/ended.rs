//! What a connection's Jobs have left behind: each ended one with its report, or with what Kubernetes says of it. Pure.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ContainerStateTerminated, Pod},
};
use kube::ResourceExt;
use marketrelay_api::{
    Reason,
    backup::{Failure, JobReport, Site},
};
use serde::de::DeserializeOwned;

use crate::controllers::{
    backup::{BackupJob, End, Stage, Task, stage},
    connection::children::backup::CONTAINER,
};

/// Watches of Jobs and of pods don't keep step.
const PODS_LAG: SignedDuration = SignedDuration::from_secs(10);
/// Of a message that is shown.
const LONGEST: usize = 1_000;
/// What a Job may say of itself; anything else is `BackupFailed`.
const REASONS: [Reason; 13] = [
    Reason::StoreUnreachable,
    Reason::StoreRefused,
    Reason::BucketNotFound,
    Reason::StoreFull,
    Reason::StoreThrottled,
    Reason::StoreInvalid,
    Reason::ClockSkew,
    Reason::ObjectLocked,
    Reason::RelayUnreachable,
    Reason::NoBackupKey,
    Reason::KeyringInvalid,
    Reason::SnapshotFailed,
    Reason::Interrupted,
];

/// A Job that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its name.
    pub job: String,
    /// Which site.
    pub site: Site,
    /// What it did.
    pub task: Task,
    /// The store and the prefix that it worked with.
    pub store: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ended; Kubernetes' times have whole seconds.
    pub at: Timestamp,
    /// What it reported; `None`: nothing that could be read.
    pub report: Option<JobReport>,
    /// Why it failed.
    pub failure: Option<(Reason, String)>,
}

/// What has become of a Job whose pod reports an `R`.
pub enum Outcome<R> {
    /// There is no such Job.
    Missing,
    /// It hasn't ended, or isn't known yet how.
    Runs,
    /// It has ended.
    Ended {
        /// What it said of itself.
        report: Option<R>,
        /// Why it failed, if that says nothing.
        unreported: Failure,
        /// When.
        at: Timestamp,
    },
}

/// Of the Job `name`. The pod's last state comes a moment later, or it never comes.
pub fn outcome<'a, R: DeserializeOwned>(
    name: &str,
    jobs: impl IntoIterator<Item = &'a Job>,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> Outcome<R> {
    let Some(job) = jobs.into_iter().find(|job| job.name_any() == name) else { return Outcome::Missing };
    let Stage::Ended(end) = stage(job) else { return Outcome::Runs };
    let state = last_state(pods, &job.uid().unwrap_or_default());
    let report = state.and_then(|state| serde_json::from_str(state.message.as_deref()?).ok());
    if report.is_none() && now.duration_since(end.at) < PODS_LAG {
        return Outcome::Runs;
    }
    let lost = || ("ReportLost".to_owned(), format!("Job {name} has left no report"));
    let namespace = job.namespace().unwrap_or_default();
    let told = why((&namespace, name), &end, state).map(|(reason, message)| (reason.to_string(), message));
    let (reason, message) = told.unwrap_or_else(lost);
    Outcome::Ended { report, unreported: Failure { reason, message }, at: end.at }
}

/// Those of which is known how they ended.
pub fn ended(jobs: &[BackupJob], pods: &[Arc<Pod>], now: Timestamp) -> Vec<Ended> {
    let of = |job: &BackupJob| {
        let Stage::Ended(end) = &job.stage else { return None };
        let last = last_state(pods, &job.uid);
        let report: Option<JobReport> =
            last.and_then(|state| serde_json::from_str(state.message.as_deref()?).ok());
        // The pod's last state comes a moment later, or it never comes.
        if report.is_none() && (end.failure.is_none() || now.duration_since(end.at) < PODS_LAG) {
            return None;
        }
        let failure = failure(job, end, report.as_ref(), last);
        Some(Ended {
            job: job.name.clone(),
            site: job.site,
            task: job.task,
            store: job.place.clone(),
            created: job.created,
            at: end.at,
            report,
            failure,
        })
    };
    jobs.iter().filter_map(of).collect()
}

/// The Jobs of a connection that are any of backups.
pub fn jobs(all: &[Arc<Job>]) -> Vec<BackupJob> {
    all.iter().filter_map(|job| BackupJob::of(job)).collect()
}

/// How the last pod of a Job ended.
fn last_state<'a>(pods: &'a [Arc<Pod>], job: &str) -> Option<&'a ContainerStateTerminated> {
    let states = pods.iter().filter(|pod| belongs(pod, job)).filter_map(|pod| terminated(pod));
    states.max_by_key(|state| state.finished_at.as_ref().map(|at| at.0))
}

fn belongs(pod: &Pod, job: &str) -> bool {
    pod.owner_references().iter().any(|owner| owner.uid == job)
}

fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == CONTAINER)?.state.as_ref()?.terminated.as_ref()
}

fn failure(
    job: &BackupJob,
    end: &End,
    report: Option<&JobReport>,
    last: Option<&ContainerStateTerminated>,
) -> Option<(Reason, String)> {
    if let Some(failure) = report.and_then(|report| report.failure.as_ref()) {
        if job.task == Task::Drill {
            let message = format!("{}: {}", failure.reason, failure.message);
            return Some((Reason::DrillFailed, message.chars().take(LONGEST).collect()));
        }
        let known = REASONS.into_iter().find(|reason| reason.to_string() == failure.reason);
        let message = failure.message.chars().take(LONGEST).collect();
        return Some((known.unwrap_or(Reason::BackupFailed), message));
    }
    why((&job.namespace, &job.name), end, last)
}

/// Why the Job `name` failed, as Kubernetes sees it.
fn why(
    (namespace, name): (&str, &str),
    end: &End,
    last: Option<&ContainerStateTerminated>,
) -> Option<(Reason, String)> {
    let (reason, message) = end.failure.as_ref()?;
    if reason == "DeadlineExceeded" {
        let message = format!(
            "Job {name} wasn't done within its deadline (backup.deadlineSeconds in the operator's values), and was ended: \
             look at why its pod didn't start or what it waited for (kubectl -n {namespace} describe job {name})"
        );
        return Some((Reason::BackupTimedOut, message));
    }
    let why = match last {
        Some(state) if state.reason.as_deref() == Some("OOMKilled") => {
            "it needs more memory than backup.resources.limits in the operator's values allows".to_owned()
        }
        Some(state) => format!("exit code {}", state.exit_code),
        None => message.chars().take(LONGEST).collect(),
    };
    Some((Reason::BackupFailed, format!("Job {name} failed: {why} (kubectl -n {namespace} logs job/{name})")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-11-29T02:00:10Z";

    fn job(failure: Option<&str>) -> BackupJob {
        let at = "2026-11-29T02:00:00Z".parse().expect("a time");
        let failure = failure.map(|reason| (reason.to_owned(), "as told".to_owned()));
        BackupJob {
            namespace: "acme".to_owned(),
            name: "bol-on-site-1".to_owned(),
            uid: "u1".to_owned(),
            version: None,
            connection: "bol".to_owned(),
            site: Site::OnSite,
            task: Task::Run,
            store: "s".to_owned(),
            place: "s".to_owned(),
            created: at,
            stage: Stage::Ended(End { at, failure }),
        }
    }

    fn pod(job: &str, state: &Value) -> Arc<Pod> {
        let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": job}]);
        let value = json!({"metadata": {"name": "p", "ownerReferences": owner}, "status": {"containerStatuses": [{
            "name": "backup", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}});
        Arc::new(serde_json::from_value(value).expect("a pod"))
    }

    fn terminated(message: &str, at: &str, reason: &str) -> Value {
        json!({"terminated": {"exitCode": 1, "message": message, "finishedAt": at, "reason": reason}})
    }

    fn found(job: &BackupJob, pods: &[Arc<Pod>]) -> Option<Ended> {
        ended(std::slice::from_ref(job), pods, NOW.parse().expect("a time")).pop()
    }

    #[test]
    fn a_report_is_read_from_the_last_pod_of_the_job_itself() {
        let report = |pruned: u64| {
            let listing = json!({"at": "2026-11-29T01:59:59.5Z", "backups": 3, "bytes": 9, "pruned": pruned, "overdue": 0,
                                 "foreign": 0});
            json!({"listing": listing}).to_string()
        };
        let state = |pruned, at| terminated(&report(pruned), at, "Completed");
        let pods = [
            pod("u1", &state(2, "2026-11-29T01:59:59Z")),
            pod("u1", &state(1, "2026-11-29T01:50:00Z")),
            pod("u2", &state(3, "2026-11-29T01:59:59Z")),
        ];
        let found = found(&job(None), &pods).expect("it is known");
        assert_eq!(found.report.and_then(|report| report.listing).map(|listing| listing.pruned), Some(2));
        assert_eq!(found.failure, None);
    }

    #[test]
    fn each_failure_has_a_reason_that_is_bounded() {
        let at = "2026-11-29T01:59:59Z";
        let said = |reason: &str| {
            let failure = json!({"failure": {"reason": reason, "message": "because"}}).to_string();
            pod("u1", &terminated(&failure, at, "Error"))
        };
        let killed = pod("u1", &terminated("", at, "OOMKilled"));
        let running = pod("u1", &json!({"running": {}}));
        for (kubernetes, pods, reason, part) in [
            ("BackoffLimitExceeded", vec![said("StoreFull")], Reason::StoreFull, "because"),
            ("BackoffLimitExceeded", vec![said("Weather")], Reason::BackupFailed, "because"),
            ("BackoffLimitExceeded", vec![killed], Reason::BackupFailed, "backup.resources.limits"),
            ("BackoffLimitExceeded", vec![], Reason::BackupFailed, "kubectl -n acme logs job/bol-on-site-1"),
            ("BackoffLimitExceeded", vec![], Reason::BackupFailed, "as told"),
            ("DeadlineExceeded", vec![running], Reason::BackupTimedOut, "backup.deadlineSeconds"),
            ("DeadlineExceeded", vec![said("Interrupted")], Reason::Interrupted, "because"),
        ] {
            let (found, message) = found(&job(Some(kubernetes)), &pods).expect(part).failure.expect(part);
            assert_eq!(found, reason, "{message}");
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn nothing_is_concluded_before_the_pod_can_be_seen_nor_from_a_success_without_a_report() {
        assert_eq!(found(&job(None), &[]), None);
        let early = "2026-11-29T02:00:09Z".parse().expect("a time");
        assert_eq!(ended(&[job(Some("BackoffLimitExceeded"))], &[], early), []);
        let runs = BackupJob { stage: Stage::Runs, ..job(None) };
        assert_eq!(found(&runs, &[]), None);
    }
}
