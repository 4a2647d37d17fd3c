//! The relays' audit logs: signed with a key from the keyring, their head pinned, and a contradiction told until a person
//! has looked.

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Pod, Secret},
    events::v1::Event,
};
use kube::api::{ListParams, Patch, PatchParams};
use marketrelay_api::{MarketplaceConnection, connection::PinnedAudit};
use serde_json::{Value, json};

use super::{CONFIG, Operator, apply, change, connected, connection, furnish, kubelet::Volume};
use crate::support::{Space, wait_for, with_namespace};

/// Says of the relay's pod that it runs, as a kubelet does.
pub(super) async fn running(space: &Space) {
    let pod = json!({"metadata": {"name": "bol-relay-0", "labels": {
            "app.kubernetes.io/name": "marketrelay", "app.kubernetes.io/managed-by": "marketrelay-operator",
            "app.kubernetes.io/component": "relay", "app.kubernetes.io/instance": "bol", "marketrelay.dev/connection": "bol"}},
        "spec": {"serviceAccountName": "bol-relay", "automountServiceAccountToken": false, "containers": [{"name": "relay", "image": "registry.example/relay:1"}]}});
    apply::<Pod>(space.api(), pod).await;
    let status = Patch::Merge(json!({"status": {"phase": "Running"}}));
    space.api::<Pod>().patch_status("bol-relay-0", &PatchParams::default(), &status).await.expect("a status");
}

async fn pinned(space: &Space) -> Option<PinnedAudit> {
    connection(space, "bol").await.status.unwrap_or_default().audit
}

/// Waits for a reason of AuditIntact; gives its message.
async fn intact(space: &Space, reason: &str) -> String {
    wait_for(space, &format!("AuditIntact is {reason}"), async || {
        let conditions = connection(space, "bol").await.status.unwrap_or_default().conditions;
        let found = conditions.into_iter().find(|condition| condition.type_ == "AuditIntact")?;
        (found.reason == reason).then_some(found.message)
    })
    .await
}

async fn audit_key(space: &Space) -> Option<Vec<u8>> {
    let secret = space.api::<Secret>().get("bol-keyring").await.expect("a keyring");
    Some(secret.data?.get("audit")?.0.clone())
}

/// Writes the status as somebody else than the operator can, or a person who has looked.
async fn set(space: &Space, audit: Value) {
    let patch = Patch::Merge(json!({"status": {"audit": audit}}));
    space
        .api::<MarketplaceConnection>()
        .patch_status("bol", &PatchParams::default(), &patch)
        .await
        .expect("a status");
}

async fn told(space: &Space, reason: &str) {
    wait_for(space, &format!("an event {reason}"), async || {
        let events = space.api::<Event>().list(&ListParams::default()).await.expect("events");
        events.items.into_iter().find(|event| event.reason.as_deref() == Some(reason)).map(drop)
    })
    .await;
}

#[tokio::test]
async fn an_older_keyring_gets_its_key_once_its_relay_asks_and_the_head_is_pinned() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        change::<Secret>(&space, "bol-keyring", "{data: {audit: null}}").await;
        let before = space.api::<Secret>().get("bol-keyring").await.expect("a keyring");
        let volume = Volume::new();
        let pod = volume.start(&space, "bol").await;
        running(&space).await;
        let key = wait_for(&space, "a key for the audit log", async || audit_key(&space).await).await;
        assert_eq!(key.len(), 32);
        let after = space.api::<Secret>().get("bol-keyring").await.expect("a keyring");
        let (mut old, mut new) = (before.data.unwrap_or_default(), after.data.unwrap_or_default());
        new.remove("audit");
        old.retain(|name, _| !name.starts_with("epoch."));
        assert!(old.iter().all(|(name, key)| new.get(name) == Some(key)), "nothing else has changed");
        assert_eq!(pinned(&space).await, None);
        pod.stop().await;
        let pod = volume.start(&space, "bol").await;
        intact(&space, "AuditIntact").await;
        let head = pinned(&space).await.expect("a pinned head");
        assert!(head.sequence > 0 && head.checked_at.0 <= Timestamp::now(), "{head:?}");
        assert_eq!(audit_key(&space).await, Some(key), "it stays");
        pod.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_log_that_goes_backwards_or_is_another_one_alarms_until_a_person_has_looked() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        let volume = Volume::new();
        let pod = volume.start(&space, "bol").await;
        running(&space).await;
        intact(&space, "AuditIntact").await;
        let head = pinned(&space).await.expect("a pinned head");
        set(&space, json!({"sequence": 4_711})).await;
        let message = intact(&space, "AuditRewritten").await;
        assert!(message.contains("4711") && message.contains("status.audit"), "{message}");
        told(&space, "AuditRewritten").await;
        assert_eq!(pinned(&space).await.expect("it stays").sequence, 4_711);
        set(&space, Value::Null).await;
        intact(&space, "AuditIntact").await;
        pod.stop().await;
        // The volume is lost, and the relay begins anew.
        let another = Volume::new();
        let pod = another.start(&space, "bol").await;
        intact(&space, "AuditBegunAnew").await;
        assert_eq!(pinned(&space).await.expect("it stays").chain, head.chain);
        pod.stop().await;
    })
    .await;
}
