//! What was done is shown to a third party: an export that verifies, and no longer does once one letter is another.

use std::{fs, process::Stdio};

use marketrelay_api::{ErasureRequest, connection::PinnedAudit};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cluster::{SYSTEM, kube, together, wait_for},
    tenant::{SOON, Tenant, with_tenant},
};

const RELAY: &str = "/marketrelay-relay";

async fn pinned(tenant: &Tenant) -> PinnedAudit {
    wait_for("a pinned head", SOON, async || {
        tenant.get("bol").await?.status.and_then(|status| status.audit).ok_or("none yet".to_owned())
    })
    .await
}

fn export(tenant: &Tenant) -> String {
    tenant.kubectl(&["exec", "bol-relay-0", "--", RELAY, "audit", "export"]).expect("an export")
}

/// The relay's own program on a file, in the pod: whether it finds no fault, and what it says.
fn verify(tenant: &Tenant, file: &str, options: &[&str]) -> (bool, String) {
    let words =
        ["exec", "--stdin", "--namespace", &tenant.name, "bol-relay-0", "--", RELAY, "audit", "verify"];
    let input = fs::File::open(file).expect("a file");
    let mut kubectl = kube().kubectl(&[&words[..], options].concat());
    let output = kubectl.stdin(Stdio::from(input)).output().expect("kubectl");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

async fn erase_a_buyer(tenant: &Tenant) -> String {
    tenant.secret("case-12", &json!({"emails": "nobody.known@buyer.example"}));
    tenant.apply(&json!({
        "apiVersion": "marketrelay.dev/v1alpha1", "kind": "ErasureRequest", "metadata": {"name": "case-12"},
        "spec": {"subject": {"secretRef": {"name": "case-12"}}},
    }));
    wait_for("the request is done", SOON, async || {
        let request =
            tenant.api::<ErasureRequest>().get("case-12").await.map_err(|error| error.to_string())?;
        let done = request.status.is_some_and(|status| status.completed_at.is_some());
        request.metadata.uid.filter(|_| done).ok_or("not yet".to_owned())
    })
    .await
}

#[tokio::test]
async fn the_audit_log_is_exported_and_verified_and_a_changed_letter_is_found() {
    let _company = together().await;
    with_tenant("audited", async |tenant| {
        tenant.connect("bol", 3).await;
        tenant.all_arrived("bol").await;
        let uid = erase_a_buyer(&tenant).await;
        tenant.condition("bol", "AuditIntact", "True", None).await;
        let head = pinned(&tenant).await;
        let lines = export(&tenant);
        let erased = |line: &&str| {
            let record: Value = serde_json::from_str(line).expect("JSON");
            record["action"] == "OrdersErased" && record["object"] == uid.as_str()
        };
        assert_eq!(lines.lines().filter(erased).count(), 1, "{lines}");
        let known = lines.lines().any(|line| line.contains(&format!("\"hash\":\"{}\"", head.hash)));
        assert!(known, "the pinned head {head:?} is in {lines}");
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("audit.jsonl").display().to_string();
        fs::write(&file, &lines).expect("written");
        let (is_intact, summary) = verify(&tenant, &file, &["--public-key", &head.public_key]);
        assert!(is_intact && summary.contains("unbroken") && summary.contains(&head.chain), "{summary}");
        xtask::run::run(&["sed", "--in-place", "2s/\"actor\":\"[a-z]/\"actor\":\"x/", &file])
            .expect("changed");
        let (is_intact, fault) = verify(&tenant, &file, &["--public-key", &head.public_key]);
        assert!(!is_intact && fault.contains("record 2 (line 2) was changed"), "{fault}");
        let words = ["logs", "--namespace", SYSTEM, "deployment/marketrelay", "--all-pods", "--tail=-1"];
        let log = kube().get(&words).expect("a log");
        fs::write(&file, unprefixed(&log)).expect("written");
        let (is_intact, summary) = verify(&tenant, &file, &["--log"]);
        assert!(is_intact && summary.contains("unbroken"), "{summary}");
        assert!(log.contains("ErasureCompleted") && log.contains("SubjectSecretDeleted"));
    })
    .await;
}

/// Without the pods' names, which kubectl writes before the lines of several.
fn unprefixed(log: &str) -> String {
    let lines = log.lines().filter_map(|line| line.find('{').map(|begin| &line[begin..]));
    lines.map(|line| format!("{line}\n")).collect()
}
