//! The newest good backup becomes the volume's database, wherever it is.

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::backup::{Choice, Site};
use marketrelay_audit::Signer;
use marketrelay_snapshot::SignedManifest;

use crate::{
    proxy::{Fault, Half, Proxy},
    tenant::{Taken, Tenant, signer},
};

fn damage(taken: &Taken) -> Taken {
    let mut damaged = taken.clone();
    let middle = damaged.data.len() / 2;
    damaged.data[middle] ^= 4;
    damaged
}

#[tokio::test]
async fn the_newest_backup_of_all_sites_becomes_the_volumes_database() {
    let tenant = Tenant::start().await;
    tenant.collect(&["A1"]).await;
    let older = tenant.back_up(Site::OnSite).await;
    tenant.collect(&["A2"]).await;
    let newest = tenant.back_up(Site::OffSite).await;
    tenant.collect(&["A3"]).await;
    tenant.lose_volume();
    let restored = tenant.restore().await;
    assert_eq!((restored.backup.as_str(), restored.site), (newest.id(), Site::OffSite));
    assert_eq!((restored.created_at, restored.sequence), (newest.manifest.created_at, 2));
    assert_eq!((restored.orders, restored.anonymised, restored.erased, restored.held), (2, 0, 0, 0));
    let head = &newest.manifest.audit;
    let audit = &restored.audit;
    assert_eq!((&audit.chain, audit.sequence, &audit.hash), (&head.chain, head.sequence, &head.hash));
    assert!(restored.passed_over.is_empty(), "{restored:?}");
    assert_eq!(tenant.names(), ["marketrelay.db"]);
    assert!(tenant.has("A1").await && tenant.has("A2").await && !tenant.has("A3").await);
    assert!(older.manifest.sequence < newest.manifest.sequence);
}

#[tokio::test]
async fn of_equally_new_backups_the_first_sites_is_taken() {
    let mut tenant = Tenant::start().await;
    tenant.collect(&["A1"]).await;
    let taken = tenant.back_up(Site::OnSite).await;
    tenant.put(Site::OffSite, &taken).await;
    for site in [Site::OnSite, Site::OffSite] {
        tenant.lose_volume();
        assert_eq!(tenant.restore().await.site, site);
        tenant.config.sites.reverse();
    }
}

#[tokio::test]
async fn a_damaged_backup_gives_way_to_the_next_and_the_next_snapshot_is_newer_than_both() {
    let tenant = Tenant::start().await;
    tenant.collect(&["A1"]).await;
    let good = tenant.back_up(Site::OffSite).await;
    let damaged = damage(&tenant.take().await);
    tenant.put(Site::OnSite, &damaged).await;
    tenant.lose_volume();
    let restored = tenant.restore().await;
    assert_eq!((restored.backup.as_str(), restored.orders), (good.id(), 1));
    let [passed] = &restored.passed_over[..] else { panic!("{restored:?}") };
    assert!(passed.contains(damaged.id()) && passed.contains("on-site"), "{passed}");
    assert_eq!(tenant.names(), ["marketrelay.db"]);
    assert_eq!(tenant.take().await.manifest.sequence, damaged.manifest.sequence + 1);
}

#[tokio::test]
async fn a_manifest_that_somebody_else_has_signed_is_no_backup() {
    let tenant = Tenant::start().await;
    tenant.collect(&["A1"]).await;
    let mut forged = tenant.take().await;
    let stranger = Signer::new(&[9; 32]).expect("a key");
    let signed = SignedManifest::sign(&forged.manifest, &stranger).and_then(|signed| signed.to_json());
    forged.json = signed.expect("JSON");
    tenant.put(Site::OnSite, &forged).await;
    tenant.lose_volume();
    let (reason, message) = tenant.refused().await;
    assert_eq!(reason, "BackupDamaged", "{message}");
    assert!(message.contains(forged.id()) && message.contains("signature"), "{message}");
    assert!(tenant.names().is_empty());
}

#[tokio::test]
async fn an_expired_backup_is_none() {
    let mut tenant = Tenant::start().await;
    tenant.collect(&["A1"]).await;
    let mut taken = tenant.take().await;
    taken.manifest.expires_at = Timestamp::now() - SignedDuration::from_secs(1);
    let signed = SignedManifest::sign(&taken.manifest, &signer(&tenant.keyring));
    taken.json = signed.and_then(|signed| signed.to_json()).expect("JSON");
    tenant.put(Site::OnSite, &taken).await;
    tenant.lose_volume();
    assert_eq!(tenant.refused().await.0, "NoBackup");
    tenant.config.choice = Choice::Backup(taken.id().to_owned());
    assert_eq!(tenant.refused().await.0, "NoBackup");
    assert!(tenant.names().is_empty());
}

#[tokio::test]
async fn a_site_that_is_away_is_passed_over_unless_nothing_else_is_there() {
    let mut tenant = Tenant::start().await;
    tenant.world.patience = 1;
    tenant.collect(&["A1"]).await;
    tenant.back_up(Site::OffSite).await;
    tenant.lose_volume();
    let there = tenant.config.sites[0].store.endpoint.clone();
    let away: Option<url::Url> = "https://localhost:1".parse().ok();
    tenant.config.sites[0].store.endpoint.clone_from(&away);
    let restored = tenant.restore().await;
    assert_eq!(restored.site, Site::OffSite);
    assert!(restored.passed_over[0].starts_with("on-site: the store can't be reached"), "{restored:?}");
    tenant.lose_volume();
    tenant.config.sites.swap(0, 1);
    tenant.config.sites[0].store.endpoint = away;
    assert_eq!(tenant.refused().await.0, "StoreUnreachable");
    // The site that has none says nothing about the one that is away.
    tenant.config.sites[1].store.endpoint = there;
    assert_eq!(tenant.refused().await.0, "StoreUnreachable");
    assert!(tenant.names().is_empty());
}

#[tokio::test]
async fn what_may_be_at_a_site_that_can_not_be_asked_is_not_said_to_be_nowhere() {
    let mut tenant = Tenant::start().await;
    tenant.collect(&["A1"]).await;
    tenant.lose_volume();
    tenant.config.sites.truncate(1);
    tenant.config.left_out = vec![Site::OffSite];
    let (reason, message) = tenant.refused().await;
    assert_eq!(reason, "SiteLeftOut");
    assert!(message.contains("there is no backup") && message.contains("off-site"), "{message}");
    tenant.back_up(Site::OnSite).await;
    tenant.lose_volume();
    assert_eq!(tenant.restore().await.site, Site::OnSite);
    tenant.lose_volume();
    tenant.config.choice = Choice::Before("2020-01-01T00:00:00Z".parse().expect("a time"));
    assert_eq!(tenant.refused().await.0, "SiteLeftOut");
    tenant.config.left_out.clear();
    assert_eq!(tenant.refused().await.0, "BackupNotFound");
}

#[tokio::test]
async fn a_store_that_fails_is_passed_over_for_the_other_sites_copy_wherever_it_fails() {
    let mut tenant = Tenant::start().await;
    tenant.world.patience = 1;
    let numbers: Vec<_> = (0..2000).map(|number| format!("A{number}")).collect();
    tenant.collect(&numbers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let taken = tenant.back_up(Site::OnSite).await;
    tenant.put(Site::OffSite, &taken).await;
    let proxy = Proxy::start(&mut tenant.world).await;
    tenant.config.sites[0].store.endpoint.clone_from(&tenant.world.config.store.endpoint);
    proxy.halves("/data", Half::Cuts);
    for is_refused in [false, true] {
        if is_refused {
            proxy.fails(Fault { of: "/data", times: 1000, status: 503, code: "SlowDown", after: false });
        }
        tenant.lose_volume();
        let restored = tenant.restore().await;
        assert_eq!((restored.backup.as_str(), restored.site), (taken.id(), Site::OffSite));
        let [passed] = &restored.passed_over[..] else { panic!("{restored:?}") };
        assert!(passed.starts_with(taken.id()) && passed.contains("on-site: the store "), "{passed}");
    }
    assert!(proxy.left() < 1000);
}

#[tokio::test]
async fn a_chosen_backup_is_restored_or_nothing() {
    let mut tenant = Tenant::start().await;
    tenant.collect(&["A1"]).await;
    let older = tenant.back_up(Site::OnSite).await;
    let between = Timestamp::now();
    tenant.collect(&["A2"]).await;
    let newer = tenant.back_up(Site::OnSite).await;
    tenant.lose_volume();
    for choice in [Choice::Backup(older.id().to_owned()), Choice::Before(between)] {
        tenant.config.choice = choice;
        let restored = tenant.restore().await;
        assert_eq!((restored.backup.as_str(), restored.orders), (older.id(), 1));
        tenant.lose_volume();
    }
    let missing = "20261129T003250Z-00000000".to_owned();
    for choice in [Choice::Backup(missing), Choice::Before(between - SignedDuration::from_hours(1))] {
        tenant.config.choice = choice;
        let (reason, message) = tenant.refused().await;
        assert_eq!(reason, "BackupNotFound");
        assert!(message.contains(older.id()) && message.contains(newer.id()), "{message}");
    }
    tenant.put(Site::OnSite, &damage(&newer)).await;
    tenant.config.choice = Choice::Backup(newer.id().to_owned());
    assert_eq!(tenant.refused().await.0, "BackupDamaged");
    assert!(tenant.names().is_empty());
}
