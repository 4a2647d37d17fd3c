//! What an operator needs of a control plane: definitions, a namespace of its own, a StorageClass that is encrypted.

use serde_json::{Value, json};
use xtask::{cluster::ControlPlane, paths};

/// The operator's namespace.
pub const SYSTEM: &str = "marketrelay-system";

/// Makes all of it.
pub fn install(plane: &ControlPlane) {
    let definitions = paths::checkout().join("crds");
    kubectl(plane, &["apply", "--server-side", "-f", &definitions.display().to_string()]);
    kubectl(plane, &["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    kubectl(plane, &["create", "namespace", SYSTEM]);
    apply(
        plane,
        &json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {"name": "disks", "annotations": {"marketrelay.dev/encrypted": "true"}},
            "provisioner": "example.com/disks"}),
    );
}

/// kubectl, which must succeed.
pub fn kubectl(plane: &ControlPlane, words: &[&str]) {
    let output = plane.kubectl().args(words).output().expect("kubectl");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Applies an object.
pub fn apply(plane: &ControlPlane, object: &Value) {
    let file = plane.kubeconfig.with_file_name("object.json");
    std::fs::write(&file, object.to_string()).expect("written");
    kubectl(plane, &["apply", "--server-side", "-f", &file.display().to_string()]);
}
