//! Escrowed keys are written whole, and no older version of them is left.

use std::{fs, time::Duration};

use jiff::Timestamp;
use marketrelay_api::backup::{
    EscrowedKeys, PastErasures,
    paths::{ESCROW, ESCROW_FINGERPRINT, ESCROWED},
};
use marketrelay_escrow::{Entries, Escrow, Identity, VERSION};

use crate::{
    proxy::{Fault, Proxy},
    relay::CONNECTION,
    s3::Bucket,
    world::{DAY, Ended, World, eventually},
};

const FIRST: &str = concat!(
    "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
    ".c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3"
);
const SECOND: &str = concat!(
    "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
    ".c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3"
);

/// A document with this chain, so that one differs from another.
fn sealed(chain: &str) -> Vec<u8> {
    let escrow = Escrow {
        version: VERSION,
        connection_id: CONNECTION.to_owned(),
        namespace: "acme".to_owned(),
        name: "bol".to_owned(),
        marketplace: "bol".to_owned(),
        chain: Some(chain.to_owned()),
        keyring: Entries::default(),
        identities: Entries::default(),
        digest_key: Entries::default(),
        erasures: PastErasures::default(),
    };
    escrow.seal(&[Identity::generate().to_public()]).expect("sealed")
}

impl World {
    fn mount_escrow(&self, document: &[u8], fingerprint: &str) {
        self.mount(&format!("{ESCROW}/{ESCROWED}"), document);
        self.mount(&format!("{ESCROW}/{ESCROW_FINGERPRINT}"), fingerprint);
    }

    /// Runs the Job with these keys.
    async fn escrow(&self, document: &[u8], fingerprint: &str) -> Ended {
        self.mount_escrow(document, fingerprint);
        self.spawn("escrow").ended().await
    }

    fn escrowed(&self) -> String {
        self.key("escrow/keyring.age")
    }
}

fn escrowed(ended: &Ended) -> &EscrowedKeys {
    ended.report.escrowed.as_ref().unwrap_or_else(|| panic!("{:?} {}", ended.report, ended.log))
}

async fn versions() -> World {
    World::with(Bucket::Versions, 1000).await
}

#[tokio::test]
async fn keys_are_written_and_read_back_and_whatever_was_there_before_is_gone() {
    let world = versions().await;
    let similar = format!("tenants/{CONNECTION}-2/escrow/keyring.age");
    for body in [b"one", b"two"] {
        world.s3.put(&similar, body).await;
    }
    let kept = world.backup_of(DAY).await;
    world.s3.put(&world.escrowed(), b"of a forgotten time").await;
    world.s3.delete(&world.escrowed()).await;
    world.s3.put(&world.key("escrow/keyring.age.old"), b"a copy of somebody").await;
    world.s3.leave_upload(&world.escrowed(), Duration::from_mins(1)).await;
    let (first, second) = (sealed("first"), sealed("second"));
    let before = Timestamp::now();
    let ended = world.escrow(&first, FIRST).await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    let ended = world.escrow(&second, SECOND).await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    let said = escrowed(&ended);
    assert_eq!((said.fingerprint.as_str(), said.old_versions), (SECOND, 0));
    assert!(said.at >= before && ended.report.listing.is_none(), "{said:?}");
    let objects = world.s3.objects();
    let below: Vec<_> = objects.keys().filter(|key| key.starts_with(&world.key("escrow"))).collect();
    assert_eq!(below, [&world.escrowed()]);
    assert_eq!(fs::read(&objects[&world.escrowed()]).expect("an object"), second);
    assert_eq!((world.s3.older_versions(), world.s3.unfinished()), (1, 0), "the similar tenant's alone");
    assert_eq!(fs::read(&objects[&similar]).expect("an object"), b"two");
    assert!(world.has(&kept));
}

#[tokio::test]
async fn a_bucket_without_versions_has_the_newest_keys_alone() {
    let world = World::with(Bucket::Plain, 1000).await;
    let second = sealed("second");
    for (document, fingerprint) in [(&sealed("first"), FIRST), (&second, SECOND)] {
        let ended = world.escrow(document, fingerprint).await;
        assert!(ended.success, "{:?} {}", ended.report, ended.log);
        assert_eq!((escrowed(&ended).fingerprint.as_str(), escrowed(&ended).old_versions), (fingerprint, 0));
    }
    assert_eq!(fs::read(&world.s3.objects()[&world.escrowed()]).expect("an object"), second);
}

#[tokio::test]
async fn old_keys_that_an_object_lock_keeps_are_a_failure_that_tells_what_is_written_all_the_same() {
    let world = World::with(Bucket::Lock { days: 1 }, 1000).await;
    let ended = world.escrow(&sealed("first"), FIRST).await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    let ended = world.escrow(&sealed("second"), SECOND).await;
    assert_eq!(ended.reason(), "ObjectLocked", "{}", ended.log);
    assert!(ended.message().starts_with("1 older version"), "{}", ended.message());
    assert_eq!((escrowed(&ended).fingerprint.as_str(), escrowed(&ended).old_versions), (SECOND, 1));
}

#[tokio::test]
async fn old_keys_that_may_not_be_deleted_are_named() {
    let mut world = versions().await;
    world.s3.put(&world.escrowed(), b"of a forgotten time").await;
    world.s3.put(&world.key("escrow/more"), b"of a forgotten time").await;
    let proxy = Proxy::start(&mut world).await;
    proxy.fails(Fault { of: "versionId", times: 1, status: 403, code: "AccessDenied", after: false });
    let ended = world.escrow(&sealed("first"), FIRST).await;
    assert_eq!(ended.reason(), "StoreRefused", "{}", ended.log);
    assert_eq!((escrowed(&ended).fingerprint.as_str(), escrowed(&ended).old_versions), (FIRST, 1));
    let ended = world.escrow(&sealed("first"), FIRST).await;
    assert!(ended.success && escrowed(&ended).old_versions == 0, "{:?} {}", ended.report, ended.log);
}

#[tokio::test]
async fn keys_that_are_not_read_back_as_they_were_written_or_not_listed_are_not_escrowed() {
    let mut world = versions().await;
    world.patience = 1;
    let proxy = Proxy::start(&mut world).await;
    for (of, status, code, reason) in [
        ("PUT", 403, "AccessDenied", "StoreRefused"),
        ("PUT", 507, "InsufficientStorage", "StoreFull"),
        ("keyring.age", 503, "SlowDown", "StoreThrottled"),
        ("versions", 500, "InternalError", "StoreUnreachable"),
        ("uploads", 501, "NotImplemented", "StoreInvalid"),
    ] {
        proxy.fails(Fault { of, times: usize::MAX, status, code, after: false });
        let ended = world.escrow(&sealed("first"), FIRST).await;
        assert_eq!((ended.reason(), &ended.report.escrowed), (reason, &None), "{of}: {}", ended.log);
    }
    world.patience = 20;
    proxy.fails(Fault { of: "keyring.age", times: 2, status: 503, code: "SlowDown", after: true });
    let ended = world.escrow(&sealed("first"), FIRST).await;
    assert!(ended.success, "what passes is waited for: {:?} {}", ended.report, ended.log);
    assert_eq!((proxy.left(), world.s3.older_versions()), (0, 0));
}

#[tokio::test]
async fn a_mounted_secret_that_is_not_whole_is_named_and_nothing_is_written() {
    let world = versions().await;
    world.mount(&format!("{ESCROW}/{ESCROW_FINGERPRINT}"), FIRST);
    let ended = world.spawn("escrow").ended().await;
    assert_eq!(ended.reason(), "KeyringInvalid", "{}", ended.log);
    assert!(ended.message().contains("keyring.age"), "{}", ended.message());
    let document = sealed("first");
    for (document, fingerprint, word) in [
        (&document[..], "", "fingerprint"),
        (&document[..], "not hex", "fingerprint"),
        (&b""[..], FIRST, "keyring.age"),
        (&document[..30], FIRST, "keyring.age"),
        (&b"AGE-SECRET-KEY-1"[..], FIRST, "keyring.age"),
    ] {
        let ended = world.escrow(document, fingerprint).await;
        assert_eq!((ended.reason(), &ended.report.escrowed), ("KeyringInvalid", &None), "{}", ended.log);
        assert!(ended.message().contains(word), "{}", ended.message());
    }
    assert_eq!(world.s3.objects().len(), 0);
}

#[tokio::test]
async fn asked_to_end_it_ends_without_having_said_that_keys_are_escrowed() {
    let mut world = versions().await;
    world.patience = 600;
    let proxy = Proxy::start(&mut world).await;
    let times = usize::MAX;
    proxy.fails(Fault { of: "versions", times, status: 503, code: "SlowDown", after: false });
    world.mount_escrow(&sealed("first"), FIRST);
    let job = world.spawn("escrow");
    eventually("it lists", || async { (proxy.left() < times).then_some(()) }).await;
    job.terminate();
    let ended = job.ended().await;
    assert_eq!((ended.reason(), &ended.report.escrowed), ("Interrupted", &None), "{}", ended.log);
}

#[tokio::test]
async fn escrowed_keys_are_pruned_by_no_other_job_and_are_not_foreign() {
    let mut world = versions().await;
    world.config.escrow = true;
    world.s3.put(&world.escrowed(), b"of a forgotten time").await;
    let document = sealed("first");
    world.s3.put(&world.escrowed(), &document).await;
    let backup = world.backup_of(DAY).await;
    let of_backup: u64 = {
        let objects = world.s3.objects();
        let of = |key: &&String| key.contains(&backup);
        objects.keys().filter(of).map(|key| fs::metadata(&objects[key]).expect("an object").len()).sum()
    };
    let ended = world.prune().await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    let listing = ended.listing();
    assert_eq!((listing.backups, listing.foreign, listing.overdue), (1, 0, 0));
    assert_eq!(listing.bytes, of_backup + document.len() as u64 + b"of a forgotten time".len() as u64);
    assert_eq!(world.s3.older_versions(), 1);
}

#[tokio::test]
async fn keys_that_are_not_to_be_escrowed_any_more_are_pruned_with_all_their_versions() {
    let mut world = versions().await;
    let backup = world.backup_of(DAY).await;
    world.s3.put(&world.escrowed(), b"of a forgotten time").await;
    world.s3.put(&world.escrowed(), b"of yesterday").await;
    world.s3.delete(&world.escrowed()).await;
    world.s3.leave_upload(&world.escrowed(), Duration::from_mins(1)).await;
    let proxy = Proxy::start(&mut world).await;
    proxy.fails(Fault { of: "versionId", times: 1, status: 403, code: "AccessDenied", after: false });
    let ended = world.prune().await;
    assert_eq!((ended.reason(), ended.listing().overdue), ("StoreRefused", 1), "{}", ended.log);
    assert!(ended.message().starts_with("escrowed keys"), "{}", ended.message());
    let ended = world.prune().await;
    assert!(ended.success && ended.listing().overdue == 0, "{:?} {}", ended.report, ended.log);
    assert_eq!((world.s3.older_versions(), world.s3.unfinished()), (0, 0));
    assert!(world.has(&backup) && !world.has("escrow"));
}
