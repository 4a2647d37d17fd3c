//! From one connection to its children, and an identity and keys that are made once.

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams},
};
use marketrelay_api::MarketplaceConnection;

use super::{
    CONFIG, Operator, audit, change,
    children::{APPLIED, KEYS, api, child},
    connect, connected, delete, furnish, identity, reason, version,
};
use crate::support::{Space, wait_for, with_namespace};

#[tokio::test]
async fn children_go_with_their_connection_except_what_its_data_needs() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        let uid = connect(&space, "bol").await.uid();
        reason(&space, "bol", "RelayStarting").await;
        for kind in APPLIED.into_iter().chain(KEYS) {
            let child = child(&space, "bol", kind).await;
            let outlives = ["-data", "-keyring", "-database-key"].contains(&kind.2);
            let owners: Vec<_> =
                child.owner_references().iter().map(|owner| Some(owner.uid.clone())).collect();
            let expected = if outlives { vec![] } else { vec![uid.clone()] };
            assert_eq!(owners, expected, "{kind:?}");
            for (label, value) in [
                ("app.kubernetes.io/managed-by", "marketrelay-operator"),
                ("marketrelay.dev/connection", "bol"),
            ] {
                assert_eq!(child.labels().get(label).map(String::as_str), Some(value), "{kind:?} {label}");
            }
        }
        let account = child(&space, "bol", APPLIED[0]).await;
        assert_eq!(account.data["automountServiceAccountToken"], false);
        let claim = child(&space, "bol", APPLIED[3]).await;
        assert_eq!(claim.data["spec"]["accessModes"], serde_json::json!(["ReadWriteOncePod"]));
        let id = identity(&space, "bol").await;
        assert_eq!(claim.labels()["marketrelay.dev/connection-id"], id);
        operator.stop().await;
    })
    .await;
}

async fn keys(space: &Space) -> Vec<Secret> {
    let mut keys = Vec::new();
    for name in ["bol-keyring", "bol-database-key", "marketrelay-digest-key"] {
        keys.push(space.api::<Secret>().get(name).await.expect(name));
    }
    keys
}

#[tokio::test]
async fn keys_are_made_once_and_stay_whatever_else_changes() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        let before = keys(&space).await;
        for name in ["bol-keyring", "bol-database-key", "marketrelay-digest-key"] {
            let label = "{metadata: {labels: {team: blue}, annotations: {marketrelay.dev/renew-after: now}}}";
            change::<Secret>(&space, name, label).await;
        }
        change::<ConfigMap>(&space, "bol-relay", "{data: {relay.yaml: broken}}").await;
        change::<MarketplaceConnection>(&space, "bol", "{spec: {pollInterval: 2m}}").await;
        wait_for(&space, "a new configuration", async || {
            let map = space.api::<ConfigMap>().get("bol-relay").await.expect("a ConfigMap");
            map.data?["relay.yaml"].contains("pollIntervalSeconds: 120").then_some(())
        })
        .await;
        for (before, after) in before.iter().zip(keys(&space).await) {
            assert_eq!(before.data, after.data);
            assert_eq!(after.labels().get("team").map(String::as_str), Some("blue"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_lost_keyring_is_never_made_anew_and_works_again_once_it_is_put_back() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        let mut keyring = space.api::<Secret>().get("bol-keyring").await.expect("a keyring");
        delete::<Secret>(&space, "bol-keyring").await;
        let message = reason(&space, "bol", "KeyringLost").await;
        assert!(message.contains("bol-keyring") && message.contains("restore"), "{message}");
        operator.stop().await;
        let looks = audit::looks(&space);
        let _operator = Operator::start(&space, CONFIG).await;
        wait_for(&space, "two more looks", async || (audit::looks(&space) >= looks + 2).then_some(())).await;
        reason(&space, "bol", "KeyringLost").await;
        let found = space.api::<Secret>().get_opt("bol-keyring").await.expect("an answer");
        assert!(found.is_none(), "made anew");
        keyring.metadata.resource_version = None;
        keyring.metadata.uid = None;
        space.api::<Secret>().create(&PostParams::default(), &keyring).await.expect("put back");
        reason(&space, "bol", "RelayStarting").await;
    })
    .await;
}

async fn retained(space: &Space) -> Option<String> {
    let claim = space.api::<PersistentVolumeClaim>().get("bol-data").await.expect("a claim");
    let keyring = space.api::<Secret>().get("bol-keyring").await.expect("a keyring");
    let marks =
        [claim.labels(), keyring.labels()].map(|labels| labels.get("marketrelay.dev/retained").cloned());
    assert!(claim.owner_references().is_empty() && keyring.owner_references().is_empty());
    (marks[0] == marks[1]).then(|| marks[0].clone().unwrap_or_else(|| "in use".to_owned()))
}

/// As Kubernetes does with what belonged to a connection that is gone.
pub(super) async fn collect_garbage(space: &Space) {
    for kind in APPLIED {
        let garbage = child(space, "bol", kind).await;
        if !garbage.owner_references().is_empty() {
            let deleted =
                api(space, kind.0, kind.1).delete(&garbage.name_any(), &DeleteParams::default()).await;
            deleted.expect("deleted");
        }
    }
}

#[tokio::test]
async fn an_identity_is_minted_once_and_survives_restarts_and_a_connection_that_comes_back() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        let id = identity(&space, "bol").await;
        let keyring = keys(&space).await.remove(0);
        operator.stop().await;
        let _operator = Operator::start(&space, CONFIG).await;
        delete::<MarketplaceConnection>(&space, "bol").await;
        wait_for(&space, "marked as retained", async || retained(&space).await.filter(|mark| mark == "true"))
            .await;
        collect_garbage(&space).await;
        connected(&space, "bol").await;
        wait_for(&space, "adopted", async || retained(&space).await.filter(|mark| mark == "in use")).await;
        assert_eq!(identity(&space, "bol").await, id);
        let after = keys(&space).await.remove(0);
        assert_eq!(after.data, keyring.data);
        assert_ne!(version(&after), version(&keyring), "its label came and went");
    })
    .await;
}
