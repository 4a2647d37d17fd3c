//! Does a cluster do what its users need: DNS, encrypted and plain volumes that one pod alone may mount?

use super::{Access, name::Cluster, node, storage};
use crate::{
    paths,
    run::{Result, command, output, run},
};
use snafu::ensure_whatever;

const MARKER: &str = "marker-that-must-not-show";

/// For the address of kubernetes.default.svc.cluster.local, as DNS over TCP wants it: busybox's own look-ups crash in a
/// static program.
const QUESTION: &str = r"\000\066\022\064\001\000\000\001\000\000\000\000\000\000\012kubernetes\007default\003svc\007cluster\005local\000\000\001\000\001";

/// Runs a pod on a claim of each storage class; what it wrote must not show in the encrypted file system's image.
pub fn smoke(access: &Access) -> Result<()> {
    let manifest = paths::checkout().join("tests/cluster/manifests/smoke.yaml");
    let Some(cluster) = Cluster::find(access.name())? else { snafu::whatever!("the cluster is gone") };
    let kubectl = |words: &[&str]| output(node::kubectl(&cluster, &access.bin).args(words));
    kubectl(&["apply", "--filename", &manifest.to_string_lossy()])?;
    kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "pod/smoke"])?;
    let written = kubectl(&["exec", "smoke", "--", "/bin/busybox", "cat", "/encrypted/file"])?;
    ensure_whatever!(written.contains(MARKER), "the pod's file holds {written:?}");
    let ask = format!(
        "printf '{QUESTION}' | busybox nc -w 5 {} 53 | busybox od -An -v -tu1",
        cluster.service_ip(10)
    );
    let answer = kubectl(&["exec", "smoke", "--", "/bin/sh", "-c", &ask.replace("busybox", "/bin/busybox")])?;
    let numbers = answer.split_whitespace().collect::<Vec<_>>().join(".");
    ensure_whatever!(
        numbers.ends_with(&cluster.service_ip(1)),
        "the cluster's DNS answers {numbers} for kubernetes.default"
    );
    run(&["sync"])?;
    let image = storage::image(&cluster).display().to_string();
    let found =
        command(&["grep", "--quiet", "--text", MARKER, &image]).status().is_ok_and(|status| status.success());
    ensure_whatever!(!found, "{MARKER} is readable in {image}");
    kubectl(&["delete", "--wait=false", "--filename", &manifest.to_string_lossy()])?;
    Ok(())
}
