//! A database that gives way is kept, and what was erased in it stays erased.

use std::fs;

use marketrelay_api::backup::{Choice, Site};

use crate::{restoring_volume::begin_relay, tenant::Tenant};

/// A backup with A1 and A2; since then A1 was erased and A3 came.
async fn changed() -> Tenant {
    let mut tenant = Tenant::start().await;
    tenant.collect(&["A1", "A2"]).await;
    tenant.back_up(Site::OnSite).await;
    tenant.erase("case-1", "A1").await;
    tenant.collect(&["A3"]).await;
    begin_relay(&tenant).await;
    tenant.config.replace = true;
    tenant
}

/// That is the volume's database now.
async fn is_restored(tenant: &Tenant) {
    assert_eq!(tenant.names(), ["marketrelay.db", "replaced.db"]);
    assert!(!tenant.has("A1").await && tenant.has("A2").await && !tenant.has("A3").await);
}

/// The database that gave way, in the place of the other.
async fn was_kept(tenant: &Tenant) {
    fs::rename(tenant.file("replaced.db"), tenant.file("marketrelay.db")).expect("renamed");
    assert!(!tenant.has("A1").await && tenant.has("A2").await && tenant.has("A3").await);
}

#[tokio::test]
async fn the_replaced_database_is_kept_and_what_was_erased_in_it_is_erased_again() {
    let tenant = changed().await;
    let restored = tenant.restore().await;
    assert_eq!((restored.orders, restored.erased), (1, 1));
    assert!(restored.passed_over.is_empty(), "{restored:?}");
    is_restored(&tenant).await;
    was_kept(&tenant).await;
}

#[tokio::test]
async fn a_job_that_runs_again_after_its_success_does_not_replace_the_restored_one() {
    let tenant = changed().await;
    let restored = tenant.restore().await;
    let before = tenant.files();
    assert_eq!(tenant.restore().await, restored);
    let after = tenant.files();
    for name in ["marketrelay.db", "replaced.db"] {
        assert!(after.get(name) == before.get(name), "{name}");
    }
    is_restored(&tenant).await;
}

#[tokio::test]
async fn killed_before_or_between_the_renames_it_ends_right_and_the_old_database_is_there() {
    let tenant = changed().await;
    fs::write(tenant.file("restored.db"), "whatever it was").expect("written");
    assert_eq!(tenant.restore().await.erased, 1);
    is_restored(&tenant).await;
    // Back to what a kill between the renames leaves.
    fs::rename(tenant.file("marketrelay.db"), tenant.file("restored.db")).expect("renamed");
    let kept = tenant.files().remove("replaced.db");
    let restored = tenant.restore().await;
    assert_eq!((restored.orders, restored.erased), (1, 1), "by the journal of the one that gave way");
    assert_eq!(tenant.files().remove("replaced.db"), kept);
    is_restored(&tenant).await;
    was_kept(&tenant).await;
}

#[tokio::test]
async fn a_database_that_can_not_be_opened_is_kept_as_it_is_with_its_log() {
    let tenant = changed().await;
    fs::write(tenant.file("marketrelay.db"), [7; 8192]).expect("written");
    fs::write(tenant.file("marketrelay.db-wal"), "its log").expect("written");
    let restored = tenant.restore().await;
    assert_eq!((restored.orders, restored.erased), (2, 0));
    assert!(restored.passed_over[0].contains("marketrelay.db"), "{restored:?}");
    assert_eq!(fs::read(tenant.file("replaced.db")).expect("a file"), [7; 8192]);
    assert!(!tenant.file("marketrelay.db-wal").exists());
    assert!(tenant.has("A1").await && tenant.has("A2").await);
}

#[tokio::test]
async fn a_log_that_was_moved_before_a_kill_is_with_its_database_again() {
    let mut tenant = changed().await;
    tenant.config.replace = false;
    fs::write(tenant.file("replaced.db-wal"), "its log").expect("written");
    fs::write(tenant.file("marketrelay.db"), [7; 8192]).expect("written");
    assert_eq!(tenant.refused().await.0, "VolumeInUse");
    assert_eq!(fs::read(tenant.file("marketrelay.db-wal")).expect("a file"), b"its log");
}

#[tokio::test]
async fn a_restored_database_that_gives_way_too_leaves_the_first_one_kept() {
    let mut tenant = changed().await;
    let older = tenant.restore().await.backup;
    tenant.collect(&["A4"]).await;
    tenant.erase("case-4", "A4").await;
    begin_relay(&tenant).await;
    tenant.config.choice = Choice::Backup(older);
    let restored = tenant.restore().await;
    assert_eq!((restored.orders, restored.erased), (1, 1));
    is_restored(&tenant).await;
    tenant.collect(&["A4"]).await;
    assert!(!tenant.has("A4").await, "erased in a database that isn't there any more");
    was_kept(&tenant).await;
}

#[tokio::test]
async fn nothing_gives_way_to_a_backup_that_can_not_be_restored() {
    let mut tenant = changed().await;
    tenant.config.choice = Choice::Backup("20261129T003250Z-00000000".to_owned());
    let before = tenant.files().remove("marketrelay.db");
    assert_eq!(tenant.refused().await.0, "BackupNotFound");
    tenant.config.choice = Choice::Newest;
    tenant.digest = [3; 32];
    assert_eq!(tenant.refused().await.0, "DigestKeyInvalid");
    assert_eq!(tenant.names(), ["marketrelay.db"]);
    assert_eq!(tenant.files().remove("marketrelay.db"), before);
}
