//! The Job of an attempt, as it is. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use marketrelay_api::backup::{Failure, PurgeReport};

use crate::controllers::connection::backup::{Outcome, outcome};

/// How far an attempt is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It has no Job.
    Missing,
    /// Its Job hasn't ended, or isn't known yet how.
    Runs,
    /// It has ended, and says so of itself.
    Reported(PurgeReport, Timestamp),
    /// It has ended, and this is all that is known.
    Failed(Failure, Timestamp),
}

impl Attempt {
    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Reported(..) | Self::Failed(..))
    }

    /// Of the Job `name`.
    pub fn of(name: &str, jobs: &[Job], pods: &[Arc<Pod>], now: Timestamp) -> Self {
        match outcome(name, jobs, pods, now) {
            Outcome::Missing => Self::Missing,
            Outcome::Runs => Self::Runs,
            Outcome::Ended { report: Some(report), at, .. } => Self::Reported(report, at),
            Outcome::Ended { report: None, unreported, at } => Self::Failed(unreported, at),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(conditions: &Value) -> Job {
        let value = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {}},
                           "status": {"conditions": conditions}});
        serde_json::from_value(value).expect("a Job")
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
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let (now, end) = (at("2026-11-29T02:00:30Z"), at("2026-11-29T02:00:00Z"));
        let ended = |kind: &str| {
            job(
                &json!([{"type": kind, "status": "True", "reason": "BackoffLimitExceeded", "message": "as told",
                         "lastTransitionTime": "2026-11-29T02:00:00Z"}]),
            )
        };
        let of = |job: Job, pods: &[Arc<Pod>]| Attempt::of("j", &[job], pods, now);
        assert_eq!(Attempt::of("j", &[], &[], now), Attempt::Missing);
        assert_eq!(of(job(&json!([])), &[]), Attempt::Runs);
        let report = PurgeReport::default();
        let told = pod(&serde_json::to_string(&report).expect("JSON"));
        assert_eq!(of(ended("Complete"), &[told]), Attempt::Reported(report, end));
        for (kind, pods, reason, message) in [
            ("Failed", vec![], "BackupFailed", "as told"),
            ("Failed", vec![pod("noise")], "BackupFailed", "exit code 1"),
            ("Complete", vec![], "ReportLost", "no report"),
        ] {
            let Attempt::Failed(failure, _) = of(ended(kind), &pods) else { panic!("it has failed") };
            assert!(failure.reason == reason && failure.message.contains(message), "{failure:?}");
        }
        let early = at("2026-11-29T02:00:05Z");
        assert_eq!(Attempt::of("j", &[ended("Complete")], &[], early), Attempt::Runs);
    }
}
