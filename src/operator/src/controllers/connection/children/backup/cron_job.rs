use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, JobSpec, JobTemplateSpec};
use kube::api::ObjectMeta;
use marketrelay_api::{labels, operator_config::BackupSettings};

use super::{Plan, Which, job_spec, pod};
use crate::controllers::{
    backup::{Task, schedule::expand},
    connection::{backup::Store, children::strings},
};

/// Pruning and looking after escrowed keys is due once a day, at a time of the connection's own.
const DAILY: &str = "H H * * *";
const DAY_SECONDS: i64 = 86_400;

/// Makes Jobs that wait until the operator releases them (ADR 24).
pub fn build(
    plan: &Plan<'_>,
    settings: &BackupSettings,
    suspend: bool,
    store: &Store,
    (site, task): Which,
) -> CronJob {
    let seed = format!("{}/{site}", plan.id);
    let (schedule, zone, suspend, interval) = match task {
        Task::Run => (expand(&store.schedule, &seed), store.zone.as_str(), suspend, store.interval.as_secs()),
        Task::Drill => (
            expand(&store.drill_schedule, &format!("{seed}/{task}")),
            store.zone.as_str(),
            suspend,
            store.drill_interval.as_secs(),
        ),
        Task::Prune | Task::Escrow => {
            (expand(DAILY, &format!("{seed}/{task}")), "Etc/UTC", false, DAY_SECONDS)
        }
    };
    let own = strings(&[(labels::SITE, &site.to_string()), (labels::TASK, task.as_str())]);
    let mut metadata = plan.owned(plan.names().cron_job(site, task), labels::BACKUP);
    metadata.labels.get_or_insert_default().extend(own.clone());
    CronJob {
        metadata,
        spec: Some(CronJobSpec {
            schedule,
            time_zone: Some(zone.to_owned()),
            suspend: Some(suspend),
            concurrency_policy: Some("Forbid".to_owned()),
            // What was missed is caught up with, once.
            starting_deadline_seconds: Some(interval),
            successful_jobs_history_limit: Some(1),
            failed_jobs_history_limit: Some(1),
            job_template: job(plan, settings, store, (site, task), own),
        }),
        status: None,
    }
}

fn job(
    plan: &Plan<'_>,
    settings: &BackupSettings,
    store: &Store,
    which: Which,
    own: BTreeMap<String, String>,
) -> JobTemplateSpec {
    let labels: BTreeMap<_, _> = plan.labels(labels::BACKUP).into_iter().chain(own).collect();
    JobTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels.clone()),
            annotations: Some(strings(&[
                (labels::STORE, &store.location.key()),
                (labels::PLACE, &store.location.place()),
            ])),
            ..ObjectMeta::default()
        }),
        spec: Some(JobSpec {
            suspend: Some(true),
            ..job_spec(settings, labels, pod::spec(plan, settings, store, which))
        }),
    }
}
