//! Each way to be wrong ends in a condition with its own reason and a message that says what to do, and right input
//! mends it.

use serde_json::{Value, json};

use crate::{
    cluster::{together, wait_for},
    tenant::{SIGNING, SOON, Tenant, with_tenant},
};

/// Waits for the reason of Ready; the message must hold `part`, and there must be an event.
async fn refused(tenant: &Tenant, reason: &str, part: &str) {
    let message = tenant.condition("bol", "Ready", "False", Some(reason)).await;
    assert!(message.contains(part), "{message}");
    wait_for(&format!("an event {reason}"), SOON, async || {
        let selector = format!("reason={reason},involvedObject.name=bol");
        let events = tenant.kubectl(&["get", "events", "--field-selector", &selector, "--output=name"])?;
        if events.trim().is_empty() { Err("no event".to_owned()) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn missing_and_incomplete_secrets_are_named() {
    let _company = together().await;
    with_tenant("secrets", async |tenant| {
        tenant.apply(&tenant.connection("bol"));
        refused(&tenant, "SecretNotFound", "there is no Secret bol-credentials").await;
        tenant.secret("bol-credentials", &json!({"clientId": "x"}));
        refused(&tenant, "SecretIncomplete", "Secret bol-credentials lacks \"clientSecret\"").await;
        tenant.seller("bol", 1).await;
        tenant.ready("bol").await;
        tenant.secret("erp-signing", &json!({"signingSecret": "not one"}));
        refused(&tenant, "SecretInvalid", "openssl rand").await;
        tenant.condition("bol", "Collecting", "True", None).await;
        tenant.secret("erp-signing", &json!({"signingSecret": SIGNING}));
        tenant.ready("bol").await;
    })
    .await;
}

#[tokio::test]
async fn rejected_credentials_are_told() {
    let _company = together().await;
    with_tenant("rejected", async |tenant| {
        tenant.seller("bol", 1).await;
        tenant.credentials("bol", "wrong");
        tenant.apply(&tenant.connection("bol"));
        refused(&tenant, "CredentialsRejected", "credentialsSecretRef").await;
    })
    .await;
}

#[tokio::test]
async fn a_missing_policy_is_named() {
    let _company = together().await;
    with_tenant("policies", async |tenant| {
        tenant.seller("bol", 1).await;
        let mut connection = tenant.connection("bol");
        connection["spec"]["retentionPolicyRef"] = json!({"name": "standard"});
        tenant.apply(&connection);
        refused(&tenant, "PolicyNotFound", "there is no RetentionPolicy standard").await;
        tenant.apply(&json!({"apiVersion": "marketrelay.dev/v1alpha1", "kind": "RetentionPolicy",
                             "metadata": {"name": "standard"}, "spec": {}}));
        tenant.ready("bol").await;
    })
    .await;
}

#[tokio::test]
async fn a_storage_class_that_does_not_encrypt_is_refused() {
    let _company = together().await;
    with_tenant("plain", async |tenant| {
        tenant.seller("bol", 1).await;
        let mut connection = tenant.connection("bol");
        connection["spec"]["storage"]["storageClassName"] = json!("plain");
        tenant.apply(&connection);
        refused(&tenant, "StorageNotEncrypted", "kubectl annotate storageclass plain").await;
        tenant.condition("bol", "StorageEncrypted", "False", Some("StorageNotEncrypted")).await;
        let claims =
            tenant.kubectl(&["get", "persistentvolumeclaims,pods", "--output=name"]).expect("a list");
        assert_eq!(claims.trim(), "", "nothing is made for a refused connection");
    })
    .await;
}

#[tokio::test]
async fn an_unknown_storage_class_is_named() {
    let _company = together().await;
    with_tenant("class", async |tenant| {
        tenant.seller("bol", 1).await;
        let mut connection = tenant.connection("bol");
        connection["spec"]["storage"]["storageClassName"] = json!("nowhere");
        tenant.apply(&connection);
        refused(&tenant, "StorageClassNotFound", "there is no StorageClass nowhere").await;
    })
    .await;
}

#[tokio::test]
async fn an_exhausted_quota_is_told_and_mended_by_raising_it() {
    let _company = together().await;
    with_tenant("quota", async |tenant| {
        let quota = |claims: &str| -> Value {
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"},
                   "spec": {"hard": {"persistentvolumeclaims": claims}}})
        };
        tenant.apply(&quota("0"));
        wait_for("the quota is counted", SOON, async || {
            let used =
                tenant.kubectl(&["get", "resourcequota", "few", "--output=jsonpath={.status.used}"])?;
            if used.contains("persistentvolumeclaims") { Ok(()) } else { Err(used) }
        })
        .await;
        tenant.seller("bol", 1).await;
        tenant.apply(&tenant.connection("bol"));
        refused(&tenant, "QuotaExceeded", "raise the namespace's ResourceQuota").await;
        tenant.apply(&quota("1"));
        tenant.ready("bol").await;
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_may_not_be_created_says_why() {
    let _company = together().await;
    with_tenant("pods", async |tenant| {
        tenant.apply(&json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"},
                             "spec": {"hard": {"pods": "0"}}}));
        wait_for("the quota is counted", SOON, async || {
            let used =
                tenant.kubectl(&["get", "resourcequota", "few", "--output=jsonpath={.status.used}"])?;
            if used.contains("pods") { Ok(()) } else { Err(used) }
        })
        .await;
        tenant.seller("bol", 1).await;
        tenant.apply(&tenant.connection("bol"));
        refused(&tenant, "QuotaExceeded", "exceeded quota: few").await;
    })
    .await;
}

#[tokio::test]
async fn a_volume_that_nobody_provisions_is_told() {
    let _company = together().await;
    with_tenant("pending", async |tenant| {
        let class = format!("{}-nobody", tenant.name);
        tenant.apply(&json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {"name": class, "annotations": {"marketrelay.dev/encrypted": "true"}},
            "provisioner": "nobody.example", "volumeBindingMode": "Immediate"}));
        tenant.seller("bol", 1).await;
        let mut connection = tenant.connection("bol");
        connection["spec"]["storage"]["storageClassName"] = json!(class);
        tenant.apply(&connection);
        let look = format!("kubectl -n {} describe persistentvolumeclaim bol-data", tenant.name);
        refused(&tenant, "VolumePending", &look).await;
        tenant.kubectl(&["delete", "storageclass", &class]).expect("deleted");
    })
    .await;
}

#[tokio::test]
async fn a_destination_inside_the_cluster_that_is_not_allowed_is_refused() {
    let _company = together().await;
    with_tenant("private", async |tenant| {
        tenant.seller("bol", 1).await;
        let mut connection = tenant.connection("bol");
        connection["spec"]["destination"]["webhook"]["url"] = json!("https://169.254.169.254/latest");
        tenant.apply(&connection);
        wait_for("the reason names the allow-list", SOON, async || {
            let status = tenant.get("bol").await?.status.ok_or("no status")?;
            let ready =
                status.conditions.iter().find(|condition| condition.type_ == "Ready").ok_or("none")?;
            if ready.message.contains("egress.allowedNetworks") { Ok(()) } else { Err(ready.message.clone()) }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_lost_keyring_is_told_and_never_made_anew() {
    let _company = together().await;
    with_tenant("keyring", async |tenant| {
        tenant.connect("bol", 1).await;
        let refusal = tenant.kubectl(&["delete", "secret", "bol-keyring"]).expect_err("keys are protected");
        assert!(refusal.contains("key"), "{refusal}");
        let refusal =
            tenant.kubectl(&["label", "secret", "bol-keyring", "x=y"]).expect_err("keys are protected");
        assert!(refusal.contains("key"), "{refusal}");
        tenant.kubectl(&["delete", "mconn", "bol"]).expect("deleted");
        wait_for("the keyring may be deleted once it is retained", SOON, async || {
            tenant.kubectl(&["delete", "secret", "bol-keyring"]).map(drop)
        })
        .await;
        tenant.apply(&tenant.connection("bol"));
        refused(&tenant, "KeyringLost", "bol-keyring").await;
        let found = tenant.kubectl(&["get", "secret", "bol-keyring"]);
        assert!(found.is_err(), "a lost keyring is never made anew");
    })
    .await;
}
