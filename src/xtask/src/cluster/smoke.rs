//! Does a cluster do what its users need: DNS, encrypted and plain volumes that one pod alone may mount?

use super::{Access, name::Cluster, storage};
use crate::{
    paths,
    run::{Result, command, output, run},
};
use snafu::ensure_whatever;

const MARKER: &str = "marker-that-must-not-show";

/// Runs a pod on a claim of each storage class; what it wrote must not show in the encrypted file system's image.
pub fn smoke(access: &Access) -> Result<()> {
    let manifest = paths::checkout().join("tests/cluster/manifests/smoke.yaml");
    let kubectl = |words: &[&str]| {
        let mut kubectl = command(&[access.bin.join("kubectl")]);
        output(kubectl.arg("--kubeconfig").arg(&access.kubeconfig).args(words))
    };
    kubectl(&["apply", "--filename", &manifest.to_string_lossy()])?;
    kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "pod/smoke"])?;
    let written = kubectl(&["exec", "smoke", "--", "/bin/busybox", "cat", "/encrypted/file"])?;
    ensure_whatever!(written.contains(MARKER), "the pod's file holds {written:?}");
    let Some(cluster) = Cluster::find(access.name())? else { snafu::whatever!("the cluster is gone") };
    run(&["sync"])?;
    let image = storage::image(&cluster).display().to_string();
    let found =
        command(&["grep", "--quiet", "--text", MARKER, &image]).status().is_ok_and(|status| status.success());
    ensure_whatever!(!found, "{MARKER} is readable in {image}");
    kubectl(&["delete", "--wait=false", "--filename", &manifest.to_string_lossy()])?;
    Ok(())
}
