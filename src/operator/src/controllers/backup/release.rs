//! Looks at the Jobs of all scopes, and does what is decided.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    runtime::{
        events::{Event, EventType},
        reflector::ObjectRef,
    },
};
use marketrelay_api::MarketplaceConnection;
use serde_json::json;
use tokio::sync::Notify;

use super::{
    decide::{Seen, Step, next, soonest},
    job::{BackupJob, Stage},
    schedule::Schedule,
};
use crate::{clock::Clock, events::Events, metrics::Metrics, names::Names, stores::Stores};

/// Looked at this often even if nothing rings.
const INTERVAL: Duration = Duration::from_mins(1);
/// Changes that come together are looked at together.
const DEBOUNCE: Duration = Duration::from_millis(250);
/// For one call; the next look tries again.
const CALL: Duration = Duration::from_secs(30);
/// A place at a store is held until the watch shows that it is taken, at most this long.
const CLAIM: Duration = Duration::from_mins(1);
/// Calls at the same time.
const CALLS: usize = 16;
/// How long scopes that can't be read keep the others' Jobs waiting: their Jobs may be at work, too.
const READING: Duration = Duration::from_mins(2);

/// A scope whose Jobs are released.
#[derive(Clone)]
pub struct Scoped {
    /// What is watched.
    pub stores: Arc<Stores>,
    /// Whether it is read.
    pub read: tokio::sync::watch::Receiver<bool>,
}

/// Releases Jobs.
pub struct Releaser {
    /// Of the API server.
    pub client: Client,
    /// All scopes: a store is everybody's.
    pub scopes: Vec<Scoped>,
    /// Rung when a Job or a CronJob changes.
    pub bell: Arc<Notify>,
    /// What time it is.
    pub clock: Arc<Clock>,
    /// How many work with a store at the same time.
    pub most: usize,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Writes events.
    pub events: Arc<Events>,
}

impl Releaser {
    /// Until dropped.
    pub async fn run(mut self) {
        let reading = async {
            for scope in &mut self.scopes {
                // The sender lives as long as its scope, which ends with us.
                let _never_dropped = scope.read.wait_for(|read| *read).await.is_ok();
            }
        };
        let _read_or_not = tokio::time::timeout(READING, reading).await;
        let mut claims = HashMap::new();
        loop {
            let jobs = self.jobs(&mut claims);
            let now = self.clock.now();
            let steps = next(&jobs, self.most, now);
            for step in &steps {
                if let Step::Release(job) = step {
                    claims.insert(job.uid.clone(), Instant::now());
                }
            }
            stream::iter(steps).for_each_concurrent(CALLS, |step| self.take(step)).await;
            let left = soonest(&jobs, now).map(|at| at.duration_since(self.clock.now()));
            let left = left.map_or(INTERVAL, |left| Duration::try_from(left).unwrap_or_default());
            let _rung = tokio::time::timeout(left.clamp(DEBOUNCE, INTERVAL), self.bell.notified()).await;
            tokio::time::sleep(DEBOUNCE).await;
        }
    }

    /// All of them, with the claims that the stores don't show yet.
    fn jobs(&self, claims: &mut HashMap<String, Instant>) -> Vec<Seen> {
        let read = self.scopes.iter().filter(|scope| *scope.read.borrow());
        let mut jobs: Vec<_> = read.flat_map(|scope| seen(&scope.stores)).collect();
        claims.retain(|uid, since| {
            let waits = |seen: &Seen| seen.job.uid == *uid && seen.job.stage == Stage::Waits;
            since.elapsed() < CLAIM && jobs.iter().any(waits)
        });
        for seen in &mut jobs {
            seen.is_released = claims.contains_key(&seen.job.uid);
        }
        jobs
    }

    async fn take(&self, step: Step<'_>) {
        let (job, verb) = match step {
            Step::Release(job) => (job, "released"),
            Step::Drop(job) => (job, "deleted"),
        };
        let BackupJob { namespace, name, .. } = job;
        let call = async {
            match step {
                Step::Release(job) => self.release(job).await,
                Step::Drop(job) => self.drop_late(job).await,
            }
        };
        match tokio::time::timeout(CALL, call).await {
            Ok(Ok(())) => tracing::info!(namespace, name, "a Job of backups is {verb}"),
            // It is gone or has changed meanwhile: the next look tells.
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() || status.is_conflict() => {}
            Ok(Err(error)) => tracing::warn!(namespace, name, %error, "a Job of backups can't be {verb}"),
            Err(_) => tracing::warn!(namespace, name, "a Job of backups can't be {verb} in time"),
        }
    }

    fn api(&self, job: &BackupJob) -> Api<Job> {
        Api::namespaced(self.client.clone(), &job.namespace)
    }

    async fn release(&self, job: &BackupJob) -> kube::Result<()> {
        let patch = Patch::Merge(json!({"metadata": {"uid": job.uid}, "spec": {"suspend": false}}));
        self.api(job).patch(&job.name, &PatchParams::default(), &patch).await.map(drop)
    }

    /// Not one that has begun meanwhile.
    async fn drop_late(&self, job: &BackupJob) -> kube::Result<()> {
        let this = Preconditions { uid: Some(job.uid.clone()), resource_version: job.version.clone() };
        let params = DeleteParams { preconditions: Some(this), ..DeleteParams::background() };
        self.api(job).delete(&job.name, &params).await?;
        self.metrics.backups.dropped();
        self.tell(job).await;
        Ok(())
    }

    async fn tell(&self, job: &BackupJob) {
        let reference = ObjectRef::<MarketplaceConnection>::new(&job.connection).within(&job.namespace);
        let connection = self.scopes.iter().find_map(|scope| scope.stores.connections.get(&reference));
        let Some(connection) = connection else { return };
        let event = Event {
            type_: EventType::Warning,
            reason: "BackupSkipped".to_owned(),
            // The same words each time, so that such events are counted; the log names the Job.
            note: Some(format!(
                "a Job of {} waited until the next one was due, since its store had no room for it: see backup.concurrentRuns in \
                 the operator's values, and whether Jobs of backups hang (kubectl get jobs -A -l app.kubernetes.io/component=backup)",
                Names(&job.connection).cron_job(job.site, job.task)
            )),
            action: "Release".to_owned(),
            secondary: None,
        };
        self.events.publish(&event, &connection.object_ref(&())).await;
    }
}

fn seen(stores: &Stores) -> Vec<Seen> {
    let jobs = stores.jobs.state();
    let jobs = jobs.iter().filter_map(|job| BackupJob::of(job));
    let of = |job: BackupJob| {
        let cron_job = (job.stage == Stage::Waits).then(|| cron_job(stores, &job)).flatten();
        let next = cron_job.as_ref().and_then(|cron_job| due(cron_job, &job));
        let status = cron_job.as_ref().and_then(|cron_job| cron_job.status.as_ref());
        let succeeded = status.and_then(|status| status.last_successful_time.as_ref()).map(|at| at.0);
        Seen { job, next, succeeded, is_released: false }
    };
    jobs.map(of).collect()
}

fn cron_job(stores: &Stores, job: &BackupJob) -> Option<Arc<CronJob>> {
    let name = Names(&job.connection).cron_job(job.site, job.task);
    stores.cron_jobs.get(&ObjectRef::<CronJob>::new(&name).within(&job.namespace))
}

/// When its CronJob makes the next one.
fn due(cron_job: &CronJob, job: &BackupJob) -> Option<Timestamp> {
    let spec = cron_job.spec.as_ref()?;
    Schedule::parse(&spec.schedule, spec.time_zone.as_deref()?).ok()?.next(job.created)
}
