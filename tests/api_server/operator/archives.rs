//! A hold is held once each store of backups has its archive, and a Job is made for one that is missing.

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Secret},
};
use kube::ResourceExt;
use marketrelay_api::{
    MarketplaceConnection,
    hold::{HoldState, HoldStatus},
};
use marketrelay_keyring::Keyring;
use serde_json::{Value, json};

use super::{
    Operator,
    backups::{
        BOTH, CONFIG, CRON_JOBS, cron_jobs, finish, furnish_stores, is_finished, is_suspended, jobs, leave,
        relay_runs,
    },
    change, connection,
    erasures::World,
    holds::{held, policy, refer},
    kubelet::Volume,
};
use crate::support::{Space, wait_for, with_namespace};

/// The hold's id, once the keyring has its key.
async fn hold(space: &Space) -> String {
    wait_for(space, "the hold's key", async || {
        let secret = space.api::<Secret>().get("bol-keyring").await.ok()?.data?;
        let entries = secret.iter().map(|(name, bytes)| (name.as_str(), bytes.0.as_slice()));
        let keyring = Keyring::from_entries(entries).expect("a keyring");
        keyring.holds().next().map(|(_, id)| id.to_string())
    })
    .await
}

fn report(archives: &Value) -> Value {
    let now = Timestamp::now();
    json!({
        "written": {"backup": "20261129T003250Z-5f0c1a2b", "createdAt": now, "expiresAt": now, "sequence": 7, "orders": 3,
                    "bytes": 4_096},
        "archives": archives,
        "listing": {"at": now, "backups": 1, "archives": archives.as_array().map_or(0, Vec::len), "bytes": 4_096,
                    "newest": now, "oldest": now, "pruned": 0, "overdue": 0, "foreign": 0},
    })
}

/// Has the released Jobs end, backups with this report, until one of each of these names has.
async fn work_off(space: &Space, names: [&str; 2], archives: &Value) -> Vec<Job> {
    wait_for(space, &format!("Jobs {names:?}"), async || {
        for job in jobs(space).await {
            if is_suspended(&job) || is_finished(&job) {
                continue;
            }
            let name = job.name_any();
            let is_backup = names.iter().any(|wanted| name.starts_with(wanted));
            if is_backup {
                leave(space, &job, &report(archives)).await;
            }
            finish(space, &name, (!is_backup).then_some("BackoffLimitExceeded")).await;
        }
        let all = jobs(space).await;
        let ended =
            |name: &str| all.iter().find(|job| is_finished(job) && job.name_any().starts_with(name)).cloned();
        Some(vec![ended(names[0])?, ended(names[1])?])
    })
    .await
}

#[tokio::test]
async fn a_hold_waits_for_its_archive_in_each_store_and_a_job_is_made_for_it_at_once() {
    with_namespace(|space| async move {
        let (world, _operator) = start(&space).await;
        let volume = Volume::new();
        let pod = volume.start(&space, "bol").await;
        relay_runs(&space).await;
        wait_for(&space, "recipients in the keyring", async || {
            let keyring = space.api::<Secret>().get("bol-keyring").await.ok()?;
            keyring.data?.keys().any(|name| name.starts_with("backup.")).then_some(())
        })
        .await;
        pod.stop().await;
        let pod = volume.start(&space, "bol").await;
        world.arrived(&space, 3).await;
        work_off(&space, ["bol-on-site-f", "bol-off-site-f"], &json!([])).await;

        policy(&space, Timestamp::from_second(Timestamp::now().as_second() + 86_400).expect("in range")).await;
        refer(&space, "bol").await;
        let id = hold(&space).await;
        wait_for(&space, "the relay's configuration", async || {
            let map = space.api::<ConfigMap>().get("bol-relay").await.ok()?;
            map.data?.get("relay.yaml").filter(|file| file.contains("holds:")).map(drop)
        })
        .await;
        pod.stop().await;
        let pod = volume.start(&space, "bol").await;
        let (message, holds) = held(&space, "bol", "HoldNotArchived").await;
        assert!(message.contains("off-site and on-site"), "{message}");
        assert_eq!(states(&holds), [HoldState::Pending]);
        let config = space.api::<ConfigMap>().get("bol-backup").await.expect("the Jobs' configuration");
        let config = config.data.and_then(|mut data| data.remove("on-site.yaml")).expect("an entry");
        assert!(config.contains(&id) && config.contains("archive: true"), "{config}");

        let archives = json!([{"hold": id, "backup": "20261129T003250Z-5f0c1a2c", "createdAt": Timestamp::now(),
                               "revision": 9_000_000_000_000_u64, "orders": 3}]);
        let made = work_off(&space, ["bol-on-site-h", "bol-off-site-h"], &archives).await;
        assert!(made.iter().all(|job| job.owner_references().len() == 1), "they go with their CronJobs");
        let (message, holds) = held(&space, "bol", "Held").await;
        assert!(message.contains("has an archive of it"), "{message}");
        assert_eq!(states(&holds), [HoldState::Held]);
        let backups = connection(&space, "bol").await.status.and_then(|status| status.backups);
        let on_site = backups.and_then(|backups| backups.on_site).expect("on-site");
        let told: Vec<_> = on_site.archives.iter().map(|archive| (archive.hold.as_str(), archive.orders)).collect();
        assert_eq!(told, [("tax", 3)]);
        pod.stop().await;
    })
    .await;
}

fn states(holds: &[HoldStatus]) -> Vec<HoldState> {
    holds.iter().map(|hold| hold.state).collect()
}

/// With a connection that collects three orders and has stores of backups.
async fn start(space: &Space) -> (World, Operator) {
    let world = World::start().await;
    furnish_stores(space).await;
    let mut config: Value = serde_json::from_str(&world.config()).expect("JSON");
    let stores: Value = serde_yaml::from_str(CONFIG).expect("YAML");
    config["backup"] = stores["backup"].clone();
    let operator = Operator::start(space, &config.to_string()).await;
    world.order(3, "zoe@nachtigall.example").await;
    world.connect(space, "bol").await;
    change::<MarketplaceConnection>(space, "bol", &format!("{{spec: {{backup: {BOTH}}}}}")).await;
    cron_jobs(space, "bol", &CRON_JOBS).await;
    (world, operator)
}
