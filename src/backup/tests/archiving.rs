//! A Job writes the archives of holds, and they stay for as long as their holds.

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::backup::{Archived, LiveHold};

use crate::{
    relay::{Act, archive_manifest, signed, signer},
    s3::Bucket,
    world::{DATA, DAY, World, manifest_of},
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn id(digit: char) -> String {
    String::from(digit).repeat(64)
}

fn hold(digit: char, name: &str) -> LiveHold {
    LiveHold { id: id(digit), name: name.to_owned(), until: Timestamp::now() + DAY * 900, archive: true }
}

/// With a relay that keeps orders for these holds.
async fn world(bucket: Bucket, holds: &[(char, u64)]) -> World {
    let mut world = World::with(bucket, 1000).await;
    world.config.public_key = Some(signer().public_key());
    for (digit, orders) in holds {
        world.config.holds.push(hold(*digit, &format!("hold-{digit}")));
        world.relay.keeps(&id(*digit), *orders);
    }
    world
}

/// Puts an archive of this age into the store.
async fn archive_of(world: &World, digit: char, age: SignedDuration, orders: u64) -> String {
    let (id_of, mut manifest) = manifest_of(age);
    manifest.expires_at = manifest.created_at;
    let path = format!("holds/{}/{id_of}", id(digit));
    let manifest = archive_manifest(manifest, &id(digit), orders);
    world.s3.put(&world.key(&format!("{path}/data")), DATA).await;
    world.s3.put(&world.key(&format!("{path}/manifest.json")), &signed(&manifest)).await;
    path
}

fn path(archive: &Archived) -> String {
    format!("holds/{}/{}", archive.hold, archive.backup)
}

#[tokio::test]
async fn each_hold_gets_an_archive_that_is_read_back_and_the_next_one_takes_its_place() {
    let world = world(Bucket::Versions, &[('a', 3), ('b', 1)]).await;
    let first = world.run().await;
    assert!(first.success, "{:?} {}", first.report, first.log);
    let told = |archives: &[Archived]| {
        let of = |archive: &Archived| (archive.hold.clone(), archive.orders, archive.revision);
        archives.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(told(&first.report.archives), [(id('a'), 3, 3), (id('b'), 1, 1)]);
    assert_eq!((first.listing().backups, first.listing().archives, first.listing().foreign), (1, 2, 0));
    assert!(first.report.archives.iter().all(|archive| world.has(&path(archive))));
    let (_, table) = world.by_hand(&["list"]).await;
    assert!(table.contains("ARCHIVE") && table.contains(&id('a')), "{table}");
    world.relay.keeps(&id('a'), 4);
    let second = world.run().await;
    assert_eq!(told(&second.report.archives), [(id('a'), 4, 4), (id('b'), 1, 1)]);
    assert!(first.report.archives.iter().all(|archive| !world.has(&path(archive))), "{}", second.log);
    assert_eq!((second.listing().backups, second.listing().archives, second.listing().overdue), (2, 2, 0));
}

#[tokio::test]
async fn an_archive_stays_as_long_as_its_hold_and_goes_with_all_versions_then() {
    let mut world = world(Bucket::Versions, &[('a', 3)]).await;
    world.config.holds.push(LiveHold { until: Timestamp::now(), ..hold('b', "ended") });
    let kept = archive_of(&world, 'a', DAY * 800, 3).await;
    let ended = archive_of(&world, 'b', DAY, 3).await;
    let ended_early = archive_of(&world, 'c', DAY, 3).await;
    world.s3.put(&world.key(&format!("{ended}/data")), b"other").await;
    world.s3.delete(&world.key(&format!("{ended_early}/manifest.json"))).await;
    // Written now: the configuration may be older than its hold.
    let unknown = archive_of(&world, 'd', -HOUR, 3).await;
    let ended_job = world.prune().await;
    assert!(ended_job.success, "{:?} {}", ended_job.report, ended_job.log);
    assert!(world.has(&kept) && world.has(&unknown));
    assert!(!world.has(&ended) && !world.has(&ended_early), "{}", ended_job.log);
    assert_eq!(world.s3.older_versions(), 0);
    let listing = ended_job.listing();
    assert_eq!((listing.archives, listing.foreign, listing.overdue), (2, 0, 0), "{listing:?}");
}

#[tokio::test]
async fn an_archive_that_has_more_orders_than_a_newer_one_stays() {
    let world = world(Bucket::Plain, &[('a', 2)]).await;
    let more = archive_of(&world, 'a', DAY * 2, 5).await;
    let fewer = archive_of(&world, 'a', DAY, 2).await;
    let ended = world.run().await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    assert!(world.has(&more) && !world.has(&fewer) && world.has(&path(&ended.report.archives[0])));
}

#[tokio::test]
async fn nobody_elses_archive_takes_the_place_of_a_good_one() {
    let world = world(Bucket::Plain, &[('a', 2)]).await;
    let good = archive_of(&world, 'a', DAY * 2, 5).await;
    // Of another hold, and a backup.
    let (of_b, manifest) = manifest_of(DAY);
    let swapped = format!("holds/{}/{of_b}", id('a'));
    world.s3.put(&world.key(&format!("{swapped}/data")), DATA).await;
    let manifest = signed(&archive_manifest(manifest, &id('b'), 9));
    world.s3.put(&world.key(&format!("{swapped}/manifest.json")), &manifest).await;
    let (backup, manifest) = manifest_of(DAY);
    let as_backup = archive_manifest(manifest, &id('a'), 9);
    world.s3.put(&world.key(&format!("{backup}/data")), DATA).await;
    world.s3.put(&world.key(&format!("{backup}/manifest.json")), &signed(&as_backup)).await;
    let ended = world.prune().await;
    let listing = ended.listing();
    assert_eq!((listing.backups, listing.archives, listing.damaged), (0, 1, 2), "{}", ended.log);
    assert!(world.has(&good) && world.has(&swapped));
}

#[tokio::test]
async fn a_hold_that_the_relay_does_not_know_yet_fails_nothing() {
    let mut world = world(Bucket::Plain, &[('a', 2)]).await;
    world.config.holds.insert(0, hold('b', "new"));
    let ended = world.run().await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    let archived: Vec<_> = ended.report.archives.iter().map(|archive| archive.hold.as_str()).collect();
    assert_eq!(archived, [id('a')]);
    // A relay of an earlier version doesn't know what is asked for.
    world.relay.will(&[Act::Whole, Act::Status(400), Act::Status(400)]);
    world.relay.keeps(&id('b'), 1);
    let ended = world.run().await;
    assert!(ended.success && ended.report.archives.is_empty(), "{:?} {}", ended.report, ended.log);
}

#[tokio::test]
async fn an_archive_that_can_not_be_written_fails_the_job_and_not_the_backup() {
    let mut world = world(Bucket::Plain, &[('a', 2)]).await;
    world.patience = 1;
    world.relay.will(&[Act::Whole, Act::BitFlip, Act::BitFlip, Act::BitFlip]);
    let world_bytes = world.run().await;
    assert_eq!(world_bytes.listing().backups, 1);
    world.relay.will(&[Act::Whole, Act::OtherConnection]);
    let ended = world.run().await;
    assert_eq!(ended.reason(), "SnapshotFailed", "{}", ended.log);
    assert!(ended.message().starts_with("the archive of hold hold-a: "), "{}", ended.message());
    assert!(ended.report.written.is_some() && ended.report.archives.is_empty());
    assert_eq!(ended.listing().backups, 2);
}

#[tokio::test]
async fn a_backup_without_a_key_keeps_no_archive_from_being_written() {
    let mut world = world(Bucket::Plain, &[('a', 2)]).await;
    world.patience = 0;
    world.relay.will(&[Act::Refuse("NoBackupKey"); 10]);
    let ended = world.run().await;
    assert_eq!((ended.reason(), ended.report.archives.len()), ("NoBackupKey", 1), "{}", ended.log);
}

#[tokio::test]
async fn a_report_has_room_for_the_archives_that_it_may_tell_of() {
    let mut world = world(Bucket::Plain, &[]).await;
    let digits = "0123456789abcdef".chars();
    for digit in digits {
        world.config.holds.push(hold(digit, &"x".repeat(40)));
        world.relay.keeps(&id(digit), u64::MAX >> 8);
    }
    let ended = world.run().await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    assert_eq!((ended.report.archives.len(), ended.listing().archives), (10, 10));
}
