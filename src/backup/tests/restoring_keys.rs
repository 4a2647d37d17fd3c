//! Without the right keys nothing is restored, and what is wrong is named.

use jiff::Timestamp;
use marketrelay_api::backup::{Choice, PastErasure, Site};
use marketrelay_keyring::{BackupIdentities, Grid, Keyring};

use crate::{
    tenant::{Tenant, id, signer},
    world::DAY,
};

/// With a backup and without a database.
async fn lost() -> (Tenant, String) {
    let tenant = Tenant::start().await;
    tenant.collect(&["A1", "A2"]).await;
    let taken = tenant.back_up(Site::OnSite).await;
    tenant.lose_volume();
    (tenant, taken.id().to_owned())
}

fn only(keyring: &Keyring, is_kept: impl Fn(&str) -> bool) -> Keyring {
    let entries = keyring.entries();
    let kept = entries.iter().filter(|(name, _)| is_kept(name));
    Keyring::from_entries(kept.map(|(name, bytes)| (name.as_str(), bytes.as_slice()))).expect("a keyring")
}

#[tokio::test]
async fn a_keyring_that_is_not_the_connections_ends_it_at_once() {
    let (mut tenant, _) = lost().await;
    let own = tenant.keyring.clone();
    tenant.keyring = Keyring::generate(id()).expect("a keyring");
    let (reason, message) = tenant.refused().await;
    assert_eq!(reason, "KeyringInvalid");
    assert!(message.contains(&signer(&own).public_key()), "{message}");
    tenant.keyring = only(&own, |name| name != "audit");
    assert_eq!(tenant.refused().await.0, "KeyringInvalid");
    tenant.keyring = only(&own, |name| !name.starts_with("epoch."));
    let (reason, message) = tenant.refused().await;
    assert_eq!(reason, "KeyringInvalid");
    assert!(message.contains("has no key epoch."), "{message}");
    assert!(tenant.names().is_empty());
    tenant.keyring = own;
    assert_eq!(tenant.restore().await.orders, 2);
}

#[tokio::test]
async fn another_digest_key_ends_it_at_once() {
    let (mut tenant, _) = lost().await;
    tenant.digest = [3; 32];
    assert_eq!(tenant.refused().await.0, "DigestKeyInvalid");
    assert!(tenant.names().is_empty());
}

#[tokio::test]
async fn a_backup_whose_identity_is_gone_gives_way_and_is_named_if_it_was_chosen() {
    let (mut tenant, backup) = lost().await;
    let now = Timestamp::now();
    tenant.identities = BackupIdentities::new(id());
    assert_eq!(tenant.refused().await.0, "IdentityMissing");
    // One of the same name that isn't the same.
    tenant.identities.extend(Grid::new(&id(), DAY), now, now + DAY * 30);
    tenant.config.choice = Choice::Backup(backup);
    let (reason, message) = tenant.refused().await;
    assert_eq!(reason, "BackupDamaged");
    assert!(message.contains("identity"), "{message}");
    assert!(tenant.names().is_empty());
}

#[tokio::test]
async fn what_was_erased_after_the_backup_is_erased_again() {
    let (mut tenant, _) = lost().await;
    let subject = vec![tenant.subject("A1")];
    tenant.config.erasures.requests = vec![PastErasure { uid: "case-1".to_owned(), subject }];
    let restored = tenant.restore().await;
    assert_eq!((restored.orders, restored.erased), (1, 1));
    assert!(!tenant.has("A1").await && tenant.has("A2").await);
    // It stays away when the marketplace tells it again.
    tenant.collect(&["A1"]).await;
    assert!(!tenant.has("A1").await);
    assert_eq!(tenant.restore().await.erased, 1, "the same report of the same restore");
}

#[tokio::test]
async fn a_request_that_the_backup_knows_was_done_already() {
    let mut tenant = Tenant::start().await;
    tenant.collect(&["A1", "A2"]).await;
    tenant.erase("case-1", "A1").await;
    tenant.back_up(Site::OnSite).await;
    tenant.lose_volume();
    let subject = vec![tenant.subject("A1"), tenant.subject("A2")];
    tenant.config.erasures.requests = vec![PastErasure { uid: "case-1".to_owned(), subject }];
    let restored = tenant.restore().await;
    assert_eq!((restored.orders, restored.erased), (1, 0));
    assert!(!tenant.has("A1").await && tenant.has("A2").await);
}

#[tokio::test]
async fn a_backup_that_would_bring_back_what_nobody_knows_to_be_erased_gives_way_to_a_newer_one_or_fails() {
    let (mut tenant, _) = lost().await;
    tenant.config.erasures.since = Some(Timestamp::now());
    let (reason, message) = tenant.refused().await;
    assert_eq!(reason, "TooManyErasures");
    assert!(message.contains("would bring that back"), "{message}");
    assert!(tenant.names().is_empty());
    tenant.config.erasures.since = Some(Timestamp::now() - DAY);
    assert_eq!(tenant.restore().await.orders, 2);
}
