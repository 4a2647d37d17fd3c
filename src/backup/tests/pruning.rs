//! What must go goes with all its versions, and nothing else does.

use std::time::Duration;

use jiff::SignedDuration;
use marketrelay_audit::Signer;
use marketrelay_snapshot::SignedManifest;

use crate::{
    relay::{CONNECTION, signed},
    s3::Bucket,
    world::{DATA, DAY, World, manifest_of},
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

async fn world() -> World {
    World::with(Bucket::Versions, 1000).await
}

#[tokio::test]
async fn what_expires_before_the_next_run_goes_with_all_versions_and_what_is_newer_stays() {
    let world = world().await;
    let expired = world.backup_of(DAY * 40).await;
    let soon = world.backup_of(DAY * 29 + HOUR).await;
    let kept = world.backup_of(DAY * 28).await;
    // Overwritten, deleted, and deleted in an order that hides the rest.
    world.s3.put(&world.key(&format!("{expired}/data")), b"other").await;
    world.s3.delete(&world.key(&format!("{expired}/manifest.json"))).await;
    world.s3.delete(&world.key(&format!("{soon}/data"))).await;
    assert!(world.s3.older_versions() >= 3);
    let ended = world.prune().await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    let listing = ended.listing();
    assert_eq!((listing.backups, listing.pruned, listing.overdue), (1, 2, 0));
    assert!(world.has(&kept) && !world.has(&expired) && !world.has(&soon));
    assert_eq!(world.s3.older_versions(), 0);
    assert_eq!(world.relay.asked().len(), 0);
}

#[tokio::test]
async fn a_manifest_that_says_so_makes_its_backup_expire_sooner_and_none_later() {
    let world = world().await;
    let put = async |age: SignedDuration, lives: SignedDuration| {
        let (id, mut manifest) = manifest_of(age);
        manifest.expires_at = manifest.created_at + lives;
        world.s3.put(&world.key(&format!("{id}/data")), DATA).await;
        world.s3.put(&world.key(&format!("{id}/manifest.json")), &signed(&manifest)).await;
        id
    };
    let sooner = put(DAY * 3, DAY * 2).await;
    let later = put(DAY * 31, DAY * 300).await;
    let kept = put(DAY * 3, DAY * 10).await;
    let ended = world.prune().await;
    assert_eq!((ended.listing().pruned, ended.listing().backups), (2, 1), "{}", ended.log);
    assert!(world.has(&kept) && !world.has(&sooner) && !world.has(&later));
}

#[tokio::test]
async fn similar_prefixes_and_other_tenants_are_not_touched_and_foreign_objects_are_counted() {
    let world = world().await;
    let old = world.backup_of(DAY * 40).await;
    let others = [
        format!("tenants/{CONNECTION}-2/{old}/data"),
        format!("tenants/{CONNECTION}{old}/data"),
        format!("tenants/{}/{old}/data", CONNECTION.replace('3', "4")),
        format!("tenants/{old}/data"),
        format!("{CONNECTION}/{old}/data"),
    ];
    let foreign = [
        world.key("readme.txt"),
        world.key(&format!("{old}/notes.txt")),
        world.key(&format!("archive/{old}/data")),
        world.key(&format!("{old}x/data")),
    ];
    for key in others.iter().chain(&foreign) {
        world.s3.put(key, b"not ours").await;
    }
    world.s3.leave_upload(&others[0], Duration::from_hours(48)).await;
    world.s3.leave_upload(&world.key("readme.txt"), Duration::from_hours(48)).await;
    let ended = world.prune().await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    assert_eq!((ended.listing().pruned, ended.listing().foreign, ended.listing().backups), (1, 4, 0));
    let mut left: Vec<_> = others.into_iter().chain(foreign).collect();
    left.sort();
    assert_eq!(world.s3.objects().into_keys().collect::<Vec<_>>(), left);
    assert_eq!(world.s3.unfinished(), 2);
}

#[tokio::test]
async fn uploads_and_backups_that_nobody_finishes_go_after_a_day_and_count_until_then() {
    let world = world().await;
    let id = |age: SignedDuration| manifest_of(age).0;
    let [stale, fresh] = [id(DAY * 2), id(HOUR)];
    for (id, age) in [(&stale, 48), (&fresh, 1)] {
        world.s3.leave_upload(&world.key(&format!("{id}/data")), Duration::from_hours(age)).await;
    }
    let [half, new_half] = [id(DAY + HOUR), id(HOUR)];
    for id in [&half, &new_half] {
        world.s3.put(&world.key(&format!("{id}/data")), DATA).await;
    }
    let ended = world.prune().await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    assert_eq!(world.s3.unfinished(), 1, "the one that may be under way");
    assert!(!world.has(&half) && world.has(&new_half));
    let listing = ended.listing();
    assert_eq!((listing.backups, listing.overdue, listing.newest), (0, 0, None));
    assert_eq!(listing.bytes, (5 << 20) + DATA.len() as u64);
}

#[tokio::test]
async fn a_forged_swapped_or_unreadable_manifest_is_reported_counts_as_no_backup_and_keeps_nothing_longer() {
    let mut world = world().await;
    let stranger = Signer::new(&[9; 32]).expect("a key");
    let put = async |id: &str, manifest: &[u8]| {
        world.s3.put(&world.key(&format!("{id}/data")), DATA).await;
        world.s3.put(&world.key(&format!("{id}/manifest.json")), manifest).await;
    };
    let (forged, mut manifest) = manifest_of(DAY * 2);
    let honest = signed(&manifest);
    manifest.expires_at = manifest.created_at + DAY * 300;
    let text = String::from_utf8(honest.clone()).expect("text");
    put(&forged, text.replace("\"sequence\":4", "\"sequence\":9").as_bytes()).await;
    let (swapped, _) = manifest_of(DAY * 3);
    put(&swapped, &honest).await;
    let (unreadable, _) = manifest_of(DAY * 4);
    put(&unreadable, b"{").await;
    let (strange, manifest) = manifest_of(DAY * 5);
    let strangers = SignedManifest::sign(&manifest, &stranger).and_then(|signed| signed.to_json());
    put(&strange, &strangers.expect("JSON")).await;
    let (short, manifest) = manifest_of(DAY * 6);
    put(&short, &signed(&manifest)).await;
    world.s3.put(&world.key(&format!("{short}/data")), b"shorter").await;
    let (old, _) = manifest_of(DAY * 31);
    put(&old, &honest).await;
    let ended = world.run().await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    let listing = ended.listing();
    assert_eq!((listing.backups, listing.damaged, listing.pruned), (1, 5, 1), "{}", ended.log);
    for id in [&forged, &swapped, &unreadable, &strange, &short] {
        assert!(world.has(id) && ended.log.contains(id.as_str()), "{id}");
    }
    assert!(!world.has(&old));
    let (_, table) = world.by_hand(&["list"]).await;
    assert_eq!(table.matches("damaged: ").count(), 4, "who knows no key takes a stranger's: {table}");
    for (key, damaged) in [(None, 4), (Some(crate::relay::signer().public_key()), 5)] {
        world.config.public_key = key;
        assert_eq!(world.prune().await.listing().damaged, damaged);
    }
}

#[tokio::test]
async fn a_bucket_that_locks_for_longer_than_backups_may_be_kept_is_refused_before_anything_is_written() {
    let world = World::with(Bucket::Lock { days: 31 }, 1000).await;
    let ended = world.run().await;
    assert_eq!((ended.reason(), &ended.report.written), ("ObjectLocked", &None), "{}", ended.log);
    assert!(world.relay.asked().is_empty() && world.s3.objects().is_empty());
    assert_eq!(ended.listing().overdue, 0);
}

#[tokio::test]
async fn what_a_lock_keeps_after_its_time_is_reported_and_keeps_nothing_else() {
    let world = World::with(Bucket::Lock { days: 20 }, 1000).await;
    let locked = world.backup_of(DAY * 40).await;
    let ended = world.run().await;
    assert_eq!((ended.reason(), ended.listing().overdue), ("ObjectLocked", 1), "{}", ended.log);
    assert!(ended.message().contains(&locked), "{}", ended.message());
    assert!(ended.report.written.is_some(), "the backup itself was written");
    assert_eq!(ended.listing().backups, 2);
}

#[tokio::test]
async fn a_bucket_without_versions_is_pruned_as_well() {
    let world = World::with(Bucket::Plain, 1000).await;
    let (old, kept) = (world.backup_of(DAY * 40).await, world.backup_of(DAY).await);
    let ended = world.run().await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    assert_eq!((ended.listing().pruned, ended.listing().backups), (1, 2));
    assert!(world.has(&kept) && !world.has(&old));
}

#[tokio::test]
async fn thousands_of_versions_are_listed_to_the_end() {
    let world = world().await;
    let old = world.backup_of(DAY * 40).await;
    let key = world.key(&format!("{old}/data"));
    for _ in 0..1010 {
        world.s3.put(&key, b"x").await;
    }
    let ended = world.prune().await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    assert_eq!((ended.listing().pruned, world.s3.objects().len(), world.s3.older_versions()), (1, 0, 0));
}
