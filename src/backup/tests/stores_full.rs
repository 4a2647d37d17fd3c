//! A store whose disk is full: the Job says so, and nothing half-written counts.

use crate::{s3::Bucket, small::Small, world::World};

const MIB: u64 = 1024;

/// Its store has a disk with room for so many KiB, and nothing on it.
async fn world(kibibytes: u64) -> (World, Small) {
    let mut world = World::start().await;
    world.patience = 2;
    world.s3.kill().await;
    let disk = Small::mount(world.s3.data(), kibibytes);
    world.s3.run().await;
    world.s3.make_bucket(Bucket::Plain).await;
    (world, disk)
}

#[tokio::test]
async fn a_backup_that_does_not_fit_on_the_stores_disk_counts_as_none_and_the_next_one_finds_room() {
    // A backup has 16 MiB, and as much again while its parts become one object.
    let (world, disk) = world(44 * MIB).await;
    assert!(world.run().await.success, "the first one fits");
    for (when, kibibytes) in [("among its parts", 22 * MIB), ("while it becomes an object", 44 * MIB)] {
        disk.resize(kibibytes);
        let ended = world.run().await;
        assert_eq!((ended.reason(), &ended.report.written), ("StoreFull", &None), "{when}: {}", ended.log);
        assert!(ended.message().contains("no room"), "{when}: {}", ended.message());
        assert_eq!(ended.listing().backups, 1, "{when}");
        assert_eq!(
            (world.s3.objects().len(), world.s3.unfinished()),
            (2, 0),
            "{when}: what it began is gone"
        );
    }
    disk.resize(80 * MIB);
    let ended = world.run().await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    assert_eq!((ended.listing().backups, world.s3.objects().len(), world.s3.unfinished()), (2, 4, 0));
    let (whole, said) = world.by_hand(&["verify"]).await;
    assert!(whole, "{said}");
}
