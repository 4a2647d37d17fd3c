//! A connection's life: policy, suspension, deletion, adoption, the namespace's end.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Secret},
};
use kube::{Api, ResourceExt, api::DeleteParams};
use marketrelay_api::{MarketplaceConnection, RetentionPolicy};
use serde_json::json;

use crate::{
    cluster::{together, wait_for},
    tenant::{SOON, with_tenant},
};

#[tokio::test]
async fn a_changed_policy_reaches_its_connections_and_counts_them() {
    let _company = together().await;
    with_tenant("policy", async |tenant| {
        let policy = |days: u32| {
            json!({"apiVersion": "marketrelay.dev/v1alpha1", "kind": "RetentionPolicy",
                   "metadata": {"name": "standard"}, "spec": {"anonymizeAfter": format!("{days}d")}})
        };
        tenant.apply(&policy(60));
        tenant.seller("bol", 3).await;
        let mut connection = tenant.connection("bol");
        connection["spec"]["retentionPolicyRef"] = json!({"name": "standard"});
        tenant.apply(&connection);
        tenant.ready("bol").await;
        tenant.apply(&policy(20));
        wait_for("the relay runs with 20 days", SOON, async || {
            let map = tenant.api::<ConfigMap>().get("bol-relay").await.map_err(|error| error.to_string())?;
            let file = map.data.unwrap_or_default()["relay.yaml"].clone();
            let status = tenant.get("bol").await?.status.ok_or("no status")?;
            let shown = status.retention.map(|retention| retention.anonymize_after.to_string());
            let reached = file.contains("anonymizeAfterSeconds: 1728000") && shown.as_deref() == Some("20d");
            if reached { Ok(()) } else { Err(format!("{shown:?} {file}")) }
        })
        .await;
        tenant.ready("bol").await;
        wait_for("the policy counts its connection", SOON, async || {
            let policy =
                tenant.api::<RetentionPolicy>().get("standard").await.map_err(|error| error.to_string())?;
            let status = policy.status.ok_or("no status")?;
            let effective = status.effective.map(|effective| effective.bol.anonymize_after.to_string());
            if status.connections == 1 && effective.as_deref() == Some("20d") {
                Ok(())
            } else {
                Err(format!("{effective:?}"))
            }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_suspended_connection_collects_nothing_and_goes_on_afterwards() {
    let _company = together().await;
    with_tenant("suspend", async |tenant| {
        tenant.connect("bol", 2).await;
        tenant.all_arrived("bol").await;
        let mut connection = tenant.connection("bol");
        connection["spec"]["suspend"] = json!(true);
        tenant.apply(&connection);
        tenant.condition("bol", "Ready", "False", Some("Suspended")).await;
        tenant.condition("bol", "Collecting", "False", Some("Suspended")).await;
        tenant.order("bol", 4).await;
        connection["spec"]["suspend"] = json!(false);
        tenant.apply(&connection);
        tenant.ready("bol").await;
        tenant.all_arrived("bol").await;
        assert_eq!(tenant.summary().await["orders"], 6);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_connection_keeps_its_data_and_adopts_it_when_it_is_applied_again() {
    let _company = together().await;
    with_tenant("adopted", async |tenant| {
        tenant.connect("bol", 8).await;
        tenant.all_arrived("bol").await;
        let id = tenant.get("bol").await.expect("the connection").status.expect("a status").connection_id;
        let connections = tenant.api::<MarketplaceConnection>();
        connections.delete("bol", &DeleteParams::default()).await.expect("deleted");
        wait_for("the pod goes, volume and keys are labelled as retained", SOON, async || {
            if tenant.api::<StatefulSet>().get_opt("bol-relay").await.is_ok_and(|set| set.is_some()) {
                return Err("the StatefulSet is still there".to_owned());
            }
            let claim = tenant
                .api::<PersistentVolumeClaim>()
                .get("bol-data")
                .await
                .map_err(|error| error.to_string())?;
            let keyring =
                tenant.api::<Secret>().get("bol-keyring").await.map_err(|error| error.to_string())?;
            let retained = |labels: &std::collections::BTreeMap<String, String>| {
                labels.get("marketrelay.dev/retained").is_some_and(|value| value == "true")
            };
            let unowned = claim.owner_references().is_empty() && keyring.owner_references().is_empty();
            assert!(unowned, "retained objects have no owner");
            if retained(claim.labels()) && retained(keyring.labels()) {
                Ok(())
            } else {
                Err("not labelled".to_owned())
            }
        })
        .await;
        tenant.order("bol", 4).await;
        tenant.apply(&tenant.connection("bol"));
        tenant.ready("bol").await;
        tenant.all_arrived("bol").await;
        let adopted =
            tenant.get("bol").await.expect("the connection").status.expect("a status").connection_id;
        assert_eq!(adopted, id);
        let summary = tenant.summary().await;
        assert_eq!((&summary["orders"], &summary["repeatedEvents"]), (&json!(12), &json!(0)), "{summary}");
        wait_for("the label goes", SOON, async || {
            let claim = tenant
                .api::<PersistentVolumeClaim>()
                .get("bol-data")
                .await
                .map_err(|error| error.to_string())?;
            if claim.labels().contains_key("marketrelay.dev/retained") {
                Err("still labelled".to_owned())
            } else {
                Ok(())
            }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_namespace_is_deleted_at_once_and_cleanly() {
    let _company = together().await;
    with_tenant("end", async |tenant| {
        for marketplace in ["bol", "ebay"] {
            tenant.connect(marketplace, 3).await;
        }
        let namespaces = Api::<Namespace>::all(tenant.client.clone());
        namespaces.delete(&tenant.name, &DeleteParams::default()).await.expect("deleted");
        wait_for("the namespace is gone", SOON, async || match namespaces.get_opt(&tenant.name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{:?}", other.map(|namespace| namespace.and_then(|n| n.status)))),
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn drift_is_repaired() {
    let _company = together().await;
    with_tenant("drift", async |tenant| {
        tenant.connect("bol", 1).await;
        tenant.kubectl(&["delete", "service", "bol-relay"]).expect("deleted");
        tenant
            .kubectl(&[
                "label",
                "statefulset",
                "bol-relay",
                "--overwrite",
                "app.kubernetes.io/component=other",
            ])
            .expect("labelled");
        wait_for("both are as they were", SOON, async || {
            tenant.kubectl(&["get", "service", "bol-relay"])?;
            let set =
                tenant.api::<StatefulSet>().get("bol-relay").await.map_err(|error| error.to_string())?;
            let component = set.labels().get("app.kubernetes.io/component").cloned();
            if component.as_deref() == Some("relay") { Ok(()) } else { Err(format!("{component:?}")) }
        })
        .await;
        tenant.ready("bol").await;
    })
    .await;
}
