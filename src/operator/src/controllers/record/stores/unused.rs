//! Stores that nothing was written into, such as a bucket that was named by mistake and never was. What Jobs tell decides it: one
//! that may be writing is noted, and one that goes without a word may have written. Pure but for the look.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use marketrelay_api::{
    ConnectionRecord, MarketplaceConnection, Reason,
    backup::{Failure, JobReport},
    record::{RecordStore, Unused},
};

use super::known;
use crate::{
    conditions::seconds,
    controllers::{
        backup::{BackupJob, Stage, Task},
        connection::{
            Context,
            backup::{Outcome, outcome},
        },
    },
    names::Names,
};

/// The keys come first, and the record a moment later.
const TOGETHER: SignedDuration = SignedDuration::from_mins(1);

/// Whether nothing can have been written there.
pub fn is_unused(store: &RecordStore) -> bool {
    store.unused.as_ref().is_some_and(|unused| unused.jobs.is_empty())
}

/// What is noted of a store that the record doesn't know, if the record has known all stores since the connection has its id: one
/// that was made again hasn't.
pub fn new(context: &Context, record: &ConnectionRecord, now: Timestamp) -> Option<Unused> {
    let spec = &record.spec;
    let keyring = ObjectRef::new(&Names(&spec.connection).keyring()).within(&spec.namespace);
    let keyring = context.stores.secrets.get(&keyring)?.creation_timestamp()?.0;
    let record = record.creation_timestamp()?.0;
    (record.duration_since(keyring) <= TOGETHER).then(|| Unused { since: seconds(now), jobs: Vec::new() })
}

/// With what the connection's Jobs have told since.
pub fn heard(context: &Context, record: &ConnectionRecord, stores: &[RecordStore]) -> Vec<RecordStore> {
    if stores.iter().all(|store| store.unused.is_none()) {
        return stores.to_vec();
    }
    let spec = &record.spec;
    let of = ObjectRef::<MarketplaceConnection>::new(&spec.connection).within(&spec.namespace);
    let connection = context.stores.connections.get(&of);
    let restore = connection.as_ref().and_then(|connection| connection.status.as_ref()?.restore.as_ref());
    let restored = restore.and_then(|restore| Some((restore.restored.as_ref()?.site, restore.since.0)));
    let (jobs, pods) = context.stores.jobs(&of);
    // A new cluster finds what an older one has written.
    let is_proven = |store: &RecordStore| {
        let since = store.unused.as_ref().map(|unused| unused.since.0);
        restored.is_some_and(|(site, at)| site == store.site && since.is_some_and(|since| at >= since))
    };
    let unproven = stores.iter().map(|store| RecordStore {
        unused: store.unused.clone().filter(|_| !is_proven(store)),
        ..store.clone()
    });
    told(&unproven.collect::<Vec<_>>(), &jobs, &pods, context.clock.now())
}

fn told(stores: &[RecordStore], jobs: &[Arc<Job>], pods: &[Arc<Pod>], now: Timestamp) -> Vec<RecordStore> {
    let with = |store: &RecordStore| {
        let unused = store.unused.as_ref().and_then(|unused| after(store, unused, jobs, pods, now));
        RecordStore { unused, ..store.clone() }
    };
    stores.iter().map(with).collect()
}

/// `None`: something may have been written there.
fn after(
    store: &RecordStore,
    unused: &Unused,
    jobs: &[Arc<Job>],
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> Option<Unused> {
    let all: Vec<_> = jobs.iter().filter_map(|job| BackupJob::of(job)).collect();
    let is_there = |uid: &String| all.iter().any(|job| job.uid == *uid);
    if !unused.jobs.iter().all(is_there) {
        return None;
    }
    let mut silent = Vec::new();
    // Which store a Job works with is in its configuration, as it is when its pod begins.
    for job in all.iter().filter(|job| job.site == store.site && writes(job.task)) {
        let report = match (&job.stage, outcome(&job.name, jobs.iter().map(Arc::as_ref), pods, now)) {
            (Stage::Waits, _) => continue,
            (Stage::Ended(end), _) if end.at < unused.since.0 => continue,
            (Stage::Runs, _) | (_, Outcome::Missing | Outcome::Runs) => {
                silent.push(job.uid.clone());
                continue;
            }
            (Stage::Ended(_), Outcome::Ended { report, .. }) => report,
        };
        if !has_written_nothing(store, &report?) {
            return None;
        }
    }
    Some(Unused { since: unused.since.clone(), jobs: silent })
}

fn writes(task: Task) -> bool {
    match task {
        Task::Run | Task::Escrow => true,
        Task::Prune | Task::Drill => false,
    }
}

/// It has worked with another store, or has found no bucket and nothing else.
fn has_written_nothing(store: &RecordStore, report: &JobReport) -> bool {
    let Some(identity) = &report.store else { return false };
    let nothing =
        JobReport { store: report.store.clone(), failure: report.failure.clone(), ..JobReport::default() };
    known::id(identity) != store.id || is_nowhere(report.failure.as_ref()) && *report == nothing
}

/// Whether a Job has told that there is no such bucket.
pub fn is_nowhere(failure: Option<&Failure>) -> bool {
    failure.is_some_and(|failure| failure.reason == Reason::BucketNotFound.to_string())
}

#[cfg(test)]
mod tests {
    use marketrelay_api::labels;
    use serde_json::{Value, json};

    use super::{super::known::tests::sample, *};

    const NOW: &str = "2026-11-29T02:00:00Z";

    fn at(time: &str) -> Timestamp {
        time.parse().expect("a time")
    }

    /// Noted at one o'clock.
    fn store(jobs: &[&str]) -> RecordStore {
        let jobs = jobs.iter().map(|uid| (*uid).to_owned()).collect();
        RecordStore {
            unused: Some(Unused { since: seconds(at("2026-11-29T01:00:00Z")), jobs }),
            ..sample("nope")
        }
    }

    /// `end`: when it has ended.
    fn job(uid: &str, task: &str, suspend: bool, end: Option<&str>) -> Arc<Job> {
        let end = end.map(|at| json!({"type": "Failed", "status": "True", "lastTransitionTime": at}));
        let value = json!({
            "metadata": {"name": uid, "namespace": "acme", "uid": uid, "creationTimestamp": "2026-11-29T00:30:00Z",
                "labels": {labels::COMPONENT: labels::BACKUP, labels::CONNECTION: "bol", labels::SITE: "on-site", labels::TASK: task}},
            "spec": {"suspend": suspend, "template": {}}, "status": {"conditions": end.into_iter().collect::<Vec<_>>()}});
        Arc::new(serde_json::from_value(value).expect("a Job"))
    }

    fn pod(job: &str, report: &Value) -> Arc<Pod> {
        let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": job}]);
        let state = json!({"terminated": {"exitCode": 1, "message": report.to_string()}});
        let value = json!({"metadata": {"name": "p", "ownerReferences": owner}, "status": {"containerStatuses": [{
            "name": "backup", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}});
        Arc::new(serde_json::from_value(value).expect("a pod"))
    }

    fn report(bucket: &str, reason: &str) -> JobReport {
        let failure = Some(Failure { reason: reason.to_owned(), message: "m".to_owned() });
        JobReport {
            store: Some(sample(bucket).s3("").identity()),
            failure: failure.filter(|_| !reason.is_empty()),
            ..JobReport::default()
        }
    }

    /// Of a store that these Jobs are noted of, after one that has ended so.
    fn ended(noted: &[&str], report: &impl serde::Serialize) -> Option<Unused> {
        let report = serde_json::to_value(report).expect("JSON");
        let job = job("u", "run", false, Some("2026-11-29T01:30:00Z"));
        told(&[store(noted)], &[job], &[pod("u", &report)], at(NOW)).remove(0).unused
    }

    #[test]
    fn a_store_is_unused_as_long_as_each_job_has_found_no_bucket_or_worked_with_another_one() {
        for told in [report("nope", "BucketNotFound"), report("other", ""), report("other", "StoreRefused")] {
            for noted in [&[][..], &["u"]] {
                assert_eq!(ended(noted, &told), store(&[]).unused, "{told:?}");
            }
        }
        let escrowed = json!({"fingerprint": "f", "at": NOW, "oldVersions": 0});
        let mut gone = serde_json::to_value(report("nope", "BucketNotFound")).expect("JSON");
        gone["escrowed"] = escrowed;
        assert_eq!(ended(&[], &gone), None, "the bucket went while it worked");
        for told in [report("nope", ""), report("nope", "StoreUnreachable"), JobReport::default()] {
            assert_eq!(ended(&[], &told), None, "{told:?}");
        }
        assert_eq!(ended(&[], &"noise"), None, "a report that can't be read");
    }

    #[test]
    fn a_job_that_goes_without_a_word_may_have_written() {
        let told = |noted: &[&str], jobs: &[Arc<Job>]| told(&[store(noted)], jobs, &[], at(NOW)).remove(0);
        let runs = [job("u", "escrow", false, None)];
        let noted = told(&[], &runs);
        assert_eq!(noted, store(&["u"]));
        assert!(!is_unused(&noted) && is_unused(&store(&[])));
        assert_eq!(told(&["u"], &runs), store(&["u"]), "nothing new, nothing to write");
        assert_eq!(told(&["u"], &[]).unused, None);
        let lag = [job("u", "run", false, Some("2026-11-29T01:59:55Z"))];
        assert_eq!(told(&["u"], &lag), store(&["u"]), "its pod may be shown a moment later");
        assert_eq!(told(&[], &[job("u", "run", false, Some("2026-11-29T01:30:00Z"))]).unused, None);
    }

    #[test]
    fn jobs_that_wait_that_only_read_or_delete_or_that_ended_before_say_nothing() {
        for silent in [
            job("u", "run", true, None),
            job("u", "prune", false, None),
            job("u", "drill", false, Some("2026-11-29T01:30:00Z")),
            job("u", "run", false, Some("2026-11-29T00:59:59Z")),
        ] {
            let told = told(&[store(&[])], std::slice::from_ref(&silent), &[], at(NOW));
            assert_eq!(told, [store(&[])], "{silent:?}");
        }
    }
}
