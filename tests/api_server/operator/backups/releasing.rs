use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicI64, atomic::Ordering},
};

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    events::v1::Event,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use marketrelay_api::labels;
use marketrelay_operator::clock::Clock;
use serde_json::json;

use super::{
    BOTH, CONFIG, CRON_JOBS, connect, cron_jobs, finish, furnish_stores, is_finished, is_suspended, jobs,
    now, released,
};
use crate::{
    operator::{Operator, audit, reason},
    support::{Space, wait_for, with_namespace},
};

const JOBS: usize = 200;
const STORES: usize = 2;
const PLACES: usize = 10;
/// After so many have finished.
const RESTARTS: [usize; 2] = [50, 120];

/// As a CronJob of the operator's, and the Job that it makes.
fn objects(number: usize) -> (CronJob, Job) {
    let connection = format!("c{number}");
    let labels = json!({labels::MANAGED_BY: labels::OPERATOR, labels::COMPONENT: labels::BACKUP,
        labels::CONNECTION: connection, labels::SITE: "on-site", labels::TASK: "run"});
    let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b"}]}});
    let spec = json!({"suspend": true, "template": pod});
    let cron_job = json!({"metadata": {"name": format!("{connection}-on-site"), "labels": labels},
        "spec": {"schedule": "0 0 1 1 *", "timeZone": "Etc/UTC", "jobTemplate": {"spec": spec}}});
    let store = json!({labels::STORE: format!("https://s3.site.example/b{}", number % STORES)});
    let job = json!({"metadata": {"name": format!("{connection}-on-site-1"), "labels": labels, "annotations": store},
        "spec": spec});
    (serde_json::from_value(cron_job).expect("a CronJob"), serde_json::from_value(job).expect("a Job"))
}

async fn make_all(space: &Space) {
    stream::iter(0..JOBS)
        .for_each_concurrent(16, |number| async move {
            let (cron_job, job) = objects(number);
            space.api::<CronJob>().create(&PostParams::default(), &cron_job).await.expect("a CronJob");
            space.api::<Job>().create(&PostParams::default(), &job).await.expect("a Job");
        })
        .await;
}

/// The names of those at work, which at no store are more than there are places.
fn at_work(jobs: &[Job]) -> Vec<String> {
    let running: Vec<_> = jobs.iter().filter(|job| !is_suspended(job) && !is_finished(job)).collect();
    let mut stores = BTreeMap::<_, usize>::new();
    for job in &running {
        *stores.entry(&job.annotations()[labels::STORE]).or_default() += 1;
    }
    assert!(stores.values().all(|running| *running <= PLACES), "{stores:?}");
    running.into_iter().map(ResourceExt::name_any).collect()
}

#[tokio::test]
async fn of_two_hundred_jobs_few_are_at_work_at_each_store_also_when_the_operator_is_restarted() {
    with_namespace(|space| async move {
        make_all(&space).await;
        let config = CONFIG.replacen("concurrentRuns: 2", &format!("concurrentRuns: {PLACES}"), 1);
        let mut operator = Some(Operator::start(&space, &config).await);
        let mut finished = BTreeSet::new();
        let mut restarts = RESTARTS.into_iter().peekable();
        while finished.len() < JOBS {
            let running = wait_for(&space, "Jobs at work", async || {
                Some(at_work(&jobs(&space).await)).filter(|running| !running.is_empty())
            })
            .await;
            if restarts.next_if(|at| finished.len() >= *at).is_some() {
                operator.take().expect("one runs").stop().await;
                operator = Some(Operator::start(&space, &config).await);
            }
            // Not all at once: a place that gets free is taken.
            for job in running.iter().take(PLACES) {
                finish(&space, job, None).await;
                finished.insert(job.clone());
                at_work(&jobs(&space).await);
            }
        }
        drop(operator);
        let mut patched = BTreeMap::<_, usize>::new();
        for request in audit::requests(&space) {
            if request.verb == "patch" && request.object_ref.resource == "jobs" {
                *patched.entry(request.object_ref.name).or_default() += 1;
            }
        }
        assert_eq!(patched.len(), JOBS);
        patched.retain(|_, times| *times > 1);
        // An operator that has just started may not see yet what the one before it was about to release.
        let in_flight = RESTARTS.len() * STORES * PLACES;
        assert!(patched.len() <= in_flight && patched.values().all(|times| *times == 2), "{patched:?}");
    })
    .await;
}

#[tokio::test]
async fn a_job_that_still_waits_when_the_next_one_is_due_is_deleted_and_told() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let ahead = Arc::new(AtomicI64::new(0));
        let told = ahead.clone();
        let clock =
            Clock::of(move || Timestamp::now() + SignedDuration::from_secs(told.load(Ordering::Relaxed)));
        let config = CONFIG.replacen("concurrentRuns: 2", "concurrentRuns: 1", 1);
        let operator = Operator::start_with(&space, &config, clock).await;
        for name in ["one", "two"] {
            connect(&space, name, BOTH).await;
            cron_jobs(&space, name, &CRON_JOBS).await;
        }
        now(&space, "one-on-site", "first");
        let first = released(&space, "first").await;
        now(&space, "two-on-site", "second");
        wait_for(&space, "the second is seen", async || {
            let seen = jobs(&space).await;
            (seen.len() == 2 && seen.iter().filter(|job| is_suspended(job)).count() == 1).then_some(())
        })
        .await;
        ahead.store(25 * 3_600, Ordering::Relaxed);
        // Whatever changes, it looks again.
        now(&space, "two-off-site", "third");
        wait_for(&space, "the second goes", async || {
            space.api::<Job>().get_opt("second").await.expect("an answer").is_none().then_some(())
        })
        .await;
        let still = space.api::<Job>().get("first").await.expect("it is at work");
        assert_eq!(still.uid(), first.uid());
        wait_for(&space, "it is told", async || {
            let events = space.api::<Event>().list(&ListParams::default()).await.expect("events");
            // The third may have waited for as long.
            let is_told = |event: &Event| {
                let note = event.note.as_deref().unwrap_or_default();
                event.reason.as_deref() == Some("BackupSkipped") && note.contains("two-on-site")
            };
            events.items.iter().any(is_told).then_some(())
        })
        .await;
        operator.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_job_by_hand_waits_for_its_turn_like_every_other() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connect(&space, "bol", BOTH).await;
        cron_jobs(&space, "bol", &CRON_JOBS).await;
        reason(&space, "bol", "RelayStarting").await;
        now(&space, "bol-on-site", "now-1");
        let job = released(&space, "now-1").await;
        assert_eq!(job.spec.and_then(|spec| spec.active_deadline_seconds), Some(3_600));
        now(&space, "bol-off-site", "now-2");
        let looks = audit::looks(&space);
        wait_for(&space, "looks", async || (audit::looks(&space) >= looks + 2).then_some(())).await;
        let waits = space.api::<Job>().get("now-2").await.expect("a Job");
        assert!(is_suspended(&waits), "its relay gives one snapshot at a time");
        finish(&space, "now-1", None).await;
        released(&space, "now-2").await;
        space.api::<Job>().delete("now-2", &DeleteParams::background()).await.expect("deleted");
    })
    .await;
}
