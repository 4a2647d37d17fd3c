use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Secret, ServiceAccount},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use marketrelay_api::{MarketplaceConnection, backup::JobConfig, relay::RelayConfig};
use serde_json::json;

use super::{BOTH, CONFIG, CRON_JOBS, condition, connect, cron_jobs, furnish_stores};
use crate::{
    operator::{Operator, apply, audit, change, children::api, delete, identity, reason},
    support::{Space, wait_for, with_namespace},
};

async fn config(space: &Space, entry: &str) -> Option<JobConfig> {
    let map = space.api::<ConfigMap>().get("bol-backup").await.expect("a configuration");
    let text = map.data.expect("entries").remove(entry)?;
    Some(serde_yaml::from_str(&text).expect("a Job's"))
}

async fn backup_retention(space: &Space) -> Option<i64> {
    let map = space.api::<ConfigMap>().get("bol-relay").await.expect("a configuration");
    let config: RelayConfig =
        serde_yaml::from_str(&map.data.expect("entries")["relay.yaml"]).expect("the relay's");
    config.retention.backup_retention_seconds
}

const SHARED: [(&str, &str, &str); 4] = [
    ("ConfigMap", "v1", "bol-backup"),
    ("ServiceAccount", "v1", "bol-backup"),
    ("NetworkPolicy", "networking.k8s.io/v1", "bol-backup"),
    ("Secret", "v1", "bol-backup-tls"),
];

async fn shared(space: &Space) -> usize {
    let mut found = 0;
    for (kind, version, name) in SHARED {
        let api: Api<DynamicObject> = api(space, kind, version);
        found += usize::from(api.get_opt(name).await.expect("an answer").is_some());
    }
    found
}

#[tokio::test]
async fn what_takes_backups_comes_and_goes_with_the_spec() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connect(&space, "bol", BOTH).await;
        cron_jobs(&space, "bol", &CRON_JOBS).await;
        reason(&space, "bol", "RelayStarting").await;
        assert_eq!(shared(&space).await, SHARED.len());
        let on_site = config(&space, "on-site.yaml").await.expect("on-site");
        let id = identity(&space, "bol").await;
        assert_eq!(on_site.store.prefix, format!("relays/{id}"));
        assert_eq!(on_site.relay.to_string(), format!("https://bol-relay.{}.svc:9443/", space.name));
        assert_eq!(on_site.backup_retention_seconds, 30 * 86_400);
        let off_site = config(&space, "off-site.yaml").await.expect("off-site");
        assert_eq!((off_site.store.prefix, off_site.store.endpoint), (id, None));
        assert_eq!(backup_retention(&space).await, Some(30 * 86_400));

        change::<MarketplaceConnection>(&space, "bol", "{spec: {backup: {suspend: true}}}").await;
        condition(&space, "bol", "BackedUpOnSite", "BackupsSuspended").await;
        let found = cron_jobs(&space, "bol", &CRON_JOBS).await;
        let suspended: Vec<_> =
            found.values().map(|one| one.spec.as_ref().and_then(|spec| spec.suspend)).collect();
        assert_eq!(suspended, [Some(false), Some(true), Some(false), Some(true)], "pruning goes on");

        change::<MarketplaceConnection>(&space, "bol", "{spec: {backup: {suspend: false, offSite: null}}}")
            .await;
        cron_jobs(&space, "bol", &CRON_JOBS[2..]).await;
        wait_for(&space, "the other site's configuration goes", async || {
            config(&space, "off-site.yaml").await.is_none().then_some(())
        })
        .await;
        assert!(config(&space, "on-site.yaml").await.is_some());

        change::<MarketplaceConnection>(&space, "bol", "{spec: {backup: null}}").await;
        cron_jobs(&space, "bol", &[]).await;
        wait_for(&space, "everything goes", async || (shared(&space).await == 0).then_some(())).await;
        wait_for(&space, "no trace", async || {
            let status = space.api::<MarketplaceConnection>().get("bol").await.expect("it").status?;
            let told = status.conditions.iter().any(|condition| condition.type_.starts_with("BackedUp"));
            (status.backups.is_none() && !told).then_some(())
        })
        .await;
        assert_eq!(backup_retention(&space).await, None);
    })
    .await;
}

#[tokio::test]
async fn the_longest_name_has_room_for_what_takes_its_backups() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        let name = "a234567890123456789012345678901234567890";
        connect(&space, name, BOTH).await;
        cron_jobs(&space, name, &CRON_JOBS).await;
    })
    .await;
}

/// Schedules that the rule lets through; whether Kubernetes takes them is its own word.
const SCHEDULES: [&str; 8] = [
    "H H * * *",
    "*/5 * * * *",
    "0,30 1-5/2 1-15,31 * *",
    "59 23 31 1-12/3 sun,mon-sat",
    "7 H * JAN-dec Mon-Fri/2",
    "H 0-23 H H H",
    "00 09 * * 0-6",
    "H */6 */2 * 1,3",
];

#[tokio::test]
async fn a_schedule_that_is_accepted_is_accepted_by_kubernetes_too() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        for (number, schedule) in SCHEDULES.into_iter().enumerate() {
            let zone = if number % 2 == 0 { "Etc/UTC" } else { "Europe/Amsterdam" };
            let on_site = "onSite: {s3: {credentialsSecretRef: {name: onsite-s3}}}";
            let backup = format!("{{schedule: '{schedule}', timeZone: {zone}, {on_site}}}");
            connect(&space, &format!("c{number}"), &backup).await;
        }
        for (number, schedule) in SCHEDULES.into_iter().enumerate() {
            // Rarer than backups are kept.
            if schedule.starts_with("59") || schedule.ends_with("H H H") {
                condition(&space, &format!("c{number}"), "BackedUpOnSite", "InvalidSpec").await;
            } else {
                cron_jobs(&space, &format!("c{number}"), &CRON_JOBS[2..]).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_stands_in_the_way_of_backups_keeps_the_relay_and_the_other_site() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        delete::<Secret>(&space, "offsite-s3").await;
        let _operator = Operator::start(&space, CONFIG).await;
        connect(&space, "bol", BOTH).await;
        cron_jobs(&space, "bol", &CRON_JOBS[2..]).await;
        let (message, _) = condition(&space, "bol", "BackedUpOffSite", "SecretNotFound").await;
        assert!(message.contains("spec.backup.offSite.s3.credentialsSecretRef"), "{message}");
        reason(&space, "bol", "RelayStarting").await;
        assert!(space.api::<StatefulSet>().get_opt("bol-relay").await.expect("an answer").is_some());
        apply::<Secret>(
            space.api(),
            json!({"metadata": {"name": "offsite-s3"}, "stringData": {"accessKeyId": "a"}}),
        )
        .await;
        let (message, _) = condition(&space, "bol", "BackedUpOffSite", "SecretIncomplete").await;
        assert!(message.contains("secretAccessKey"), "{message}");
        change::<Secret>(&space, "offsite-s3", "{stringData: {secretAccessKey: b}}").await;
        cron_jobs(&space, "bol", &CRON_JOBS).await;
        condition(&space, "bol", "BackedUpOffSite", "FirstRun").await;

        delete::<Secret>(&space, "onsite-s3").await;
        condition(&space, "bol", "BackedUpOnSite", "SecretNotFound").await;
        let before = audit::writes(&space).len();
        change::<MarketplaceConnection>(&space, "bol", "{spec: {backup: {schedule: '0 3 * * *'}}}").await;
        wait_for(&space, "the other site follows", async || {
            let found = cron_jobs(&space, "bol", &CRON_JOBS).await;
            let schedule =
                |name: &str| found[name].spec.as_ref().map(|spec| spec.schedule.clone()).expect("a schedule");
            assert_ne!(schedule("bol-on-site"), "0 3 * * *", "what can't be carried out stays as it is");
            (schedule("bol-off-site") == "0 3 * * *").then_some(())
        })
        .await;
        let writes = audit::writes(&space).split_off(before);
        assert!(writes.iter().all(|write| !write.starts_with("delete")), "{writes:?}");
    })
    .await;
}

/// A CronJob of somebody else under the name of ours.
pub async fn take_name(space: &Space, connection: &str) {
    let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b"}]}});
    let foreign = json!({"metadata": {"name": format!("{connection}-on-site")},
        "spec": {"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": pod}}}});
    let foreign: DynamicObject = serde_json::from_value(foreign).expect("an object");
    api(space, "CronJob", "batch/v1").create(&PostParams::default(), &foreign).await.expect("a CronJob");
    connect(space, connection, BOTH).await;
    condition(space, connection, "BackedUpOnSite", "NameConflict").await;
}

#[tokio::test]
async fn an_object_of_somebody_else_is_named_and_neither_changed_nor_deleted() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let secret = json!({"metadata": {"name": "mine-backup-tls"}, "stringData": {"theirs": "1"}});
        apply::<Secret>(space.api(), secret).await;
        let _operator = Operator::start(&space, CONFIG).await;
        take_name(&space, "bol").await;
        let found = api(&space, "CronJob", "batch/v1").get("bol-on-site").await.expect("it is still there");
        assert_eq!(found.data["spec"]["schedule"], "0 0 * * *");
        reason(&space, "bol", "RelayStarting").await;
        change::<MarketplaceConnection>(&space, "bol", "{spec: {backup: null}}").await;
        wait_for(&space, "ours go", async || (shared(&space).await == 0).then_some(())).await;
        api(&space, "CronJob", "batch/v1").get("bol-on-site").await.expect("it is still there");
        connect(&space, "mine", BOTH).await;
        let (message, _) = condition(&space, "mine", "BackedUpOnSite", "NameConflict").await;
        assert!(message.contains("mine-backup-tls"), "{message}");
        change::<MarketplaceConnection>(&space, "mine", "{spec: {backup: null}}").await;
        wait_for(&space, "ours go", async || {
            let gone =
                space.api::<ServiceAccount>().get_opt("mine-backup").await.expect("an answer").is_none();
            gone.then_some(())
        })
        .await;
        space.api::<Secret>().get("mine-backup-tls").await.expect("it is still there");
    })
    .await;
}

#[tokio::test]
async fn drift_of_what_takes_backups_is_repaired() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connect(&space, "bol", BOTH).await;
        let before = cron_jobs(&space, "bol", &CRON_JOBS).await.remove("bol-on-site").expect("a CronJob");
        let drift = json!({"spec": {"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": {"suspend": false}}}});
        let cron_jobs = space.api::<k8s_openapi::api::batch::v1::CronJob>();
        cron_jobs.patch("bol-on-site", &PatchParams::default(), &Patch::Merge(drift)).await.expect("drift");
        wait_for(&space, "it is as before", async || {
            let now = cron_jobs.get("bol-on-site").await.expect("a CronJob");
            (now.spec == before.spec).then_some(())
        })
        .await;
        delete::<NetworkPolicy>(&space, "bol-backup").await;
        wait_for(&space, "it is made anew", async || {
            space.api::<NetworkPolicy>().get_opt("bol-backup").await.expect("an answer")
        })
        .await;
        assert_eq!(before.owner_references().len(), 1, "it goes with its connection");
    })
    .await;
}
