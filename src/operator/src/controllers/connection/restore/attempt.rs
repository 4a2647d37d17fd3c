//! The Job of an attempt, as it is. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use marketrelay_api::{
    backup::{Failure, RestoreReport, Restored},
    connection::JobResult,
};

use crate::{
    conditions::seconds,
    controllers::connection::backup::{Outcome, outcome},
};

/// How far an attempt is.
#[derive(Clone, Debug, PartialEq)]
pub enum Attempt {
    /// It has no Job.
    Missing,
    /// Its Job hasn't ended, or isn't known yet how.
    Runs,
    /// It has restored a backup.
    Restored(Box<Restored>),
    /// It has failed.
    Failed(JobResult),
}

impl Attempt {
    /// Of the Job `name`.
    pub fn of(name: &str, jobs: &[Arc<Job>], pods: &[Arc<Pod>], now: Timestamp) -> Self {
        let jobs = jobs.iter().map(Arc::as_ref);
        let (report, unreported, at) = match outcome::<RestoreReport>(name, jobs, pods, now) {
            Outcome::Missing => return Self::Missing,
            Outcome::Runs => return Self::Runs,
            Outcome::Ended { report, unreported, at } => (report.unwrap_or_default(), unreported, at),
        };
        if let Some(restored) = report.restored {
            return Self::Restored(Box::new(restored));
        }
        let Failure { reason, message } = report.failure.unwrap_or(unreported);
        let (reason, message) = (Some(reason), Some(message));
        Self::Failed(JobResult { job: name.to_owned(), finished_at: seconds(at), reason, message })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(conditions: &Value) -> Arc<Job> {
        let value = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {}},
                           "status": {"conditions": conditions}});
        Arc::new(serde_json::from_value(value).expect("a Job"))
    }

    fn pod(message: &str) -> Arc<Pod> {
        let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u"}]);
        let state = json!({"terminated": {"exitCode": 1, "message": message}});
        let value = json!({"metadata": {"name": "p", "ownerReferences": owner}, "status": {"containerStatuses": [{
            "name": "backup", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}});
        Arc::new(serde_json::from_value(value).expect("a pod"))
    }

    #[test]
    fn an_attempt_is_what_its_report_says_and_without_one_what_kubernetes_does() {
        let now: Timestamp = "2026-11-29T02:00:30Z".parse().expect("a time");
        let ended = |kind: &str| {
            json!([{"type": kind, "status": "True", "reason": "BackoffLimitExceeded", "message": "as told",
                    "lastTransitionTime": "2026-11-29T02:00:00Z"}])
        };
        let of = |job: Option<Arc<Job>>, pods: &[Arc<Pod>]| Attempt::of("j", job.as_slice(), pods, now);
        assert_eq!(of(None, &[]), Attempt::Missing);
        assert_eq!(of(Some(job(&json!([]))), &[]), Attempt::Runs);
        let told = json!({"failure": {"reason": "NoBackup", "message": "none"}}).to_string();
        for (pods, reason, message) in [
            (vec![pod(&told)], "NoBackup", "none"),
            (vec![], "BackupFailed", "as told"),
            (vec![pod("noise")], "BackupFailed", "exit code 1"),
        ] {
            let Attempt::Failed(failure) = of(Some(job(&ended("Failed"))), &pods) else {
                panic!("it has failed")
            };
            assert_eq!(failure.reason.as_deref(), Some(reason));
            assert!(failure.message.expect("a message").contains(message));
        }
        let restored = json!({"restored": {"backup": "b", "site": "onSite", "createdAt": "2026-11-29T01:00:00Z",
            "sequence": 3, "orders": 2, "anonymised": 0, "erased": 0, "held": 0,
            "audit": {"chain": "c", "sequence": 9, "hash": "00"}}});
        let done = of(Some(job(&ended("Complete"))), &[pod(&restored.to_string())]);
        assert!(matches!(done, Attempt::Restored(restored) if restored.sequence == 3));
        let early = "2026-11-29T02:00:05Z".parse().expect("a time");
        assert_eq!(Attempt::of("j", &[job(&ended("Complete"))], &[], early), Attempt::Runs);
    }
}
