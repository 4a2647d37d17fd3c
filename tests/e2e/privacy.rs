//! Promise 7: personal data is gone on time, wherever one looks. Durations of minutes, as the demo's values allow.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use jiff::Timestamp;
use marketrelay_api::{RetentionPolicy, RetentionPolicyStatus};
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::run::run;

use crate::{
    cluster::{folder, together, wait_for},
    tenant::{SOON, Tenant, with_tenant},
};

/// From an order's placing to the end of its personal data; less than one `keyEpoch` early.
const KEPT: &str = "6m";
const LONGEST: Duration = Duration::from_mins(8);
const ORDERS: u64 = 4;

pub fn person() -> Value {
    json!({
        "firstName": "Hadelinde", "surname": "Quastenflosser", "email": "quastenflosser.hadelinde@buyer.example",
        "street": "Unverwechselbarweg", "houseNumber": "4711", "postalCode": "10115", "city": "Berlin",
        "country": "DE", "phone": "+49 30 99887766",
    })
}

pub fn policy(kept: &str) -> Value {
    json!({
        "apiVersion": "marketrelay.dev/v1alpha1", "kind": "RetentionPolicy", "metadata": {"name": "minutes"},
        "spec": {"anonymizeAfter": kept, "amazon": {"anonymizeAfter": kept}, "deleteAfterShipment": kept,
                 "keyEpoch": "1m"},
    })
}

pub async fn connect(tenant: &Tenant, marketplace: &str) {
    tenant.seller(marketplace, 0).await;
    let mut connection = tenant.connection(marketplace);
    connection["spec"]["retentionPolicyRef"] = json!({"name": "minutes"});
    tenant.apply(&connection);
    tenant.ready(marketplace).await;
}

/// Files of the cluster that hold one of `needles`: its raw volumes, etcd, logs, audit log, mounts. Not those of the
/// simulators, which stand for the marketplaces and for the customer.
pub fn found(needles: &[String]) -> Vec<PathBuf> {
    let file = TempDir::new().expect("a folder");
    let path = file.path().join("needles");
    fs::write(&path, needles.join("\n")).expect("written");
    let search = [
        "--recursive",
        "--files-with-matches",
        "--text",
        "--fixed-strings",
        "--no-messages",
        "--devices=skip",
        "--exclude-dir=containerd",
        "--exclude-dir=run",
        "--exclude-dir=marketrelay-sandbox_*",
    ];
    let output = Command::new("grep").args(search).arg("--file").arg(&path).arg(folder()).output();
    // Files that go while it reads make it fail; what it found counts.
    let listed = String::from_utf8(output.expect("grep").stdout).expect("paths");
    listed.lines().map(PathBuf::from).collect()
}

/// Of what Kubernetes shows in this namespace, and of the relay's metrics, the parts that hold one of `needles`.
pub fn shown(tenant: &Tenant, connection: &str, needles: &[String]) -> Vec<String> {
    let kinds = "marketplaceconnections,retentionpolicies,secrets,configmaps,events,pods,statefulsets,\
                 persistentvolumeclaims,services,networkpolicies";
    let objects = tenant.kubectl(&["get", kinds, "--output=json"]).expect("objects");
    let log = tenant.kubectl(&["logs", &format!("{connection}-relay-0")]).expect("a log");
    let metrics = tenant.metrics(connection).expect("metrics");
    let mut secrets = String::new();
    for item in serde_json::from_str::<Value>(&objects).expect("JSON")["items"].as_array().expect("a list") {
        for entry in item["data"].as_object().into_iter().flatten() {
            secrets.push_str(&decoded(entry.1.as_str().unwrap_or_default()));
        }
    }
    let parts = [("objects", objects), ("log", log), ("metrics", metrics), ("secrets", secrets)];
    let holds = |text: &str| needles.iter().any(|needle| text.contains(needle));
    parts.into_iter().filter(|(_, text)| holds(text)).map(|(name, _)| name.to_owned()).collect()
}

fn decoded(base64: &str) -> String {
    let bytes = run(&["sh", "-c", "printf %s \"$0\" | base64 --decode | tr -d '\\000'", base64]);
    bytes.unwrap_or_default()
}

pub fn stored(metrics: &str, what: &str) -> Option<u64> {
    let line = metrics.lines().find(|line| line.contains(&format!("what=\"{what}\"")))?;
    line.split_whitespace().next_back()?.parse().ok()
}

/// Waits until this many orders have lost their personal data, and none has any.
pub async fn reduced(tenant: &Tenant, orders: u64) {
    wait_for("every order is reduced", LONGEST, async || {
        let metrics = tenant.metrics("bol")?;
        match (stored(&metrics, "with_pii"), stored(&metrics, "anonymised")) {
            (Some(0), Some(anonymised)) if anonymised == orders => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn of_nobody_is_anything_found_anywhere_once_the_deadline_has_passed() {
    let _company = together().await;
    with_tenant("deadline", async |tenant| {
        tenant.apply(&policy(KEPT));
        connect(&tenant, "bol").await;
        let path = format!("accounts/{}/orders", tenant.account("bol"));
        tenant.sandbox.post(&path, &json!({"count": ORDERS, "person": person()})).await;
        tenant.all_arrived("bol").await;
        assert_eq!(tenant.summary().await["orders"], ORDERS, "before the deadline they are delivered");
        let held = tenant.metrics("bol").expect("metrics");
        assert_eq!(stored(&held, "with_pii"), Some(ORDERS), "{held}");
        reduced(&tenant, ORDERS).await;
        let mut needles: Vec<_> =
            ["Quastenflosser", "quastenflosser", "Unverwechselbarweg", "99887766"].map(str::to_owned).into();
        needles.extend(tenant.sandbox.orders(&tenant.account("bol")).await);
        assert_eq!(found(&needles), Vec::<PathBuf>::new());
        assert_eq!(shown(&tenant, "bol", &needles), Vec::<String>::new());
        let id = tenant.get("bol").await.expect("it").status.and_then(|status| status.connection_id);
        let known = [id.expect("an id")];
        let (files, parts) = (found(&known), shown(&tenant, "bol", &known));
        assert!(!files.is_empty() && parts.len() > 1, "what is there is found: {files:?} {parts:?}");
        tenant.condition("bol", "RetentionEnforced", "True", None).await;
    })
    .await;
}

/// The names of a keyring's epoch keys.
fn epochs(tenant: &Tenant, connection: &str) -> Result<Vec<String>, String> {
    let name = format!("{connection}-keyring");
    let entries = tenant.kubectl(&[
        "get",
        "secret",
        &name,
        "--output=go-template={{range $k, $v := .data}}{{$k}} {{end}}",
    ])?;
    Ok(entries.split_whitespace().filter(|name| name.starts_with("epoch.")).map(str::to_owned).collect())
}

/// Waits until the key that dies first now is gone.
async fn first_key_dies(tenant: &Tenant, connection: &str) {
    let first = epochs(tenant, connection).expect("keys").into_iter().min().expect("a key");
    wait_for(&format!("{first} is destroyed"), 2 * SOON, async || {
        let left = epochs(tenant, connection)?;
        if left.contains(&first) { Err(format!("{} keys", left.len())) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn keys_die_on_time_of_connections_that_are_broken_suspended_or_deleted() {
    let _company = together().await;
    with_tenant("lives", async |tenant| {
        tenant.apply(&policy("5m"));
        connect(&tenant, "bol").await;
        let patch = |fields: &Value| {
            let text = fields.to_string();
            tenant.kubectl(&["patch", "mconn", "bol", "--type=merge", "--patch", &text]).expect("patched");
        };
        patch(&json!({"spec": {"suspend": true}}));
        tenant.condition("bol", "Ready", "False", Some("Suspended")).await;
        first_key_dies(&tenant, "bol").await;
        patch(&json!({"spec": {"suspend": false, "credentialsSecretRef": {"name": "none"}}}));
        tenant.condition("bol", "Ready", "False", Some("SecretNotFound")).await;
        first_key_dies(&tenant, "bol").await;
        tenant.kubectl(&["delete", "mconn", "bol"]).expect("deleted");
        first_key_dies(&tenant, "bol").await;
    })
    .await;
}

#[tokio::test]
async fn the_volume_key_is_replaced_every_epoch_and_the_old_one_is_gone() {
    let _company = together().await;
    with_tenant("volumekey", async |tenant| {
        tenant.apply(&policy("30m"));
        connect(&tenant, "bol").await;
        tenant.order("bol", 3).await;
        tenant.all_arrived("bol").await;
        let newer = |key: &str| {
            key.strip_prefix("volume.").and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n > 1)
        };
        wait_for("a newer volume key alone", 3 * SOON, async || {
            let template = "--output=go-template={{range $k, $v := .data}}{{$k}} {{end}}";
            let entries = tenant.kubectl(&["get", "secret", "bol-keyring", template])?;
            let keys: Vec<_> =
                entries.split_whitespace().filter(|name| name.starts_with("volume.")).collect();
            if keys.len() == 1 && newer(keys[0]) { Ok(()) } else { Err(format!("{keys:?}")) }
        })
        .await;
        tenant.order("bol", 2).await;
        tenant.all_arrived("bol").await;
        tenant.ready("bol").await;
    })
    .await;
}

/// A policy by its YAML.
async fn policy_status(tenant: &Tenant) -> Result<RetentionPolicyStatus, String> {
    let policy = tenant.api::<RetentionPolicy>().get("minutes").await.map_err(|error| error.to_string())?;
    policy.status.ok_or_else(|| "no status".to_owned())
}

#[tokio::test]
async fn a_shortened_policy_shows_whom_it_concerns_and_takes_nothing_before_its_moment() {
    let _company = together().await;
    with_tenant("shorten", async |tenant| {
        tenant.apply(&policy("4h"));
        connect(&tenant, "bol").await;
        tenant.order("bol", 4).await;
        tenant.all_arrived("bol").await;
        tenant.apply(&policy("2m"));
        let pending = wait_for("the shortening waits with 4 orders", SOON, async || {
            let pending = policy_status(&tenant).await?.pending.ok_or("nothing waits")?;
            if pending.affected == Some(4) { Ok(pending) } else { Err(format!("{pending:?}")) }
        })
        .await;
        let at = pending.effective_at.0;
        let table = tenant.kubectl(&["get", "retpol", "minutes"]).expect("a table");
        assert!(table.contains(&at.to_string()) && table.contains("ShorteningWaits"), "{table}");
        wait_for("the orders' personal data is gone", LONGEST, async || {
            let metrics = tenant.metrics("bol")?;
            let seen = (stored(&metrics, "with_pii"), stored(&metrics, "anonymised"));
            assert!(seen == (Some(4), Some(0)) || Timestamp::now() >= at, "{seen:?} before {at}");
            if seen == (Some(0), Some(4)) { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
        let events = tenant.kubectl(&["get", "events", "--output=yaml"]).expect("events");
        for reason in ["ShorteningWaits", "RetentionShortened"] {
            assert!(events.contains(&format!("reason: {reason}")), "{reason}: {events}");
        }
        let status = policy_status(&tenant).await.expect("a status");
        assert_eq!((status.pending, status.conditions[0].reason.as_str()), (None, "Ready"));
        tenant.ready("bol").await;
    })
    .await;
}
