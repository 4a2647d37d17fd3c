//! The newest backup of a site is restored for a drill, or the drill says why it can't be.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::backup::{
    DrillConfig, Drilled, PastErasure, RestoreConfig, Site,
    paths::{CONFIG, STORE},
};
use marketrelay_audit::Signer;
use marketrelay_keyring::{BackupIdentities, Keyring, SecretKey};
use marketrelay_relay::{
    audit::{self, Action, Actor, Deed},
    store::import::{Left, left},
};
use marketrelay_snapshot::SignedManifest;

use crate::{
    proxy::{Half, Proxy},
    tenant::{DATABASE, Taken, Tenant, id, signer},
    world::{DAY, Ended, Running, eventually},
};

/// Longer than it takes to end when that is asked.
const PROMPT: Duration = Duration::from_secs(10);

impl Tenant {
    /// Of the first site.
    fn spawn_drill(&self) -> Running {
        self.mount_keys();
        self.mount_credentials(STORE);
        let RestoreConfig {
            connection_id,
            namespace,
            name,
            sites,
            public_key,
            chain,
            retention,
            erasures,
            ..
        } = self.config.clone();
        let config = DrillConfig {
            connection_id,
            namespace,
            name,
            site: sites[0].clone(),
            public_key,
            chain,
            retention,
            oldest_seconds: DAY.as_secs(),
            erasures,
        };
        self.mount_erasures();
        self.world.mount(CONFIG, serde_yaml::to_string(&config).expect("YAML"));
        self.world.start_job("drill")
    }

    /// Runs the Job: it says nothing that it shouldn't, and leaves nothing behind.
    async fn run_drill(&self) -> Ended {
        let ended = self.spawn_drill().ended().await;
        for secret in ["AGE-SECRET-KEY", "buyer.example"] {
            assert!(!ended.log.contains(secret), "{}", ended.log);
        }
        let left: Vec<_> = self.files().into_keys().collect();
        assert!(left.is_empty(), "{left:?}");
        ended
    }

    /// Runs the Job, which succeeds.
    pub async fn drill(&self) -> Drilled {
        let Ended { report, log, .. } = self.run_drill().await;
        report.drilled.unwrap_or_else(|| panic!("{:?} {log}", report.failure))
    }

    /// Runs the Job, which fails: for which reason, and what it says.
    pub async fn drill_fails(&self) -> (String, String) {
        let ended = self.run_drill().await;
        assert_eq!(ended.report.drilled, None);
        (ended.reason().to_owned(), ended.message().to_owned())
    }

    /// With a backup of these orders, and away from the volume.
    async fn backed_up(&self, numbers: &[&str]) -> Taken {
        self.collect(numbers).await;
        let taken = self.back_up(Site::OnSite).await;
        self.lose_volume();
        taken
    }
}

/// With another manifest.
fn signed(taken: &Taken, signer: &Signer) -> Taken {
    let json = SignedManifest::sign(&taken.manifest, signer).and_then(|manifest| manifest.to_json());
    Taken { json: json.expect("JSON"), ..taken.clone() }
}

#[tokio::test]
async fn the_newest_backup_is_restored_and_what_that_took_is_reported() {
    let tenant = Tenant::start().await;
    tenant.collect(&["A1"]).await;
    tenant.back_up(Site::OnSite).await;
    tenant.collect(&["A2", "A3"]).await;
    let newest = tenant.back_up(Site::OnSite).await;
    tenant.collect(&["A4"]).await;
    tenant.back_up(Site::OffSite).await;
    tenant.lose_volume();
    let (begun, before) = (Instant::now(), Timestamp::now());
    let drilled = tenant.drill().await;
    assert_eq!((drilled.backup.as_str(), drilled.created_at), (newest.id(), newest.manifest.created_at));
    assert_eq!((drilled.opened, drilled.anonymised, drilled.erased), (3, 0, 0));
    let rows: u64 = newest.manifest.tables.iter().map(|table| table.rows).sum();
    assert!(rows > 3, "{rows}");
    assert_eq!(drilled.rows, rows);
    assert!(drilled.at > before && drilled.at < Timestamp::now(), "{drilled:?}");
    assert!(drilled.seconds <= begun.elapsed().as_secs(), "{drilled:?}");
}

#[tokio::test]
async fn a_newest_backup_whose_data_was_altered_fails_it_though_an_older_one_is_good() {
    let tenant = Tenant::start().await;
    tenant.collect(&["A1"]).await;
    tenant.back_up(Site::OnSite).await;
    let mut newest = tenant.take().await;
    let middle = newest.data.len() / 2;
    newest.data[middle] ^= 4;
    tenant.put(Site::OnSite, &newest).await;
    tenant.lose_volume();
    let (reason, message) = tenant.drill_fails().await;
    assert_eq!(reason, "BackupDamaged");
    for part in [newest.id(), "cronjob/bol-on-site", "cronjob/bol-on-drill"] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn a_newest_manifest_that_somebody_else_has_signed_fails_it_though_an_older_backup_is_good() {
    let tenant = Tenant::start().await;
    let good = tenant.backed_up(&["A1"]).await;
    let second = good.manifest.created_at.as_second();
    let later = || async { (Timestamp::now().as_second() > second).then_some(()) };
    eventually("the ids of backups tell which is newer", later).await;
    tenant.collect(&["A2"]).await;
    let forged = signed(&tenant.take().await, &Signer::new(&[9; 32]).expect("a key"));
    tenant.lose_volume();
    assert_eq!(tenant.drill().await.backup, good.id());
    tenant.put(Site::OnSite, &forged).await;
    let (reason, message) = tenant.drill_fails().await;
    assert_eq!(reason, "BackupDamaged");
    assert!(message.contains(forged.id()) && message.contains("signature"), "{message}");
    assert!(message.contains("cronjob/bol-on-site"), "{message}");
}

#[tokio::test]
async fn a_newest_backup_that_is_too_old_fails_it() {
    let tenant = Tenant::start().await;
    let mut taken = tenant.backed_up(&["A1"]).await;
    taken.manifest.created_at = Timestamp::now() - DAY - SignedDuration::from_mins(1);
    let old = signed(&taken, &signer(&tenant.keyring));
    tenant.put(Site::OnSite, &old).await;
    let (reason, message) = tenant.drill_fails().await;
    assert_eq!(reason, "BackupTooOld");
    assert!(message.contains(old.id()), "{message}");
}

#[tokio::test]
async fn a_site_without_a_backup_or_that_is_away_fails_it() {
    let mut tenant = Tenant::start().await;
    tenant.world.patience = 1;
    tenant.collect(&["A1"]).await;
    tenant.back_up(Site::OffSite).await;
    tenant.lose_volume();
    assert_eq!(tenant.drill_fails().await.0, "NoBackup");
    tenant.config.sites[0].store.endpoint = "https://localhost:1".parse().ok();
    assert_eq!(tenant.drill_fails().await.0, "StoreUnreachable");
}

#[tokio::test]
async fn without_the_identity_that_opens_it_or_with_another_keyring_it_fails() {
    let mut tenant = Tenant::start().await;
    let taken = tenant.backed_up(&["A1"]).await;
    tenant.identities = BackupIdentities::new(id());
    let (reason, message) = tenant.drill_fails().await;
    assert_eq!(reason, "IdentityMissing");
    assert!(message.contains(&taken.manifest.identity), "{message}");
    tenant.keyring = Keyring::generate(id()).expect("a keyring");
    assert_eq!(tenant.drill_fails().await.0, "KeyringInvalid");
}

#[tokio::test]
async fn what_was_erased_after_the_backup_is_seen_to_be_gone() {
    let mut tenant = Tenant::start().await;
    tenant.backed_up(&["A1", "A2"]).await;
    let subject = vec![tenant.subject("A1")];
    tenant.config.erasures.requests = vec![PastErasure { uid: "case-1".to_owned(), subject }];
    let drilled = tenant.drill().await;
    assert_eq!((drilled.opened, drilled.erased), (1, 1));
}

#[tokio::test]
async fn who_orders_again_after_an_erasure_that_the_backup_knows_fails_nothing() {
    let mut tenant = Tenant::start().await;
    tenant.collect(&["A1"]).await;
    tenant.erase("case-1", "A1").await;
    tenant.backed_up(&["A2"]).await;
    let subject = vec![tenant.subject("A1"), tenant.subject("A2")];
    tenant.config.erasures.requests = vec![PastErasure { uid: "case-1".to_owned(), subject }];
    let drilled = tenant.drill().await;
    assert_eq!((drilled.opened, drilled.erased), (1, 0));
}

#[tokio::test]
async fn what_an_import_left_that_should_be_gone_is_found() {
    let tenant = Tenant::start().await;
    tenant.collect(&["A1", "A2"]).await;
    let store = tenant.store();
    let now = Timestamp::now();
    let deeds = [(Action::Restored, "a backup"), (Action::OrdersErased, "case-1")];
    for (action, object) in deeds {
        let deed = Deed::new(action, Actor::Operator, object);
        store.write(move |connection| audit::append(connection, &deed, now)).await.expect("recorded");
    }
    store.close().await.expect("closed");
    let past = |uid: &str, number| PastErasure { uid: uid.to_owned(), subject: vec![tenant.subject(number)] };
    let requests = [past("case-1", "A1"), past("case-2", "A2"), past("case-1", "A3")];
    let path = tenant.file("marketrelay.db");
    let look = |now| left(&path, &SecretKey::from(DATABASE), &id(), &requests, now).expect("a look");
    assert_eq!(look(now), Left { erased: 1, overdue: None });
    let after = now + DAY * 91;
    let overdue = look(after).overdue.expect("its time has come");
    assert!(overdue > now && overdue <= after, "{overdue}");
    let last_second = Timestamp::from_second(overdue.as_second() - 1).expect("a time");
    assert_eq!((look(last_second).overdue, look(overdue).overdue), (None, Some(overdue)));
}

#[tokio::test]
async fn asked_to_end_it_ends_and_leaves_nothing() {
    let mut tenant = Tenant::start().await;
    let numbers: Vec<_> = (0..2000).map(|number| format!("A{number}")).collect();
    tenant.backed_up(&numbers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let proxy = Proxy::start(&mut tenant.world).await;
    tenant.config.sites[0].store.endpoint.clone_from(&tenant.world.config.store.endpoint);
    proxy.halves("/data", Half::Stalls);
    let running = tenant.spawn_drill();
    let begun = tenant.file("restored.db.restoring");
    eventually("it imports", || async { begun.exists().then_some(()) }).await;
    running.terminate();
    let asked = Instant::now();
    assert_eq!(running.ended().await.reason(), "Interrupted");
    assert!(asked.elapsed() < PROMPT, "{:?}", asked.elapsed());
    assert!(tenant.files().is_empty());
}
