use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{batch::v1::Job, core::v1::Secret, events::v1::Event};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use marketrelay_api::{MarketplaceConnection, labels};
use serde_json::{Value, json};

use super::{
    BOTH, CONFIG, CRON_JOBS, condition, connect, cron_jobs, finish, furnish_stores, is_finished,
    is_suspended, jobs, leave, now, released,
};
use crate::{
    operator::{Operator, apply, audit, change, closures, connection, kubelet::Volume, reason},
    support::{Space, text, wait_for, with_namespace},
};

fn report(newest: Timestamp, overdue: u64) -> Value {
    let at = Timestamp::now();
    json!({
        "written": {"backup": "20261129T003250Z-5f0c1a2b", "createdAt": newest, "expiresAt": newest + SignedDuration::from_hours(720),
                    "sequence": 7, "orders": 3, "bytes": 4_096},
        "listing": {"at": at, "backups": 12, "bytes": 49_152, "newest": newest, "oldest": newest - SignedDuration::from_hours(264),
                    "pruned": 1, "overdue": overdue, "foreign": 0},
    })
}

fn failure(reason: &str) -> Value {
    json!({"failure": {"reason": reason, "message": "the store has no room: make some"}})
}

/// A Job by hand that ends with this report.
async fn run(space: &Space, cron_job: &str, name: &str, report: &Value) -> Job {
    now(space, cron_job, name);
    let job = released(space, name).await;
    leave(space, &job, report).await;
    let failed = report["failure"].is_object().then_some("BackoffLimitExceeded");
    finish(space, name, failed).await;
    job
}

/// A backup by hand, with its report.
pub(in crate::operator) async fn run_ended(space: &Space, cron_job: &str, name: &str) {
    run(space, cron_job, name, &report(Timestamp::now() - SignedDuration::from_mins(5), 0)).await;
}

async fn looks(space: &Space, count: usize) {
    let before = audit::looks(space);
    wait_for(space, "looks", async || (audit::looks(space) >= before + count).then_some(())).await;
}

#[tokio::test]
async fn a_report_reaches_the_status_once_and_survives_its_job_and_a_restart() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        connect(&space, "bol", BOTH).await;
        cron_jobs(&space, "bol", &CRON_JOBS).await;
        reason(&space, "bol", "RelayStarting").await;
        let newest = Timestamp::now() - SignedDuration::from_mins(5);
        let job = run(&space, "bol-on-site", "now-1", &report(newest, 0)).await;
        let (_, status) = condition(&space, "bol", "BackedUpOnSite", "BackedUp").await;
        let backups = status.backups.expect("backups");
        assert_eq!(backups.newest, None, "the other site has none");
        let on_site = backups.on_site.expect("on-site");
        assert_eq!((on_site.count, on_site.bytes, on_site.sequence), (12, 49_152, Some(7)));
        assert_eq!(on_site.last_run.expect("a run").job, "now-1");
        run(&space, "bol-off-site", "now-2", &report(newest, 0)).await;
        condition(&space, "bol", "BackedUpOffSite", "BackedUp").await;
        let columns = text(&space.kubectl(&["get", "mconn", "bol"]));
        assert!(columns.lines().nth(1).is_some_and(|row| row.contains(" 5m")), "{columns}");

        looks(&space, 2).await;
        let before = audit::writes(&space).len();
        looks(&space, 3).await;
        assert_eq!(audit::writes(&space).split_off(before), Vec::<String>::new());
        operator.stop().await;
        space
            .api::<Job>()
            .delete(&job.name_any(), &kube::api::DeleteParams::background())
            .await
            .expect("deleted");
        let before = audit::writes(&space).len();
        let _operator = Operator::start(&space, CONFIG).await;
        looks(&space, 3).await;
        assert_eq!(audit::writes(&space).split_off(before), Vec::<String>::new());
        condition(&space, "bol", "BackedUpOnSite", "BackedUp").await;
    })
    .await;
}

#[tokio::test]
async fn a_job_that_ended_while_no_operator_ran_is_told_and_each_failure_has_its_reason() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        connect(&space, "bol", BOTH).await;
        cron_jobs(&space, "bol", &CRON_JOBS).await;
        reason(&space, "bol", "RelayStarting").await;
        now(&space, "bol-on-site", "now-1");
        let job = released(&space, "now-1").await;
        operator.stop().await;
        leave(&space, &job, &failure("StoreFull")).await;
        finish(&space, "now-1", Some("BackoffLimitExceeded")).await;
        let _operator = Operator::start(&space, CONFIG).await;
        let (message, _) = condition(&space, "bol", "BackedUpOnSite", "StoreFull").await;
        assert!(message.contains("make some"), "{message}");
        wait_for(&space, "it is told", async || {
            let events = space.api::<Event>().list(&ListParams::default()).await.expect("events");
            events.items.iter().any(|event| event.reason.as_deref() == Some("StoreFull")).then_some(())
        })
        .await;
        run(&space, "bol-on-site", "now-2", &failure("<script>")).await;
        condition(&space, "bol", "BackedUpOnSite", "BackupFailed").await;
        now(&space, "bol-on-site", "now-3");
        released(&space, "now-3").await;
        finish(&space, "now-3", Some("DeadlineExceeded")).await;
        condition(&space, "bol", "BackedUpOnSite", "BackupTimedOut").await;
        run(&space, "bol-on-site", "now-4", &report(Timestamp::now(), 0)).await;
        condition(&space, "bol", "BackedUpOnSite", "BackedUp").await;
        run(&space, "bol-on-prune", "now-5", &report(Timestamp::now(), 3)).await;
        let (message, _) = condition(&space, "bol", "RetentionEnforced", "BackupsOverdue").await;
        assert!(message.starts_with("3 backups"), "{message}");
    })
    .await;
}

/// Says of the relay's pod that it runs, as a kubelet does.
pub async fn relay_runs(space: &Space) {
    let pod = json!({"metadata": {"name": "bol-relay-0", "labels": {labels::MANAGED_BY: labels::OPERATOR,
            labels::COMPONENT: labels::RELAY, labels::CONNECTION: "bol"}},
        "spec": {"serviceAccountName": "bol-relay", "automountServiceAccountToken": false,
                 "containers": [{"name": "relay", "image": "registry.example/relay:1"}]}});
    apply::<k8s_openapi::api::core::v1::Pod>(space.api(), pod).await;
    let status = Patch::Merge(json!({"status": {"phase": "Running"}}));
    let pods = space.api::<k8s_openapi::api::core::v1::Pod>();
    pods.patch_status("bol-relay-0", &PatchParams::default(), &status).await.expect("a status");
}

#[tokio::test]
async fn the_first_backup_is_taken_at_once_when_the_relay_answers_and_only_once() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connect(&space, "bol", BOTH).await;
        cron_jobs(&space, "bol", &CRON_JOBS).await;
        reason(&space, "bol", "RelayStarting").await;
        looks(&space, 2).await;
        assert_eq!(jobs(&space).await, [], "there is nobody to give a snapshot");
        let volume = Volume::new();
        let pod = volume.start(&space, "bol").await;
        relay_runs(&space).await;
        wait_for(&space, "the relay's word", async || connection(&space, "bol").await.status?.relay).await;
        assert_eq!(jobs(&space).await, [], "it has nothing yet that a backup could be encrypted to");
        has_recipients(&space).await;
        pod.stop().await;
        let pod = volume.start(&space, "bol").await;
        let first = wait_for(&space, "a first Job for each site", async || {
            let found = jobs(&space).await;
            (found.len() == 2 && found.iter().any(|job| !is_suspended(job))).then_some(found)
        })
        .await;
        assert_eq!(first.iter().filter(|job| !is_suspended(job)).count(), 1, "one after the other");
        for _ in &first {
            let job = wait_for(&space, "one at work", async || {
                jobs(&space).await.into_iter().find(|job| !is_suspended(job) && !is_finished(job))
            })
            .await;
            assert_eq!(job.owner_references().len(), 1, "it goes with its CronJob");
            leave(&space, &job, &failure("NoBackupKey")).await;
            finish(&space, &job.name_any(), Some("BackoffLimitExceeded")).await;
        }
        condition(&space, "bol", "BackedUpOnSite", "NoBackupKey").await;
        condition(&space, "bol", "BackedUpOffSite", "NoBackupKey").await;
        change::<MarketplaceConnection>(&space, "bol", "{spec: {pollInterval: 2m}}").await;
        wait_for(&space, "a look", async || {
            let connection = connection(&space, "bol").await;
            (connection.status?.observed_generation == connection.metadata.generation).then_some(())
        })
        .await;
        assert_eq!(jobs(&space).await.len(), 2, "not again at once");
        pod.stop().await;
    })
    .await;
}

/// Waits until there is something that backups can be encrypted to, which a running relay has to have asked for.
pub(in crate::operator) async fn has_recipients(space: &Space) {
    wait_for(space, "recipients in the keyring", async || {
        let keyring = space.api::<Secret>().get("bol-keyring").await.ok()?;
        keyring.data?.keys().any(|name| name.starts_with("backup.")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn closing_an_account_takes_what_would_begin_a_backup_away_before_its_keys() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connect(&space, "bol", BOTH).await;
        cron_jobs(&space, "bol", &CRON_JOBS).await;
        reason(&space, "bol", "RelayStarting").await;
        now(&space, "bol-on-site", "now-1");
        released(&space, "now-1").await;
        let id = closures::confirm(&space, "bol").await;
        closures::stores::purged(&space, &id).await;
        closures::reaches(&space, &space, &id, marketrelay_api::record::RecordPhase::Closed).await;
        let deleted: Vec<_> =
            audit::writes(&space).into_iter().filter(|write| write.starts_with("delete ")).collect();
        let at = |what: &str| deleted.iter().position(|write| write.contains(what)).expect(what);
        for name in ["cronjobs.batch bol-on-site", "cronjobs.batch bol-off-prune", "jobs.batch now-1"] {
            assert!(at(name) < at("bol-keyring"), "{deleted:?}");
        }
        assert!(at("bol-backup-tls") > at("bol-keyring"), "{deleted:?}");
        let left: Vec<_> = jobs(&space).await.iter().map(ResourceExt::name_any).collect();
        assert_eq!(left, [format!("{id}-purge-0")]);
    })
    .await;
}
