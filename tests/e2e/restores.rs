//! A backup becomes the relay's database: by itself when the volume is lost, and on purpose.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    apps::v1::StatefulSet, batch::v1::Job, core::v1::PersistentVolumeClaim, events::v1::Event,
};
use kube::{ResourceExt, api::ListParams};
use marketrelay_api::{
    backup::Site,
    connection::{RestoreCause, RestoreStatus},
    relay::paths,
};
use serde_json::{Value, json};

use crate::{
    backups::{backed_up, connection, ids, told},
    cluster::{together, wait_for},
    erasure,
    tenant::{Tenant, with_tenant},
};

/// A schedule's minute, a Job's turn, a pod's start, on a busy machine.
const RUN: Duration = Duration::from_mins(4);
/// A relay's end, a Job's pod, a relay's start, on a busy machine.
const RESTORED: Duration = Duration::from_mins(6);

/// With backups every minute that are kept for longer than a test.
pub fn with_backups(tenant: &Tenant, sites: &[Site]) -> Value {
    let connection = connection(tenant, sites);
    tenant.apply(&policy());
    connection
}

/// The policy of those.
pub fn policy() -> Value {
    json!({
        "apiVersion": "marketrelay.dev/v1alpha1", "kind": "RetentionPolicy", "metadata": {"name": "minutes"},
        "spec": {"anonymizeAfter": "3h", "amazon": {"anonymizeAfter": "3h"}, "deleteAfterShipment": "2h",
                 "backupRetention": "1h", "keyEpoch": "5m"},
    })
}

/// Waits for a backup that was taken after now.
pub async fn newer_backup(tenant: &Tenant, site: Site) {
    let now = Timestamp::now();
    wait_for(&format!("{}: a newer backup {site}", tenant.name), RUN, async || {
        let told = told(tenant, site).await?;
        let is_newer = told.last_success.as_ref().is_some_and(|at| at.0 > now);
        if is_newer { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
}

/// Waits until no Job is left that could take another backup.
pub async fn jobs_have_ended(tenant: &Tenant) {
    wait_for(&format!("{}: no Job is at work", tenant.name), RUN, async || {
        let jobs =
            tenant.api::<Job>().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let has_ended = |job: &Job| {
            let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|one| ["Complete", "Failed"].contains(&one.type_.as_str()))
        };
        let left: Vec<_> =
            jobs.items.iter().filter(|job| !has_ended(job)).map(ResourceExt::name_any).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

async fn restore(tenant: &Tenant) -> Result<RestoreStatus, String> {
    let status = tenant.get("bol").await?.status.unwrap_or_default();
    status.restore.ok_or_else(|| format!("nothing is told of a restore: {:?}", status.conditions))
}

/// Waits for the end of a restore that began after `since`.
pub async fn restored(tenant: &Tenant, since: Timestamp) -> RestoreStatus {
    wait_for(&format!("{}: a backup is restored", tenant.name), RESTORED, async || {
        let restore = restore(tenant).await?;
        let is_over = restore.finished_at.as_ref().is_some_and(|at| at.0 >= since);
        if is_over { Ok(restore) } else { Err(format!("{restore:?}")) }
    })
    .await
}

/// Waits until the relay's metrics have so many orders with personal data.
pub async fn holds(tenant: &Tenant, orders: u32) {
    let line = format!("marketrelay_relay_stored{{what=\"with_pii\"}} {orders}");
    wait_for(&format!("{}: {line}", tenant.name), RUN, async || {
        let metrics = tenant.metrics("bol")?;
        let figures: Vec<_> = metrics.lines().filter(|line| line.contains("_stored{")).collect();
        if figures.contains(&line.as_str()) { Ok(()) } else { Err(format!("{figures:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_lost_volume_is_restored_and_who_was_erased_since_the_backup_stays_so() {
    let _together = together().await;
    with_tenant("lostvolume", |tenant| async move {
        tenant.seller("bol", 3).await;
        let mut connection = with_backups(&tenant, &Site::ALL);
        tenant.apply(&connection);
        tenant.all_arrived("bol").await;
        erasure::order_of_zoe(&tenant, "bol", 2).await;
        tenant.all_arrived("bol").await;
        for site in Site::ALL {
            newer_backup(&tenant, site).await;
        }
        connection["spec"]["backup"]["suspend"] = json!(true);
        tenant.apply(&connection);
        tenant.condition("bol", "BackedUpOnSite", "False", Some("BackupsSuspended")).await;
        jobs_have_ended(&tenant).await;
        erasure::ask(&tenant);
        let request = erasure::reason(&tenant, "Erased").await;
        assert_eq!(
            (request.erased, request.digests.is_empty()),
            (Some(2), false),
            "a restore erases once more"
        );
        erasure::told(&tenant, 2).await;

        let since = Timestamp::now();
        lose_volume(&tenant).await;
        tenant.condition("bol", "Ready", "False", Some("Restoring")).await;
        tenant.order("bol", 1).await;
        let restore = restored(&tenant, since).await;
        assert_eq!((restore.cause, restore.failures), (RestoreCause::VolumeEmpty, 0), "{restore:?}");
        let backup = restore.restored.expect("a backup");
        assert_eq!((backup.erased, backup.passed_over.len()), (2, 0), "{backup:?}");
        tenant.all_arrived("bol").await;
        holds(&tenant, 4).await;
        tenant.condition("bol", "AuditIntact", "True", None).await;
        connection["spec"]["backup"]["suspend"] = json!(false);
        tenant.apply(&connection);
        for site in Site::ALL {
            newer_backup(&tenant, site).await;
        }
        tenant.ready("bol").await;
        said(&tenant, "Restored").await;
        // Nothing of the first restore holds the claim.
        let since = Timestamp::now();
        lose_volume(&tenant).await;
        restored(&tenant, since).await;
        tenant.ready("bol").await;
        // The relay notices for itself that its files are gone.
        let since = Timestamp::now();
        empty(&volume(&tenant).await);
        restored(&tenant, since).await;
        tenant.ready("bol").await;
        tenant.order("bol", 1).await;
        tenant.all_arrived("bol").await;
        tenant.summary().await;
    })
    .await;
}

fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a volume") {
        let path = entry.expect("a file").path();
        if path.is_file() {
            fs::remove_file(path).expect("removed");
        }
    }
}

/// The claim and what is in it, while the relay runs.
async fn lose_volume(tenant: &Tenant) {
    let claims = tenant.api::<PersistentVolumeClaim>();
    let uid = claims.get("bol-data").await.expect("a claim").uid();
    tenant.kubectl(&["delete", "persistentvolumeclaim", "bol-data", "--wait=false"]).expect("deleted");
    tenant.kubectl(&["delete", "pod", "bol-relay-0", "--wait=false"]).expect("deleted");
    wait_for(&format!("{}: another volume", tenant.name), RUN, async || {
        let claim = claims.get_opt("bol-data").await.map_err(|error| error.to_string())?;
        let is_new = claim.as_ref().is_some_and(|claim| claim.uid() != uid);
        if is_new { Ok(()) } else { Err("the old claim is there".to_owned()) }
    })
    .await;
}

async fn said(tenant: &Tenant, reason: &str) {
    wait_for(&format!("{}: an event {reason}", tenant.name), RUN, async || {
        let events = tenant.api::<Event>().list(&ListParams::default()).await;
        let events = events.map_err(|error| error.to_string())?.items;
        let told = events.iter().any(|event| event.reason.as_deref() == Some(reason));
        if told { Ok(()) } else { Err(format!("{} others", events.len())) }
    })
    .await;
}

/// Where the relay's process sees its volume.
async fn volume(tenant: &Tenant) -> PathBuf {
    let process = tenant.relay_process("bol").await;
    PathBuf::from(format!("/proc/{process}/root{}", paths::DATA))
}

#[tokio::test]
async fn a_backup_is_restored_on_purpose_and_until_that_works_nothing_is_lost() {
    let _together = together().await;
    with_tenant("onpurpose", |tenant| async move {
        tenant.seller("bol", 2).await;
        let mut connection = with_backups(&tenant, &[Site::OnSite]);
        tenant.apply(&connection);
        tenant.all_arrived("bol").await;
        backed_up(&tenant, Site::OnSite).await;
        newer_backup(&tenant, Site::OnSite).await;
        let first = ids(&tenant, Site::OnSite).pop().expect("a backup");
        tenant.order("bol", 3).await;
        tenant.all_arrived("bol").await;
        let status = tenant.get("bol").await.expect("a connection").status.unwrap_or_default();
        let id = status.connection_id.expect("an id");

        connection["spec"]["restore"] = json!({"backup": first, "confirm": "another"});
        let refusal = tenant.try_apply(&connection).expect_err("refused");
        assert!(refusal.contains("spec.restore.confirm must be the id of this connection"), "{refusal}");
        connection["spec"]["restore"] = json!({"backup": "20200101T000000Z-00000000", "confirm": id});
        tenant.apply(&connection);
        let message = tenant.condition("bol", "Ready", "False", Some("RestoreFailed")).await;
        assert!(message.contains("BackupNotFound") && message.contains(&first), "{message}");
        // Its own database was never touched: it goes on, and the message stays until something else is asked for.
        tenant.condition("bol", "Collecting", "True", None).await;
        let set = tenant.api::<StatefulSet>().get("bol-relay").await.expect("a StatefulSet");
        assert_eq!(set.spec.and_then(|spec| spec.replicas), Some(1));
        tenant.order("bol", 1).await;
        tenant.all_arrived("bol").await;
        tenant.condition("bol", "Ready", "False", Some("RestoreFailed")).await;

        let since = Timestamp::now();
        connection["spec"]["restore"] = json!({"backup": first, "confirm": id});
        tenant.apply(&connection);
        let restore = restored(&tenant, since).await;
        assert_eq!(restore.cause, RestoreCause::Asked);
        let backup = restore.restored.expect("a backup");
        assert_eq!((backup.backup.as_str(), backup.orders), (first.as_str(), 2), "{backup:?}");
        tenant.ready("bol").await;
        holds(&tenant, 6).await;
        tenant.condition("bol", "AuditIntact", "True", None).await;
        let volume = volume(&tenant).await;
        wait_for("the database before it is gone", RUN, async || {
            if volume.join("replaced.db").exists() { Err("it is there".to_owned()) } else { Ok(()) }
        })
        .await;
        assert!(volume.join("marketrelay.db").exists());
        tenant.summary().await;
    })
    .await;
}

/// Waits until the hold is held and each store has an archive of so many orders of it.
async fn is_archived(tenant: &Tenant, orders: i64) {
    wait_for(&format!("{}: {orders} orders are held and archived", tenant.name), RUN, async || {
        let status = tenant.get("bol").await?.status.unwrap_or_default();
        let is_held = status.conditions.iter().any(|one| one.type_ == "Held" && one.reason == "Held");
        let backups = status.backups.as_ref();
        let has_archive = |site: &Site| {
            let archives = backups.and_then(|backups| backups.site(*site)).map(|known| &known.archives[..]);
            archives.is_some_and(|all| all.iter().any(|one| one.hold == "tax" && one.orders == orders))
        };
        if is_held && Site::ALL.iter().all(has_archive) {
            return Ok(());
        }
        Err(format!("{:?} {:?} {backups:?}", status.holds, status.conditions))
    })
    .await;
}

/// The orders that the hold keeps, as a person with access to the pod is shown them.
fn read_held(tenant: &Tenant) -> usize {
    let words = ["exec", "bol-relay-0", "--", "/marketrelay-relay", "held", "--hold", "tax"];
    tenant.kubectl(&words).expect("held orders").lines().count()
}

#[tokio::test]
async fn what_a_hold_keeps_is_there_after_a_restore_of_a_backup_that_is_older_than_the_hold() {
    let _together = together().await;
    with_tenant("heldback", |tenant| async move {
        tenant.seller("bol", 2).await;
        let mut connection = with_backups(&tenant, &Site::ALL);
        let mut policy = policy();
        // What would expire before the next Job has its turn is pruned at once.
        policy["spec"]["backupRetention"] = json!("2h");
        tenant.apply(&policy);
        tenant.apply(&connection);
        tenant.all_arrived("bol").await;
        for site in Site::ALL {
            newer_backup(&tenant, site).await;
        }
        let before = ids(&tenant, Site::OnSite).pop().expect("a backup");
        let now = Timestamp::from_second(Timestamp::now().as_second()).expect("in range");
        let day = SignedDuration::from_hours(24);
        policy["spec"]["holds"] = json!([{
            "name": "tax", "reason": "AO 147, decided by the controller",
            "placed": {"from": (now - day).to_string(), "to": (now + day).to_string()}, "until": (now + day).to_string(),
        }]);
        tenant.apply(&policy);
        is_archived(&tenant, 2).await;
        tenant.order("bol", 1).await;
        tenant.all_arrived("bol").await;
        is_archived(&tenant, 3).await;
        assert_eq!(read_held(&tenant), 3);

        let status = tenant.get("bol").await.expect("a connection").status.unwrap_or_default();
        let since = Timestamp::now();
        connection["spec"]["restore"] = json!({"backup": before, "confirm": status.connection_id});
        tenant.apply(&connection);
        let backup = restored(&tenant, since).await.restored.expect("a backup");
        assert_eq!((backup.backup.as_str(), backup.held), (before.as_str(), 3), "{backup:?}");
        assert_eq!(backup.passed_over, Vec::<String>::new());
        tenant.ready("bol").await;
        is_archived(&tenant, 3).await;
        assert_eq!(read_held(&tenant), 3);
        tenant.condition("bol", "AuditIntact", "True", None).await;
        tenant.summary().await;
    })
    .await;
}
