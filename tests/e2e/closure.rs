//! Promise 13: an account is closed, and nothing of it is left but the proof.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::{PersistentVolume, Secret};
use kube::Api;
use marketrelay_api::{ConnectionRecord, backup::Site, record::RecordPhase};
use serde_json::{Value, json};

use crate::{
    backups,
    cluster::{SYSTEM, kill, kube, together, wait_for},
    tenant::{SOON, Tenant, with_tenant},
};

/// Jobs of backups that are under way end, then another one begins.
const PURGED: Duration = Duration::from_mins(4);

/// A ConnectionRecord.
pub fn record(id: &str) -> Result<Value, String> {
    let words = ["get", "connrec", id, "--namespace", SYSTEM, "--output=json"];
    let text = kube().get(&words).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// A connection's id.
pub async fn id(tenant: &Tenant, connection: &str) -> String {
    let status = tenant.get(connection).await.expect("the connection").status;
    status.and_then(|status| status.connection_id).expect("an id")
}

/// Confirms the closure on the connection.
pub fn close(tenant: &Tenant, connection: &str, id: &str) {
    let patch = json!({"spec": {"closure": {"confirm": id}}}).to_string();
    tenant.kubectl(&["patch", "mconn", connection, "--type=merge", "--patch", &patch]).expect("patched");
}

/// The name of its PersistentVolume.
pub fn volume(tenant: &Tenant, connection: &str) -> String {
    let claim = format!("{connection}-data");
    tenant.kubectl(&["get", "pvc", &claim, "--output=jsonpath={.spec.volumeName}"]).expect("a claim")
}

/// Where the volume's files are on this machine.
pub async fn files(tenant: &Tenant, volume: &str) -> PathBuf {
    let volume = Api::<PersistentVolume>::all(tenant.client.clone()).get(volume).await.expect("a volume");
    let spec = volume.spec.expect("a spec");
    let path = spec.host_path.map(|at| at.path).or_else(|| spec.local.map(|at| at.path));
    PathBuf::from(path.expect("a path"))
}

/// Waits for the proof, and compares it with what is there.
pub async fn is_proven(tenant: &Tenant, connection: &str, id: &str, volume: &str, files: &Path) {
    let proof = wait_for(&format!("{}/{connection} is closed", tenant.name), SOON, async || {
        let status = record(id)?["status"].clone();
        if status["phase"] == "Closed" { Ok(status["closure"].clone()) } else { Err(status.to_string()) }
    })
    .await;
    assert_eq!((&proof["cause"], &proof["listing"]["found"]), (&json!("ConnectionConfirmed"), &json!(0)));
    let objects = proof["objects"].as_array().expect("a list");
    let noted = |kind: &str, name: &str| {
        let found = objects.iter().find(|object| object["kind"] == kind && object["name"] == name);
        found.cloned().unwrap_or_else(|| panic!("{kind} {name} isn't in {proof}"))
    };
    let keyring = noted("Secret", &format!("{connection}-keyring"));
    assert!(keyring["entryCount"].as_i64() > Some(2), "{keyring}");
    noted("PersistentVolume", volume);
    assert!(objects.iter().all(|object| object["goneAt"].is_string()), "{proof}");

    let kinds = "statefulsets,pods,secrets,configmaps,services,serviceaccounts,networkpolicies,persistentvolumeclaims";
    let label = format!("--selector=marketrelay.dev/connection={connection}");
    assert_eq!(tenant.kubectl(&["get", kinds, &label, "--output=name"]).expect("a list").trim(), "");
    let gone = Api::<PersistentVolume>::all(tenant.client.clone()).get_opt(volume).await.expect("an answer");
    assert!(gone.is_none(), "the volume is still there");
    assert!(!files.exists(), "{} is still there", files.display());
    tenant.condition(connection, "Ready", "False", Some("Closed")).await;
}

#[tokio::test]
async fn an_account_is_closed_though_its_relay_is_down() {
    let _company = together().await;
    with_tenant("downclosed", async |tenant| {
        tenant.connect("bol", 4).await;
        tenant.all_arrived("bol").await;
        let (id, volume) = (id(&tenant, "bol").await, volume(&tenant, "bol"));
        let files = files(&tenant, &volume).await;
        // It can't start again: a volume of its pod is missing.
        tenant.kubectl(&["delete", "secret", "bol-credentials"]).expect("deleted");
        kill(tenant.relay_process("bol").await);
        tenant.kubectl(&["delete", "pod", "bol-relay-0", "--wait=false"]).expect("deleted");
        close(&tenant, "bol", &id);
        is_proven(&tenant, "bol", &id, &volume, &files).await;
    })
    .await;
}

#[tokio::test]
async fn a_closed_accounts_backups_are_gone_from_both_stores_and_the_proof_has_the_listings() {
    let _company = together().await;
    with_tenant("purged", async |tenant| {
        tenant.seller("bol", 3).await;
        tenant.apply(&backups::connection(&tenant, &Site::ALL));
        tenant.all_arrived("bol").await;
        for site in Site::ALL {
            backups::backed_up(&tenant, site).await;
            assert!(!backups::files(&tenant, site).is_empty());
        }
        let (id, volume) = (id(&tenant, "bol").await, volume(&tenant, "bol"));
        let files = files(&tenant, &volume).await;
        close(&tenant, "bol", &id);
        wait_for("its stores are purged", PURGED, async || {
            let status = record(&id)?["status"].clone();
            if status["phase"] == "Closed" { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
        is_proven(&tenant, "bol", &id, &volume, &files).await;
        let stores = record(&id).expect("a record")["status"]["closure"]["stores"].clone();
        let stores = stores.as_array().expect("stores");
        assert_eq!(stores.len(), 2);
        for store in stores {
            assert!(store["purgedAt"].is_string() && store["deleted"].as_i64() > Some(1), "{store}");
            assert_eq!((&store["listing"]["found"], &store["listing"]["foreign"]), (&json!(0), &json!(0)));
        }
        for site in Site::ALL {
            assert_eq!(backups::files(&tenant, site), Vec::<PathBuf>::new(), "{site}");
        }
        let secrets = Api::<Secret>::namespaced(tenant.client.clone(), SYSTEM);
        let copies = secrets.get_opt(&format!("{id}-stores")).await.expect("an answer");
        assert!(copies.is_none(), "the copies of the credentials are still there");
    })
    .await;
}

#[tokio::test]
async fn deleting_a_customers_namespace_closes_its_accounts() {
    let _company = together().await;
    with_tenant("gone", async |tenant| {
        tenant.connect("bol", 3).await;
        let id = id(&tenant, "bol").await;
        let began = std::time::Instant::now();
        kube().get(&["delete", "namespace", &tenant.name, "--wait=true", "--timeout=90s"]).expect("deleted");
        eprintln!("the namespace was gone after {:?}", began.elapsed());
        let api = Api::<ConnectionRecord>::namespaced(tenant.client.clone(), SYSTEM);
        wait_for("the record is closed", SOON, async || {
            let status = api.get(&id).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
            if status.phase == RecordPhase::Closed { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
        assert_eq!(record(&id).expect("a record")["status"]["closure"]["cause"], "NamespaceDeleted");
    })
    .await;
}
