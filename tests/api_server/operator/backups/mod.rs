//! Backups: what takes them comes and goes with the spec, few Jobs are at work at a time, and what they report is told.

mod children;
mod releasing;
mod reports;

pub(super) use children::take_name;
pub(super) use reports::{has_recipients, relay_runs, run_ended};

use std::collections::BTreeMap;

use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::{Pod, Secret},
};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use marketrelay_api::{MarketplaceConnectionStatus, labels};
use serde_json::{Value, json};

use super::{apply, connection, furnish};
use crate::{
    samples::{Kind, create},
    support::{Space, text, wait_for},
};

/// With defaults for both sites, and places for two Jobs at each store.
pub(super) const CONFIG: &str = "{relay: {image: 'registry.example/relay:1'}, controller: {statusIntervalSeconds: 5},
    backup: {image: 'registry.example/backup:1', concurrentRuns: 2,
      onSite: {s3: {endpoint: 'https://s3.site.example:9000', bucket: backups, region: us-east-1, prefix: relays}},
      offSite: {s3: {bucket: far, region: eu-central-1}}}}";
pub(super) const BOTH: &str = "{onSite: {s3: {credentialsSecretRef: {name: onsite-s3}}}, \
                               offSite: {s3: {credentialsSecretRef: {name: offsite-s3}}}}";
pub(super) const CRON_JOBS: [&str; 4] = ["-off-prune", "-off-site", "-on-prune", "-on-site"];

/// The same, and somebody who could open escrowed keys.
pub(super) fn with_recipient(recipient: &age::x25519::Recipient) -> String {
    CONFIG.replace("backup: {", &format!("backup: {{escrow: {{recipients: [{recipient}]}}, "))
}

/// As for every connection, and the credentials of both stores.
pub(super) async fn furnish_stores(space: &Space) {
    furnish(space).await;
    for name in ["onsite-s3", "offsite-s3"] {
        let entries = json!({"accessKeyId": "a", "secretAccessKey": "b"});
        apply::<Secret>(space.api(), json!({"metadata": {"name": name}, "stringData": entries})).await;
    }
}

/// Makes a connection with backups.
pub(super) async fn connect(space: &Space, name: &str, backup: &str) {
    let class = &space.name;
    let change = format!(
        "{{metadata: {{name: {name}}}, spec: {{storage: {{storageClassName: {class}}}, backup: {backup}}}}}"
    );
    create(space, Kind::Connection, &change).await;
}

/// Waits until a connection has exactly these CronJobs.
pub(super) async fn cron_jobs(
    space: &Space,
    connection: &str,
    suffixes: &[&str],
) -> BTreeMap<String, CronJob> {
    wait_for(space, &format!("CronJobs {suffixes:?}"), async || {
        let only = ListParams::default().labels(&format!("{}={connection}", labels::CONNECTION));
        let found = space.api::<CronJob>().list(&only).await.expect("CronJobs").items;
        let found: BTreeMap<_, _> = found.into_iter().map(|one| (one.name_any(), one)).collect();
        let wanted = suffixes.iter().map(|suffix| format!("{connection}{suffix}"));
        wanted.eq(found.keys().cloned()).then_some(found)
    })
    .await
}

/// Waits for a reason of a condition; gives its message and the status.
pub(super) async fn condition(
    space: &Space,
    name: &str,
    kind: &str,
    reason: &str,
) -> (String, MarketplaceConnectionStatus) {
    wait_for(space, &format!("{kind} is {reason}"), async || {
        let status = connection(space, name).await.status.unwrap_or_default();
        let found = status.conditions.iter().find(|condition| condition.type_ == kind)?;
        (found.reason == reason).then(|| (found.message.clone(), status.clone()))
    })
    .await
}

/// As a person does who wants a backup now.
pub(super) fn now(space: &Space, cron_job: &str, name: &str) {
    let made = space.kubectl(&["create", "job", &format!("--from=cronjob/{cron_job}"), name]);
    assert!(made.status.success(), "{}", text(&made));
}

pub(super) fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true)
}

fn is_finished(job: &Job) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|one| ["Complete", "Failed"].contains(&one.type_.as_str()) && one.status == "True")
}

pub(super) async fn jobs(space: &Space) -> Vec<Job> {
    space.api().list(&ListParams::default()).await.expect("Jobs").items
}

/// Waits until a Job has been released.
pub(super) async fn released(space: &Space, name: &str) -> Job {
    wait_for(space, &format!("{name} is released"), async || {
        let job = space.api::<Job>().get_opt(name).await.expect("an answer")?;
        (!is_suspended(&job)).then_some(job)
    })
    .await
}

/// As the Job controller does.
pub(super) async fn finish(space: &Space, job: &str, failure: Option<&str>) {
    let now = jiff::Timestamp::now().to_string();
    let condition = |kind: &str| {
        let reason = failure.unwrap_or("CompletionsReached");
        json!({"type": kind, "status": "True", "reason": reason, "message": reason, "lastProbeTime": now, "lastTransitionTime": now})
    };
    let (kinds, succeeded) = match failure {
        None => (["SuccessCriteriaMet", "Complete"], 1),
        Some(_) => (["FailureTarget", "Failed"], 0),
    };
    // The API server refuses a Job that ends before it has begun, or all at once.
    let begun = json!({"startTime": now, "ready": 0, "terminating": 0, "uncountedTerminatedPods": {}});
    let target =
        json!({"conditions": [condition(kinds[0])], "succeeded": succeeded, "failed": 1 - succeeded});
    let mut ended = json!({"conditions": [condition(kinds[0]), condition(kinds[1])]});
    if failure.is_none() {
        ended["completionTime"] = json!(now);
    }
    for status in [begun, target, ended] {
        let patch = Patch::Merge(json!({"status": status}));
        let patched = space.api::<Job>().patch_status(job, &PatchParams::default(), &patch).await;
        patched.unwrap_or_else(|error| panic!("{job}: {error}"));
    }
}

/// A Job's pod that has ended with this termination message.
pub(super) async fn leave(space: &Space, job: &Job, message: &Value) {
    let name = format!("{}-pod", job.name_any());
    let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": job.name_any(), "uid": job.uid()});
    let labels = job.labels();
    let template = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).expect("a template");
    let pod = json!({"metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
        "spec": {"serviceAccountName": template.service_account_name, "restartPolicy": "Never", "automountServiceAccountToken": false,
                 "containers": [{"name": "backup", "image": "registry.example/backup:1"}]}});
    apply::<Pod>(space.api(), pod).await;
    let at = jiff::Timestamp::now().to_string();
    let terminated = json!({"exitCode": 0, "reason": "Completed", "startedAt": at, "finishedAt": at, "message": message.to_string()});
    let status = json!({"status": {"phase": "Succeeded", "containerStatuses": [{"name": "backup", "image": "", "imageID": "",
        "ready": false, "restartCount": 0, "state": {"terminated": terminated}}]}});
    let patched =
        space.api::<Pod>().patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await;
    patched.unwrap_or_else(|error| panic!("{name}: {error}"));
}
