//! What a cluster needs beside Kubernetes itself: DNS and volumes.

use std::{io::Write, path::Path, process::Stdio};

use snafu::{OptionExt, ResultExt, ensure_whatever};

use super::{name::Cluster, node, storage};
use crate::{
    image::{self, Image},
    paths,
    run::{Result, output, read},
};

/// Installs them and waits until they are there.
pub fn install(cluster: &Cluster, bin: &Path) -> Result<()> {
    images(cluster, bin)?;
    let manifests = paths::checkout().join("tests/cluster/manifests");
    for file in ["dns.yaml", "storage.yaml"] {
        let text = read(&manifests.join(file))?
            .replace("@DNS_IP@", &cluster.service_ip(10))
            .replace("@ENCRYPTED@", &storage::encrypted(cluster).display().to_string())
            .replace("@PLAIN@", &storage::plain(cluster).display().to_string());
        apply(cluster, bin, &text)?;
    }
    for (namespace, deployment) in
        [("kube-system", "coredns"), ("storage", "encrypted"), ("storage", "plain")]
    {
        let wait = [
            "--namespace",
            namespace,
            "rollout",
            "status",
            "--timeout=90s",
            &format!("deployment/{deployment}"),
        ];
        output(node::kubectl(cluster, bin).args(wait))?;
    }
    Ok(())
}

fn images(cluster: &Cluster, bin: &Path) -> Result<()> {
    let program = |name: &str| std::fs::canonicalize(bin.join(name)).whatever_context("can't find a program");
    let coredns = [(program("coredns")?, "/coredns")];
    let provisioner = [(program("local-path-provisioner")?, "/local-path-provisioner")];
    let busybox = [("/bin/busybox".into(), "/bin/busybox")];
    let tools = ["sh", "mkdir", "rm", "chmod"].map(|tool| ("/bin/busybox", format!("/bin/{tool}")));
    let tools = tools.each_ref().map(|(target, path)| (*target, path.as_str()));
    let images = [
        (
            "coredns",
            Image {
                reference: "marketrelay.dev/coredns:1",
                files: &coredns,
                links: &[],
                entrypoint: &["/coredns"],
                user: "65532:65532",
            },
        ),
        (
            "provisioner",
            Image {
                reference: "marketrelay.dev/local-path-provisioner:1",
                files: &provisioner,
                links: &[],
                entrypoint: &["/local-path-provisioner"],
                user: "65532:65532",
            },
        ),
        (
            "helper",
            Image {
                reference: "marketrelay.dev/helper:1",
                files: &busybox,
                links: &tools,
                entrypoint: &["/bin/sh"],
                user: "0:0",
            },
        ),
    ];
    for (name, image) in &images {
        let archive = cluster.dir().join(format!("{name}.tar"));
        image::build(image, &archive)?;
        node::load(cluster, &archive)?;
    }
    Ok(())
}

fn apply(cluster: &Cluster, bin: &Path, manifest: &str) -> Result<()> {
    let mut kubectl = node::kubectl(cluster, bin);
    kubectl.args(["apply", "--server-side", "--filename=-"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = kubectl.spawn().whatever_context("can't run kubectl")?;
    let mut input = child.stdin.take().whatever_context("kubectl has no input")?;
    input.write_all(manifest.as_bytes()).whatever_context("can't write to kubectl")?;
    drop(input);
    let status = child.wait().whatever_context("can't wait for kubectl")?;
    ensure_whatever!(status.success(), "kubectl apply failed");
    Ok(())
}
