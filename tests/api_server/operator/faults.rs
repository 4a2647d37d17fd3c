//! What a connection can't work with is said, and it goes on by itself once that is mended.

use std::time::{Duration, Instant};

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ResourceQuota, Secret},
};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use marketrelay_api::{MarketplaceConnection, RetentionPolicy};
use serde_json::json;

use super::{
    CONFIG, Operator, apply, audit, change, class, connect, connected, connection, furnish, identity, reason,
};
use crate::support::{Space, wait_for, with_namespace};

#[tokio::test]
async fn durations_below_a_day_need_the_operators_permission() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        let short = json!({"keyEpoch": "1m", "anonymizeAfter": "10m", "deleteAfterShipment": "5m",
            "amazon": {"anonymizeAfter": "10m"}});
        apply::<RetentionPolicy>(space.api(), json!({"metadata": {"name": "quick"}, "spec": short})).await;
        connect(&space, "bol").await;
        change::<MarketplaceConnection>(&space, "bol", "{spec: {retentionPolicyRef: {name: quick}}}").await;
        let message = reason(&space, "bol", "PolicyNotReady").await;
        assert!(message.contains("RetentionPolicy quick: spec.anonymizeAfter: 10m"), "{message}");
        policy(&space, "ShortDurationsNotAllowed").await;
        operator.stop().await;
        let _operator =
            Operator::start(&space, &CONFIG.replacen('{', "{allowShortDurations: true, ", 1)).await;
        reason(&space, "bol", "RelayStarting").await;
        policy(&space, "Ready").await;
    })
    .await;
}

async fn policy(space: &Space, reason: &str) {
    wait_for(space, &format!("the policy is {reason}"), async || {
        let policy = space.api::<RetentionPolicy>().get("quick").await.expect("a policy");
        (policy.status?.conditions.first()?.reason == reason).then_some(())
    })
    .await;
}

#[tokio::test]
async fn connections_of_a_namespace_share_its_digest_key_and_nothing_else() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "one").await;
        let digest = space.api::<Secret>().get("marketrelay-digest-key").await.expect("a key");
        connected(&space, "two").await;
        let after = space.api::<Secret>().get("marketrelay-digest-key").await.expect("a key");
        assert_eq!((after.uid(), after.data), (digest.uid(), digest.data));
        assert_ne!(identity(&space, "one").await, identity(&space, "two").await);
        let secret = async |name: &str| space.api::<Secret>().get(name).await.expect(name).data;
        assert_ne!(secret("one-database-key").await, secret("two-database-key").await);
        for name in ["one-relay", "two-relay"] {
            let set = space.api::<StatefulSet>().get(name).await.expect("a StatefulSet");
            let pod = serde_json::to_string(&set).expect("text");
            assert!(pod.contains("marketrelay-digest-key"), "{pod}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_class_that_turns_out_to_be_encrypted_lets_its_connections_go_on_without_an_edit() {
    with_namespace(|space| async move {
        furnish(&space).await;
        class(&space, &json!({})).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connect(&space, "bol").await;
        let message = reason(&space, "bol", "StorageNotEncrypted").await;
        let mend = format!("kubectl annotate storageclass {} marketrelay.dev/encrypted=true", space.name);
        assert!(message.contains(&mend), "{message}");
        assert!(space.api::<StatefulSet>().get_opt("bol-relay").await.expect("an answer").is_none());
        class(&space, &json!({"marketrelay.dev/encrypted": "true"})).await;
        reason(&space, "bol", "RelayStarting").await;
        assert_eq!(connection(&space, "bol").await.metadata.generation, Some(1));
    })
    .await;
}

/// No controller counts here.
async fn quota(space: &Space, claims: u32) {
    let status = json!({"status": {"hard": {"persistentvolumeclaims": claims.to_string()},
        "used": {"persistentvolumeclaims": "0"}}});
    let api = space.api::<ResourceQuota>();
    api.patch_status("few", &PatchParams::default(), &Patch::Merge(status)).await.expect("a quota");
}

fn attempts(space: &Space) -> usize {
    let requests = audit::requests(space);
    requests
        .iter()
        .filter(|request| request.is_write() && request.object_ref.resource == "persistentvolumeclaims")
        .count()
}

#[tokio::test]
async fn an_exhausted_quota_is_said_and_tried_again_without_haste() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let spec = json!({"hard": {"persistentvolumeclaims": "0"}});
        apply::<ResourceQuota>(space.api(), json!({"metadata": {"name": "few"}, "spec": spec})).await;
        quota(&space, 0).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connect(&space, "bol").await;
        let message = reason(&space, "bol", "QuotaExceeded").await;
        assert!(
            message.contains("few") && message.contains("raise the namespace's ResourceQuota"),
            "{message}"
        );
        // What it made and wrote until here brought it here once more.
        let settled = attempts(&space) + 2;
        wait_for(&space, "it is tried again", async || (attempts(&space) >= settled).then_some(())).await;
        let (began, before) = (Instant::now(), audit::requests(&space).len());
        wait_for(&space, "eight more", async || (attempts(&space) >= settled + 8).then_some(())).await;
        // It may look every 5 s, and whenever another test makes a StorageClass; a hot loop needs 2 s for eight.
        assert!(began.elapsed() >= Duration::from_secs(8), "eight attempts within {:?}", began.elapsed());
        let requests = audit::requests(&space).len() - before;
        assert!(requests < 120, "{requests} requests for eight attempts");
        quota(&space, 5).await;
        reason(&space, "bol", "RelayStarting").await;
    })
    .await;
}
