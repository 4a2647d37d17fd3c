//! Whatever backup is restored, what holds keep comes back with it.

use marketrelay_api::backup::{Choice, Site};

use crate::tenant::{Taken, Tenant};

/// With a backup that is older than its hold, which keeps two orders.
async fn tenant() -> (Tenant, Taken) {
    let mut tenant = Tenant::start().await;
    tenant.collect(&["A1"]).await;
    let backup = tenant.back_up(Site::OnSite).await;
    tenant.collect(&["A2"]).await;
    tenant.hold("tax").await;
    (tenant, backup)
}

fn damaged(taken: &Taken) -> Taken {
    let mut taken = taken.clone();
    let middle = taken.data.len() / 2;
    taken.data[middle] ^= 4;
    taken
}

#[tokio::test]
async fn a_restore_of_a_backup_that_is_older_than_the_hold_brings_what_the_hold_keeps() {
    let (mut tenant, backup) = tenant().await;
    let archive = tenant.archive(Site::OffSite, "tax").await;
    tenant.config.choice = Choice::Backup(backup.id().to_owned());
    tenant.lose_volume();
    let restored = tenant.restore().await;
    assert_eq!((restored.orders, restored.held, restored.passed_over.len()), (1, 2, 0), "{restored:?}");
    assert_eq!(tenant.held().await, 2);
    assert!(tenant.take().await.manifest.sequence > archive.manifest.sequence);
}

#[tokio::test]
async fn an_order_that_a_hold_took_after_the_newest_backup_is_there_after_a_restore() {
    let (mut tenant, _) = tenant().await;
    tenant.back_up(Site::OnSite).await;
    tenant.collect(&["A3"]).await;
    tenant.hold("tax").await;
    for site in Site::ALL {
        tenant.archive(site, "tax").await;
    }
    tenant.lose_volume();
    let restored = tenant.restore().await;
    assert_eq!((restored.orders, restored.held), (2, 3));
    assert_eq!(tenant.held().await, 3);
    // Said again after it was killed in between.
    assert_eq!(tenant.restore().await.held, 3);
}

#[tokio::test]
async fn a_damaged_archive_gives_way_to_the_next_and_is_named_and_fails_no_restore() {
    let (mut tenant, _) = tenant().await;
    let older = tenant.archive(Site::OffSite, "tax").await;
    tenant.collect(&["A3"]).await;
    tenant.hold("tax").await;
    let newer = damaged(&tenant.take_archive("tax").await);
    tenant.put_archive(Site::OnSite, tenant.hold_id("tax"), &newer).await;
    tenant.lose_volume();
    let restored = tenant.restore().await;
    assert_eq!((restored.orders, restored.held), (1, 2));
    let [passed] = &restored.passed_over[..] else { panic!("{restored:?}") };
    assert!(passed.starts_with(&format!("archive {} (on-site)", newer.id())), "{passed}");
    tenant.put_archive(Site::OffSite, tenant.hold_id("tax"), &damaged(&older)).await;
    tenant.lose_volume();
    let restored = tenant.restore().await;
    assert_eq!((restored.orders, restored.held, restored.passed_over.len()), (1, 0, 2), "{restored:?}");
}

#[tokio::test]
async fn archives_of_another_hold_and_of_holds_that_have_ended_are_not_taken() {
    let (mut tenant, _) = tenant().await;
    tenant.hold("court").await;
    let court = tenant.take_archive("court").await;
    tenant.put_archive(Site::OnSite, tenant.hold_id("tax"), &court).await;
    tenant.archive(Site::OnSite, "court").await;
    let key = tenant.keyring.holds().find(|(key, _)| key.name() == "court").expect("a hold").0.clone();
    tenant.keyring.remove_hold(&key);
    tenant.lose_volume();
    let restored = tenant.restore().await;
    assert_eq!((restored.orders, restored.held), (1, 0));
    let [passed] = &restored.passed_over[..] else { panic!("{restored:?}") };
    assert!(passed.contains(court.id()) && passed.contains("of the hold"), "{passed}");
}

#[tokio::test]
async fn what_an_older_archive_has_more_is_taken_too() {
    let (mut tenant, backup) = tenant().await;
    tenant.archive(Site::OnSite, "tax").await;
    // A database that came back without them keeps fewer, and archives those.
    tenant.lose_volume();
    let kept = tenant.keyring.clone();
    let key = tenant.keyring.holds().next().expect("a hold").0.clone();
    tenant.keyring.remove_hold(&key);
    assert_eq!(tenant.restore().await.held, 0);
    tenant.keyring = kept;
    tenant.hold("tax").await;
    assert_eq!(tenant.held().await, 1);
    let newer = tenant.archive(Site::OffSite, "tax").await;
    tenant.archive(Site::OnSite, "tax").await;
    assert!(newer.manifest.sequence > backup.manifest.sequence);
    tenant.lose_volume();
    let restored = tenant.restore().await;
    assert_eq!((restored.backup.as_str(), restored.held), (backup.id(), 2));
}

#[tokio::test]
async fn an_archive_is_read_outside_the_cluster_with_its_holds_key_alone() {
    let (mut tenant, _) = tenant().await;
    let archive = tenant.archive(Site::OnSite, "tax").await;
    tenant.world.config.store.prefix.clone_from(&tenant.config.sites[0].store.prefix);
    let (id, key) = (tenant.hold_id("tax").to_string(), tenant.config.public_key.clone());
    let (success, said) = tenant.world.by_hand(&["show", "--hold", &id, "--public-key", &key]).await;
    assert!(success && said.contains(archive.id()) && said.contains(&id), "{said}");
    let file = |name: &str, bytes: &[u8]| {
        let path = tenant.world.path(name);
        std::fs::write(&path, bytes).expect("a file");
        path.display().to_string()
    };
    let entries = tenant.keyring.entries();
    let (_, secret) = entries.iter().find(|(name, _)| name.starts_with("hold.")).expect("the hold's key");
    let (good, other) = (file("good.key", secret), file("other.key", &[9; 32]));
    let (success, said) = tenant.world.by_hand(&["verify", "--hold", &id, "--identity", &good]).await;
    assert!(success && said.contains("2 tables with 3 rows"), "{said}");
    let (success, said) = tenant.world.by_hand(&["verify", "--hold", &id, "--identity", &other]).await;
    assert!(!success && said.contains("hold.tax."), "{said}");
    let (success, said) = tenant.world.by_hand(&["show", archive.id()]).await;
    assert!(!success && said.contains("there is no backup"), "{said}");
}

#[tokio::test]
async fn a_drill_opens_each_archive_of_its_site_and_fails_if_it_can_not() {
    let (tenant, _) = tenant().await;
    let good = tenant.archive(Site::OnSite, "tax").await;
    tenant.put_archive(Site::OffSite, tenant.hold_id("tax"), &damaged(&good)).await;
    tenant.lose_volume();
    assert_eq!(tenant.drill().await.opened, 1);
    tenant.put_archive(Site::OnSite, tenant.hold_id("tax"), &damaged(&good)).await;
    let (reason, message) = tenant.drill_fails().await;
    assert_eq!(reason, "BackupDamaged");
    assert!(message.contains("what holds keep") && message.contains(good.id()), "{message}");
}
