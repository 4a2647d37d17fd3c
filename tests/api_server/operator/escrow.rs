//! Keys are escrowed before they seal anything, and a database that a connection had is known by its keyring.

use age::x25519::Identity;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use marketrelay_api::{MarketplaceConnection, labels};
use marketrelay_escrow::Escrow;
use serde_json::json;

use super::{
    Operator,
    backups::{
        BOTH, CONFIG, condition, connect, finish, furnish_stores, is_finished, is_suspended, jobs, leave,
        with_recipient,
    },
    change, connection, reason,
};
use crate::support::{Space, wait_for, with_namespace};

async fn secret(space: &Space, name: &str) -> Secret {
    wait_for(space, name, async || space.api::<Secret>().get_opt(name).await.expect("an answer")).await
}

fn entry(secret: &Secret, name: &str) -> Vec<u8> {
    secret.data.as_ref().and_then(|data| data.get(name)).map(|bytes| bytes.0.clone()).unwrap_or_default()
}

/// The names of the keys that seal nothing yet.
async fn pending(space: &Space) -> usize {
    let pending = entry(&secret(space, "bol-keyring").await, "pending");
    String::from_utf8(pending).expect("names").lines().count()
}

/// Waits for the released Job that escrows what `bol-escrow` holds now; ends it so.
async fn escrows(space: &Space, old_versions: u64) -> String {
    let (job, fingerprint) = wait_for(space, "a Job that escrows", async || {
        let keys = space.api::<Secret>().get_opt("bol-escrow").await.expect("an answer")?;
        let fingerprint = keys.annotations().get(labels::FINGERPRINT)?.clone();
        let mut jobs = jobs(space).await.into_iter();
        let job = jobs.find(|job| {
            job.name_any().starts_with("bol-off-escrow-") && !is_suspended(job) && !is_finished(job)
        })?;
        Some((job, fingerprint))
    })
    .await;
    let at = jiff::Timestamp::now();
    let report = json!({"escrowed": {"fingerprint": fingerprint, "at": at, "oldVersions": old_versions}});
    leave(space, &job, &report).await;
    finish(space, &job.name_any(), None).await;
    fingerprint
}

#[tokio::test]
async fn a_new_connections_keys_seal_nothing_until_a_job_has_escrowed_all_that_opens_its_backups() {
    with_namespace(|space| async move {
        let identity = Identity::generate();
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, &with_recipient(&identity.to_public())).await;
        connect(&space, "bol", BOTH).await;
        reason(&space, "bol", "RelayStarting").await;
        condition(&space, "bol", "Escrowed", "FirstRun").await;
        assert!(pending(&space).await > 30, "of all epochs");
        let fingerprint = escrows(&space, 0).await;
        wait_for(&space, "keys that seal", async || (pending(&space).await == 0).then_some(())).await;
        condition(&space, "bol", "Escrowed", "Escrowed").await;
        let keys = secret(&space, "bol-escrow").await;
        assert_eq!(entry(&keys, "fingerprint"), fingerprint.as_bytes());
        let escrow = Escrow::open(&entry(&keys, "keyring.age"), &identity).expect("it opens");
        let keyring = secret(&space, "bol-keyring").await;
        let live = keyring.data.iter().flatten().filter(|(name, _)| name.starts_with("epoch."));
        for (name, bytes) in live {
            assert_eq!(escrow.keyring.get(name), Some(bytes.0.as_slice()), "{name}");
        }
        assert!(escrow.keyring.iter().all(|(name, _)| !name.starts_with("volume.")));
        assert!(escrow.identities.iter().count() > 30);
        assert_eq!((escrow.namespace, escrow.name), (space.name.clone(), "bol".to_owned()));
        let made = jobs(&space).await.into_iter().filter(|job| job.name_any().contains("escrow")).count();
        assert_eq!(made, 1, "nothing has changed since");
    })
    .await;
}

#[tokio::test]
async fn the_same_keys_are_escrowed_in_a_new_store_while_the_job_of_the_old_one_is_still_there() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, &with_recipient(&Identity::generate().to_public())).await;
        connect(&space, "bol", BOTH).await;
        let fingerprint = escrows(&space, 0).await;
        condition(&space, "bol", "Escrowed", "Escrowed").await;
        let moved = "{spec: {backup: {offSite: {s3: {bucket: elsewhere}}}}}";
        change::<MarketplaceConnection>(&space, "bol", moved).await;
        condition(&space, "bol", "Escrowed", "FirstRun").await;
        assert_eq!(escrows(&space, 0).await, fingerprint);
        condition(&space, "bol", "Escrowed", "Escrowed").await;
    })
    .await;
}

#[tokio::test]
async fn without_recipients_a_condition_says_what_a_lost_cluster_costs_and_the_connection_is_ready_all_the_same()
 {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        connect(&space, "bol", BOTH).await;
        let (message, _) = condition(&space, "bol", "Escrowed", "NotEscrowed").await;
        assert!(message.contains("backup.escrow.recipients"), "{message}");
        assert_eq!(pending(&space).await, 0);
        operator.stop().await;
        let identity = Identity::generate();
        let operator = Operator::start(&space, &with_recipient(&identity.to_public())).await;
        escrows(&space, 2).await;
        condition(&space, "bol", "Escrowed", "Escrowed").await;
        let off_site = connection(&space, "bol").await.status.and_then(|status| status.backups?.off_site);
        assert_eq!(off_site.and_then(|site| site.escrowed).expect("keys").old_versions, 2);
        operator.stop().await;
        let _operator = Operator::start(&space, CONFIG).await;
        wait_for(&space, "no copy of keys that nobody wants", async || {
            space.api::<Secret>().get_opt("bol-escrow").await.expect("an answer").is_none().then_some(())
        })
        .await;
        condition(&space, "bol", "Escrowed", "NotEscrowed").await;
    })
    .await;
}
