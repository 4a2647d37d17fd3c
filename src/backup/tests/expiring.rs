//! A store that a connection has left: what its own Jobs would prune goes, until a listing finds nothing.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::backup::{BackupsLeft, Expiry, Goes, LiveHold, PurgeReport, S3Store};

use crate::{
    proxy::{Fault, Proxy},
    purging::failure,
    relay::{archive_manifest, signed},
    s3::{Bucket, SECRET_KEY},
    world::{DATA, DAY, World, manifest_of},
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn expiry(holds: Option<Vec<LiveHold>>) -> Expiry {
    Expiry {
        public_key: None,
        backup_retention_seconds: 30 * DAY.as_secs(),
        interval_seconds: DAY.as_secs(),
        holds,
    }
}

impl World {
    async fn expire(&self, holds: impl Into<Option<Vec<LiveHold>>>) -> (PurgeReport, String) {
        let store = [("a", self.store("tenants"), SECRET_KEY)];
        self.purge_of(Goes::Expired(expiry(holds.into())), &store).await
    }

    /// Puts an archive of this hold into the store, a year old.
    async fn old_archive(&self, hold: &str) -> String {
        let (id, mut manifest) = manifest_of(DAY * 365);
        manifest.expires_at = manifest.created_at;
        let path = format!("holds/{hold}/{id}");
        let manifest = archive_manifest(manifest, hold, 2);
        self.s3.put(&self.key(&format!("{path}/data")), DATA).await;
        self.s3.put(&self.key(&format!("{path}/manifest.json")), &signed(&manifest)).await;
        path
    }
}

fn left(report: &PurgeReport) -> (u64, u64, BackupsLeft) {
    let listing = report.stores[0].listing.clone().unwrap_or_else(|| panic!("not listed: {report:?}"));
    (report.stores[0].deleted, listing.found, listing.backups.expect("what they are"))
}

#[tokio::test]
async fn what_has_expired_goes_by_the_same_rules_as_every_day_and_the_rest_is_told() {
    let world = World::with(Bucket::Versions, 0).await;
    let [expired, soon, old, new] = [
        world.backup_of(DAY * 40).await,
        world.backup_of(DAY * 29 + HOUR).await,
        world.backup_of(DAY * 28).await,
        world.backup_of(DAY).await,
    ];
    world.s3.put(&world.key(&format!("{expired}/data")), b"other").await;
    world.s3.delete(&world.key(&format!("{soon}/data"))).await;
    world.s3.leave_upload(&world.key(&format!("{new}/data")), Duration::from_hours(48)).await;
    world.s3.put(&world.key("escrow/keyring.age"), b"keys").await;
    world.s3.put(&world.key("notes.txt"), b"not ours").await;
    let (report, log) = world.expire(Vec::new()).await;
    assert!(report.is_clean(), "{report:?} {log}");
    let (deleted, found, backups) = left(&report);
    assert_eq!((deleted, found, backups.count, backups.archives, backups.overdue), (2, 4, 2, 0, 0));
    assert_eq!(report.stores[0].listing.as_ref().map(|listing| listing.foreign), Some(1));
    let age = |at: Option<Timestamp>| Timestamp::now().duration_since(at.expect("a time")).as_hours() / 24;
    assert_eq!((age(backups.newest), age(backups.oldest), age(backups.expires)), (1, 28, -1));
    assert!(world.has(&old) && world.has(&new) && !world.has(&expired) && !world.has(&soon));
    assert!(world.has("escrow"), "withdrawing it is another Job's");
    assert_eq!((world.s3.older_versions(), world.s3.unfinished()), (0, 0));
}

#[tokio::test]
async fn once_everything_has_expired_the_listing_is_empty_and_says_so() {
    let world = World::with(Bucket::Versions, 0).await;
    let last = world.backup_of(DAY * 31).await;
    let (report, log) = world.expire(Vec::new()).await;
    let (deleted, found, backups) = left(&report);
    assert_eq!((deleted, found, backups.count, backups.expires), (1, 0, 0, None), "{log}");
    assert!(!world.has(&last) && world.s3.objects().is_empty());
    let (again, _) = world.expire(Vec::new()).await;
    assert_eq!((again.is_clean(), left(&again).1), (true, 0));
}

#[tokio::test]
async fn the_archive_of_a_hold_in_force_outlives_all_backups_and_goes_with_the_hold() {
    let world = World::with(Bucket::Versions, 0).await;
    let hold = |digit: &str| LiveHold {
        id: digit.repeat(64),
        name: "tax".to_owned(),
        until: Timestamp::now() + DAY * 900,
        archive: false,
    };
    let backup = world.backup_of(DAY * 31).await;
    let (kept, ended) = (world.old_archive(&"a".repeat(64)).await, world.old_archive(&"b".repeat(64)).await);
    let (report, log) = world.expire(vec![hold("a")]).await;
    let (deleted, found, backups) = left(&report);
    assert_eq!((deleted, found, backups.count, backups.archives), (2, 2, 0, 1), "{log}");
    assert!(world.has(&kept) && !world.has(&ended) && !world.has(&backup));
    let (report, _) = world.expire(Vec::new()).await;
    assert_eq!(left(&report).1, 0);
}

#[tokio::test]
async fn while_it_is_unknown_which_holds_live_backups_expire_and_all_archives_stay() {
    let world = World::with(Bucket::Versions, 0).await;
    let (backup, archive) = (world.backup_of(DAY * 31).await, world.old_archive(&"a".repeat(64)).await);
    let (report, log) = world.expire(None).await;
    let (deleted, found, backups) = left(&report);
    assert!(report.is_clean() && world.has(&archive) && !world.has(&backup), "{report:?} {log}");
    assert_eq!((deleted, found, backups.count, backups.archives, backups.overdue), (1, 2, 0, 1, 0));
}

#[tokio::test]
async fn what_a_lock_keeps_after_its_time_is_a_failure_and_one_store_keeps_no_other_waiting() {
    let mut world = World::with(Bucket::Lock { days: 20 }, 0).await;
    world.patience = 1;
    let locked = world.backup_of(DAY * 40).await;
    let nobody = S3Store { endpoint: "https://localhost:1".parse().ok(), ..world.store("tenants") };
    let stores = [("away", nobody, SECRET_KEY), ("locked", world.store("tenants"), SECRET_KEY)];
    let (report, log) = world.purge_of(Goes::Expired(expiry(Some(Vec::new()))), &stores).await;
    let reasons: Vec<_> = report.stores.iter().map(|store| failure(store).0).collect();
    assert_eq!(reasons, ["StoreUnreachable", "ObjectLocked"], "{log}");
    assert!(failure(&report.stores[1]).1.contains(&locked), "{report:?}");
    let listing = report.stores[1].listing.as_ref().expect("a listing");
    assert_eq!(listing.backups.as_ref().map(|backups| backups.overdue), Some(1));
    assert!(report.stores[0].listing.is_none());
}

#[tokio::test]
async fn a_report_of_as_many_stores_as_a_record_knows_is_not_cut() {
    let mut world = World::with(Bucket::Lock { days: 20 }, 0).await;
    world.patience = 1;
    for age in [40, 41] {
        world.backup_of(DAY * age).await;
    }
    let ids: Vec<_> = (0..8).map(|number| format!("0123456789abcde{number}")).collect();
    let stores: Vec<_> = ids.iter().map(|id| (id.as_str(), world.store("tenants"), SECRET_KEY)).collect();
    let (report, log) = world.purge_of(Goes::Expired(expiry(Some(Vec::new()))), &stores).await;
    assert!(report.stores.iter().all(|store| store.listing.is_some() && store.failure.is_some()), "{log}");
}

#[tokio::test]
async fn what_is_still_listed_after_the_store_said_that_it_deleted_it_is_a_failure() {
    let mut world = World::with(Bucket::Plain, 0).await;
    let kept = world.backup_of(DAY * 40).await;
    let proxy = Proxy::start(&mut world).await;
    proxy.fails(Fault { of: "DELETE ", times: 100, status: 200, code: "", after: false });
    let (report, log) = world.expire(Vec::new()).await;
    let (reason, message) = failure(&report.stores[0]);
    assert!(reason == "StoreUnreachable" && message.contains("still listed"), "{report:?} {log}");
    let (_, found, backups) = left(&report);
    assert!(world.has(&kept) && found > 0 && (backups.count, backups.overdue) == (1, 1), "{report:?}");
    proxy.fails(Fault { of: "DELETE ", times: 0, status: 200, code: "", after: false });
    let (report, log) = world.expire(Vec::new()).await;
    assert!(report.is_clean() && left(&report).1 == 0, "{report:?} {log}");
}
