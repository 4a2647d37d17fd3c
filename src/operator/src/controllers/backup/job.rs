//! A Job of backups, as its labels and its status tell of it.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use kube::ResourceExt;
use marketrelay_api::{backup::Site, labels};

/// What a Job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Task {
    /// Take a backup, prune, list.
    Run,
    /// Prune and list alone.
    Prune,
    /// Restore the newest backup into a database of its own, and check that.
    Drill,
    /// Bring the escrowed keys into the off-site store.
    Escrow,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Run, Self::Prune, Self::Drill, Self::Escrow];

    /// As the program's subcommand and the label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Prune => "prune",
            Self::Drill => "drill",
            Self::Escrow => "escrow",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a Job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits to be released.
    Waits,
    /// It is released.
    Runs,
    /// It is over.
    Ended(End),
}

/// How a Job ended, as Kubernetes sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// Why it failed, in Kubernetes' words; `None`: it succeeded.
    pub failure: Option<(String, String)>,
}

/// A Job of backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupJob {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its version.
    pub version: Option<String>,
    /// The connection's name.
    pub connection: String,
    /// Which of its sites.
    pub site: Site,
    /// What it does.
    pub task: Task,
    /// The store that it works with.
    pub store: String,
    /// The part of it.
    pub place: String,
    /// When it was made.
    pub created: Timestamp,
    /// How far it is.
    pub stage: Stage,
}

impl BackupJob {
    /// `None`: it is none of backups, or it is on its way out.
    pub fn of(job: &Job) -> Option<Self> {
        let label = |name: &str| job.labels().get(name).map(String::as_str);
        if label(labels::COMPONENT) != Some(labels::BACKUP) || job.metadata.deletion_timestamp.is_some() {
            return None;
        }
        Some(Self {
            namespace: job.namespace()?,
            name: job.name_any(),
            uid: job.uid()?,
            version: job.resource_version(),
            connection: label(labels::CONNECTION)?.to_owned(),
            site: Site::ALL.into_iter().find(|site| label(labels::SITE) == Some(&site.to_string()))?,
            task: Task::ALL.into_iter().find(|task| label(labels::TASK) == Some(task.as_str()))?,
            store: job.annotations().get(labels::STORE).cloned().unwrap_or_default(),
            place: job.annotations().get(labels::PLACE).cloned().unwrap_or_default(),
            created: job.creation_timestamp()?.0,
            stage: stage(job),
        })
    }
}

impl BackupJob {
    /// Whether it does this with that store, and hasn't ended.
    pub fn is_under_way(&self, site: Site, task: Task, place: &str) -> bool {
        let is_over = matches!(self.stage, Stage::Ended(_));
        self.site == site && self.task == task && self.place == place && !is_over
    }
}

/// How far a Job is.
pub fn stage(job: &Job) -> Stage {
    if let Some(end) = end(job) {
        return Stage::Ended(end);
    }
    let is_suspended = job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or_default();
    if is_suspended { Stage::Waits } else { Stage::Runs }
}

fn end(job: &Job) -> Option<End> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let holds = |kind: &str| conditions.iter().find(|one| one.type_ == kind && one.status == "True");
    let at = |condition: &JobCondition| {
        let at = condition.last_transition_time.as_ref().or(condition.last_probe_time.as_ref());
        at.map_or(Timestamp::UNIX_EPOCH, |at| at.0)
    };
    if let Some(complete) = holds("Complete") {
        return Some(End { at: at(complete), failure: None });
    }
    let failed = holds("Failed")?;
    let (reason, message) = (failed.reason.clone(), failed.message.clone());
    Some(End { at: at(failed), failure: Some((reason.unwrap_or_default(), message.unwrap_or_default())) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_is_what_its_labels_and_status_say_and_others_are_none_of_ours() {
        let job = |component: &str, suspend: bool, conditions: serde_json::Value| {
            let value = json!({
                "metadata": {"name": "bol-on-site-1", "namespace": "acme", "uid": "u", "creationTimestamp": "2026-11-29T01:00:00Z",
                    "labels": {labels::COMPONENT: component, labels::CONNECTION: "bol", labels::SITE: "on-site",
                               labels::TASK: "run"},
                    "annotations": {labels::STORE: "https://s3.acme.example/backups"}},
                "spec": {"suspend": suspend, "template": {}}, "status": {"conditions": conditions}});
            BackupJob::of(&serde_json::from_value(value).expect("a Job"))
        };
        let failed = json!([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long",
                             "lastTransitionTime": "2026-11-29T02:00:00Z"}]);
        let at = "2026-11-29T02:00:00Z".parse().expect("a time");
        let failure = Some(("DeadlineExceeded".to_owned(), "too long".to_owned()));
        for (suspend, conditions, expected) in [
            (true, json!([]), Stage::Waits),
            (false, json!([]), Stage::Runs),
            (true, json!([{"type": "Suspended", "status": "True"}]), Stage::Waits),
            (false, failed, Stage::Ended(End { at, failure })),
            (
                false,
                json!([{"type": "Complete", "status": "True", "lastTransitionTime": "2026-11-29T02:00:00Z"}]),
                Stage::Ended(End { at, failure: None }),
            ),
        ] {
            let found = job("backup", suspend, conditions).expect("one of backups");
            assert_eq!((found.stage, found.site, found.task), (expected, Site::OnSite, Task::Run));
        }
        assert_eq!(job("relay", true, json!([])), None);
    }
}
