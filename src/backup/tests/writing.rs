//! A backup is written whole, or not at all.

use std::fs;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use marketrelay_api::backup::Site;
use marketrelay_audit::hex;
use marketrelay_snapshot::SignedManifest;

use crate::{
    relay::Act,
    s3::Bucket,
    world::{World, eventually},
};

#[tokio::test]
async fn a_backup_is_written_read_back_and_reported() {
    let world = World::start().await;
    let before = Timestamp::now();
    let ended = world.run().await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    let written = ended.report.written.as_ref().expect("written");
    let asked = world.relay.asked();
    assert_eq!((asked.len(), &asked[0].backup, asked[0].site), (1, &written.backup, Site::OnSite));
    let objects = world.s3.objects();
    let keys = [format!("{}/data", written.backup), format!("{}/manifest.json", written.backup)];
    assert_eq!(objects.keys().cloned().collect::<Vec<_>>(), keys.clone().map(|key| world.key(&key)));
    let [data, json] = keys.map(|key| fs::read(&objects[&world.key(&key)]).expect("an object"));
    let manifest = SignedManifest::parse(&json).and_then(|signed| signed.manifest(None)).expect("a manifest");
    assert_eq!(manifest.data.sha256, hex(digest(&SHA256, &data).as_ref()));
    assert_eq!((written.sequence, written.orders), (4, 42));
    assert_eq!(written.bytes, (data.len() + json.len()) as u64);
    assert_eq!((written.created_at, written.expires_at), (manifest.created_at, manifest.expires_at));
    let listing = ended.listing();
    assert_eq!((listing.backups, listing.bytes), (1, written.bytes));
    assert_eq!((listing.newest, listing.oldest), (Some(written.created_at), Some(written.created_at)));
    assert_eq!((listing.pruned, listing.overdue, listing.foreign, listing.damaged), (0, 0, 0, 0));
    assert!(listing.at >= before && world.s3.unfinished() == 0);
}

#[tokio::test]
async fn a_second_backup_leaves_the_first_as_it_is() {
    let world = World::with(Bucket::Plain, 100_000).await;
    let first = world.run().await.report.written.expect("written");
    let ended = world.run().await;
    let second = ended.report.written.as_ref().expect("written");
    assert!(world.has(&first.backup) && world.has(&second.backup));
    assert_eq!(ended.listing().backups, 2);
    assert_eq!(
        (ended.listing().oldest, ended.listing().newest),
        (Some(first.created_at), Some(second.created_at))
    );
    let mut newest_first = [&first.backup, &second.backup];
    newest_first.sort_by(|a, b| b.cmp(a));
    assert!(ended.listing().restorable.iter().eq(newest_first), "{:?}", ended.listing());
}

#[tokio::test]
async fn a_snapshot_that_is_not_whole_or_not_what_was_asked_for_becomes_no_backup() {
    let mut world = World::start().await;
    world.patience = 0;
    for act in [Act::Short, Act::Cut, Act::BitFlip, Act::OtherBackup, Act::OtherConnection] {
        world.relay.will(&[act; 10]);
        let ended = world.run().await;
        assert_eq!(ended.reason(), "SnapshotFailed", "{act:?}: {}", ended.log);
        assert_eq!(ended.report.written, None);
        assert_eq!(ended.listing().backups, 0, "{act:?}: it lists nevertheless");
        assert_eq!((world.s3.objects().len(), world.s3.unfinished()), (0, 0), "{act:?}");
    }
}

#[tokio::test]
async fn a_snapshot_that_was_cut_or_can_not_be_taken_now_is_asked_for_again() {
    let world = World::with(Bucket::Versions, 600_000).await;
    world.relay.will(&[Act::Refuse("SnapshotRunning"), Act::Status(503), Act::Cut, Act::Whole]);
    let ended = world.run().await;
    assert!(ended.success, "{}", ended.log);
    let ids: Vec<_> = world.relay.asked().into_iter().map(|request| request.backup).collect();
    assert_eq!(ids.len(), 4);
    assert_eq!(ended.report.written.as_ref().map(|written| &written.backup), ids.last());
    assert_eq!(world.s3.objects().len(), 2, "of one backup alone");
    assert_eq!(world.s3.unfinished(), 0);
}

#[tokio::test]
async fn a_relay_whose_keyring_comes_late_is_asked_again() {
    let world = World::start().await;
    world.relay.will(&[Act::Refuse("NoBackupKey")]);
    let ended = world.run().await;
    assert!(ended.success, "{}", ended.log);
    assert_eq!(world.relay.asked().len(), 2);
}

#[tokio::test]
async fn a_relay_that_takes_no_snapshot_is_named_and_the_store_is_pruned_and_listed_all_the_same() {
    let mut world = World::start().await;
    let old = world.backup_of(SignedDuration::from_hours(31 * 24)).await;
    let kept = world.backup_of(SignedDuration::from_hours(24)).await;
    world.patience = 0;
    world.relay.will(&[Act::Refuse("NoBackupKey"); 10]);
    let ended = world.run().await;
    assert_eq!((ended.reason(), ended.listing().pruned, ended.listing().backups), ("NoBackupKey", 1, 1));
    assert!(ended.message().contains("because of NoBackupKey"), "{}", ended.message());
    assert!(world.has(&kept) && !world.has(&old));
    world.relay.will(&[Act::Refuse("KeyringUnusable")]);
    assert_eq!(world.run().await.reason(), "SnapshotFailed");
    world.relay.will(&[Act::Status(403)]);
    let ended = world.run().await;
    assert_eq!(ended.reason(), "RelayUnreachable");
    assert!(ended.message().contains("403"), "{}", ended.message());
    world.patience = 1;
    world.config.relay = "https://localhost:1".parse().expect("a URL");
    let ended = world.run().await;
    assert_eq!((ended.reason(), ended.listing().backups), ("RelayUnreachable", 1), "{}", ended.log);
}

#[tokio::test]
async fn a_job_that_is_asked_to_end_leaves_nothing_of_its_backup() {
    let world = World::start().await;
    world.relay.hold_after(40);
    let job = world.spawn("run");
    eventually("a part is in the store", || async { (world.s3.unfinished() > 0).then_some(()) }).await;
    job.terminate();
    let ended = job.ended().await;
    assert_eq!(ended.reason(), "Interrupted", "{}", ended.log);
    assert_eq!((ended.report.written, ended.report.listing), (None, None));
    assert_eq!((world.s3.objects().len(), world.s3.unfinished()), (0, 0));
}

#[tokio::test]
async fn a_large_snapshot_passes_in_constant_memory() {
    let pieces = 4 * 200;
    let world = World::with(Bucket::Versions, pieces * (256 << 10)).await;
    world.relay.hold_after(pieces - 1);
    let job = world.spawn("run");
    let status = format!("/proc/{}/status", job.pid());
    eventually("all but the last piece was taken", || async {
        (world.relay.gate.available_permits() == 0).then_some(())
    })
    .await;
    let status = fs::read_to_string(status).expect("a status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak").trim();
    let kib: u64 = peak.trim_end_matches(" kB").parse().expect("a number");
    assert!(kib < 100 << 10, "{peak} for a snapshot of 200 MiB");
    world.relay.go_on();
    assert!(job.ended().await.success);
}

#[tokio::test]
async fn what_is_mounted_and_can_not_be_used_is_named() {
    let mut world = World::with(Bucket::Plain, 1000).await;
    let good = world.config.clone();
    world.config.store.endpoint = Some(world.s3.endpoint().replace("https", "http").parse().expect("a URL"));
    let ended = world.run().await;
    assert_eq!(ended.reason(), "StoreInvalid");
    assert!(ended.message().contains("https://"), "{}", ended.message());
    world.config = good.clone();
    world.config.store.prefix = "tenants/another".to_owned();
    let ended = world.run().await;
    assert_eq!(ended.reason(), "StoreInvalid");
    assert!(ended.message().contains("prefix"), "{}", ended.message());
    world.config = good;
    world.secret_key = String::new();
    let ended = world.run().await;
    assert_eq!(ended.reason(), "StoreInvalid");
    assert!(ended.message().contains("secretAccessKey"), "{}", ended.message());
    assert!(world.relay.asked().is_empty());
}
