//! The newest backup of each site is restored and checked, and one that can't be is told.

use std::{fs, time::Duration};

use marketrelay_api::{backup::Site, connection::DrilledBackup};
use serde_json::json;

use crate::{
    backups::{connection, files, ids, told},
    cluster::{together, wait_for},
    tenant::{Tenant, with_tenant},
};

/// A first backup that came before its key is tried again after 5 minutes; two Jobs' turns, on a busy machine.
const RUN: Duration = Duration::from_mins(9);

async fn drilled(tenant: &Tenant, site: Site) -> DrilledBackup {
    wait_for(&format!("{}: a drill {site}", tenant.name), RUN, async || {
        let told = told(tenant, site).await?;
        told.drilled.clone().ok_or_else(|| format!("{told:?}"))
    })
    .await
}

/// Writes a byte into the middle of the newest backup's data.
fn damage(tenant: &Tenant, site: Site) {
    let newest = ids(tenant, site).pop().expect("a backup");
    let is_data = |path: &std::path::PathBuf| path.ends_with(format!("{newest}/data"));
    let path = files(tenant, site).into_iter().find(is_data).expect("its data");
    let mut bytes = fs::read(&path).expect("data");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("written");
}

#[tokio::test]
async fn drills_prove_each_sites_newest_backup_and_tell_of_one_that_is_damaged() {
    let _together = together().await;
    with_tenant("drills", |tenant| async move {
        tenant.seller("bol", 3).await;
        let mut connection = connection(&tenant, &Site::ALL);
        tenant.apply(&json!({
            "apiVersion": "marketrelay.dev/v1alpha1", "kind": "RetentionPolicy", "metadata": {"name": "minutes"},
            "spec": {"anonymizeAfter": "3h", "amazon": {"anonymizeAfter": "3h"}, "deleteAfterShipment": "2h",
                     "backupRetention": "1h", "keyEpoch": "5m"},
        }));
        connection["spec"]["backup"]["schedule"] = json!("*/30 * * * *");
        tenant.apply(&connection);
        tenant.all_arrived("bol").await;
        for site in Site::ALL {
            let drilled = drilled(&tenant, site).await;
            assert!(ids(&tenant, site).contains(&drilled.backup), "{drilled:?}");
            assert!(drilled.age_seconds < 600 && drilled.seconds < 120, "{drilled:?}");
        }
        for kind in ["DrilledOnSite", "DrilledOffSite", "Ready"] {
            tenant.condition("bol", kind, "True", None).await;
        }
        damage(&tenant, Site::OffSite);
        tenant.kubectl(&["create", "job", "--from=cronjob/bol-off-drill", "now-1"]).expect("a Job");
        let message = tenant.condition("bol", "DrilledOffSite", "False", Some("DrillFailed")).await;
        assert!(message.contains("BackupDamaged"), "{message}");
        tenant.condition("bol", "Ready", "False", Some("DrillFailed")).await;
        tenant.condition("bol", "DrilledOnSite", "True", None).await;
        let damaged = ids(&tenant, Site::OffSite);
        tenant.kubectl(&["create", "job", "--from=cronjob/bol-off-site", "now-2"]).expect("a Job");
        wait_for("another backup", RUN, async || {
            let ids = ids(&tenant, Site::OffSite);
            if ids.iter().any(|id| !damaged.contains(id)) { Ok(()) } else { Err(format!("{ids:?}")) }
        })
        .await;
        tenant.condition("bol", "BackedUpOffSite", "True", None).await;
        tenant.kubectl(&["create", "job", "--from=cronjob/bol-off-drill", "now-3"]).expect("a Job");
        tenant.condition("bol", "DrilledOffSite", "True", None).await;
        tenant.ready("bol").await;
    })
    .await;
}
