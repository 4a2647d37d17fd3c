//! A closed connection's stores: all of it goes, nothing else does, and what is left is named.

use std::{fs, time::Duration};

use marketrelay_api::backup::{
    Goes, PurgeConfig, PurgeReport, PurgeStore, S3Store, StorePurge,
    paths::{CONFIG, STORES},
};
use tokio::time::timeout;

use crate::{
    relay::CONNECTION,
    s3::{ACCESS_KEY, Bucket, SECRET_KEY},
    world::{DAY, SOON, World},
};

impl World {
    /// Purges these stores with these secret keys; the report, and the log.
    async fn purge(&self, stores: &[(&str, S3Store, &str)]) -> (PurgeReport, String) {
        self.purge_of(Goes::Everything, stores).await
    }

    pub async fn purge_of(&self, goes: Goes, stores: &[(&str, S3Store, &str)]) -> (PurgeReport, String) {
        let config = PurgeConfig {
            connection_id: CONNECTION.to_owned(),
            namespace: "acme".to_owned(),
            name: "bol".to_owned(),
            goes,
            stores: stores
                .iter()
                .map(|(id, store, _)| PurgeStore { id: (*id).to_owned(), store: store.clone() })
                .collect(),
        };
        self.mount(CONFIG, serde_yaml::to_string(&config).expect("YAML"));
        for (id, _, key) in stores {
            self.mount(&format!("{STORES}/{id}.accessKeyId"), ACCESS_KEY);
            self.mount(&format!("{STORES}/{id}.secretAccessKey"), key);
        }
        let mut job = self.start_job("purge");
        let status = timeout(SOON, job.process.wait()).await.expect("it ends").expect("a status");
        let (log, text) = (job.log(), fs::read_to_string(&job.report).expect("a report"));
        assert!(text.len() < 4096, "the kubelet would cut it: {text}");
        assert!(!log.contains(SECRET_KEY) && !text.contains(SECRET_KEY), "{log}");
        let report: PurgeReport = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}: {log}"));
        assert_eq!(status.success(), report.is_clean(), "{report:?}");
        (report, log)
    }

    /// The connection's part under another prefix.
    pub fn store(&self, prefix: &str) -> S3Store {
        S3Store { prefix: format!("{prefix}/{CONNECTION}"), ..self.config.store.clone() }
    }
}

fn found(purge: &StorePurge) -> Option<(u64, u64, u64)> {
    purge.listing.as_ref().map(|listing| (purge.deleted, listing.found, listing.foreign))
}

pub fn failure(purge: &StorePurge) -> (&str, &str) {
    purge.failure.as_ref().map_or(("", ""), |failure| (&failure.reason, &failure.message))
}

#[tokio::test]
async fn all_versions_markers_and_uploads_of_a_closed_connection_go_from_both_stores_and_nothing_else() {
    let world = World::with(Bucket::Versions, 0).await;
    let (young, old) = (world.backup_of(DAY).await, world.backup_of(DAY * 400).await);
    world.s3.put(&world.key(&format!("{young}/data")), b"another version").await;
    world.s3.delete(&world.key(&format!("{old}/manifest.json"))).await;
    world.s3.leave_upload(&world.key(&format!("{young}/data")), Duration::ZERO).await;
    world.s3.put(&format!("far/{CONNECTION}/{young}/data"), b"far").await;
    for version in [b"older keys", b"newer keys"] {
        world.s3.put(&format!("far/{CONNECTION}/escrow/keyring.age"), version).await;
    }
    for object in ["data", "manifest.json"] {
        let archive = format!("holds/{}/{young}/{object}", "ab".repeat(32));
        world.s3.put(&world.key(&archive), b"of a hold").await;
    }
    let others = [
        format!("far/{CONNECTION}/notes.txt"),
        format!("tenants/{CONNECTION}-2/{young}/data"),
        format!("tenants/{CONNECTION}{young}/data"),
        format!("tenants/{}/{young}/data", CONNECTION.replace('3', "4")),
        format!("tenants/{young}/data"),
    ];
    for key in &others {
        world.s3.put(key, b"not ours").await;
    }
    world.s3.leave_upload(&others[1], Duration::ZERO).await;
    let stores = [("a", world.store("tenants"), SECRET_KEY), ("b", world.store("far"), SECRET_KEY)];
    let (report, log) = world.purge(&stores).await;
    assert!(report.is_clean(), "{report:?} {log}");
    assert_eq!(report.stores.iter().map(found).collect::<Vec<_>>(), [Some((9, 0, 0)), Some((3, 0, 1))]);
    let mut left = others.to_vec();
    left.sort();
    assert_eq!(world.s3.objects().into_keys().collect::<Vec<_>>(), left);
    assert_eq!((world.s3.older_versions(), world.s3.unfinished()), (0, 1));
    assert!(log.contains("notes.txt"), "what is left alone is named: {log}");
    let (again, _) = world.purge(&stores).await;
    assert_eq!(again.stores.iter().map(found).collect::<Vec<_>>(), [Some((0, 0, 0)), Some((0, 0, 1))]);
}

#[tokio::test]
async fn escrowed_keys_alone_go_from_a_store_that_was_left_with_all_their_versions() {
    let world = World::with(Bucket::Versions, 0).await;
    let kept = world.backup_of(DAY).await;
    let keys = world.key("escrow/keyring.age");
    for version in [b"older keys", b"newer keys"] {
        world.s3.put(&keys, version).await;
    }
    world.s3.delete(&keys).await;
    world.s3.leave_upload(&keys, Duration::ZERO).await;
    world.s3.put(&world.key("escrow-2/keyring.age"), b"not ours").await;
    let store = [("a", world.store("tenants"), SECRET_KEY)];
    let (report, log) = world.purge_of(Goes::Escrow, &store).await;
    assert!(report.is_clean(), "{report:?} {log}");
    assert_eq!(found(&report.stores[0]), Some((4, 0, 0)));
    let left = world.s3.objects();
    assert!(world.has(&kept) && left.contains_key(&world.key("escrow-2/keyring.age")), "the rest stays");
    assert!(!left.contains_key(&keys), "{left:?}");
    assert_eq!((world.s3.older_versions(), world.s3.unfinished()), (0, 0));
    let (again, _) = world.purge_of(Goes::Escrow, &store).await;
    assert_eq!(found(&again.stores[0]), Some((0, 0, 0)));
}

#[tokio::test]
async fn a_store_that_refuses_or_is_missing_is_named_and_the_others_are_purged() {
    let mut world = World::with(Bucket::Plain, 0).await;
    world.patience = 1;
    let kept = world.backup_of(DAY).await;
    world.s3.put(&format!("far/{CONNECTION}/{kept}/data"), b"far").await;
    let good = world.store("tenants");
    let elsewhere = S3Store { bucket: "elsewhere".to_owned(), ..good.clone() };
    let nobody = S3Store { endpoint: "https://localhost:1".parse().ok(), ..good.clone() };
    let stores = [
        ("refused", good.clone(), "another secret"),
        ("missing", elsewhere, SECRET_KEY),
        ("away", nobody, SECRET_KEY),
        ("whole", world.store("far"), SECRET_KEY),
    ];
    let (report, log) = world.purge(&stores).await;
    let reasons: Vec<_> = report.stores.iter().map(|purge| failure(purge).0).collect();
    assert_eq!(reasons, ["StoreRefused", "BucketNotFound", "StoreUnreachable", ""], "{log}");
    assert!(report.stores[..3].iter().all(|purge| found(purge).is_none()), "{report:?}");
    assert_eq!(found(&report.stores[3]), Some((1, 0, 0)));
    assert!(world.has(&kept));
    let many: Vec<_> = (0..8).map(|number| format!("store-{number}")).collect();
    let many: Vec<_> = many.iter().map(|id| (id.as_str(), good.clone(), "another secret")).collect();
    assert_eq!(world.purge(&many).await.0.stores.len(), 8);
}

#[tokio::test]
async fn what_a_lock_keeps_is_told_with_its_time_and_the_rest_goes() {
    let world = World::with(Bucket::Lock { days: 20 }, 0).await;
    world.backup_of(DAY).await;
    let upload = format!("{}/data", marketrelay_backup::BackupId::mint(jiff::Timestamp::now()));
    world.s3.leave_upload(&world.key(&upload), Duration::ZERO).await;
    let (report, log) = world.purge(&[("a", world.store("tenants"), SECRET_KEY)]).await;
    let purge = &report.stores[0];
    let until = (jiff::Timestamp::now() + DAY * 20).to_string();
    let (reason, message) = failure(purge);
    assert_eq!((reason, found(purge)), ("ObjectLocked", Some((1, 2, 0))), "{log}");
    assert!(message.contains("locked until") && message.contains(&until[..10]), "{message}");
    assert_eq!(world.s3.unfinished(), 0);
}

#[tokio::test]
async fn a_prefix_that_is_not_the_connections_own_is_refused_before_anything_is_asked() {
    let world = World::with(Bucket::Plain, 0).await;
    let kept = world.backup_of(DAY).await;
    let whole = S3Store { prefix: "tenants".to_owned(), ..world.config.store.clone() };
    let (report, _) = world.purge(&[("a", whole, SECRET_KEY)]).await;
    let failure = report.failure.expect("refused");
    assert!(failure.reason == "StoreInvalid" && failure.message.contains("connection's id"), "{failure:?}");
    assert!(world.has(&kept) && report.stores.is_empty());
}
