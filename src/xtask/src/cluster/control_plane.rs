//! etcd and kube-apiserver: inside a node's network namespace, or alone on loopback for tests that need no node.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use snafu::ResultExt;

use super::{
    binaries,
    pki::{Authority, kubeconfig},
    processes::Processes,
};
use crate::run::{Result, command, read, run, wait_for, write};

/// Where a control plane listens.
pub struct Addresses {
    pub host: String,
    pub api: u16,
    pub etcd: u16,
    pub etcd_peer: u16,
    /// Of Services.
    pub service_range: String,
    /// Of the `kubernetes` Service.
    pub service_ip: String,
}

/// Writes requests to `audit.log`: who wrote what, without bodies.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
";

/// Makes the certificates and kubeconfigs of a new cluster.
pub fn certificates(dir: &Path, context: &str, node: Option<&str>, at: &Addresses) -> Result<()> {
    if dir.join("kubeconfig").exists() {
        return Ok(());
    }
    let pki = dir.join("pki");
    let authority = Authority::new()?;
    write(&pki.join("ca.crt"), authority.pem())?;
    let hosts = [&at.host, &at.service_ip, "127.0.0.1", "kubernetes", "kubernetes.default.svc", "localhost"];
    authority.issue("apiserver", None, &hosts.map(str::to_owned))?.write(&pki, "apiserver")?;
    authority.issue("admin", Some("system:masters"), &[])?.write(&pki, "admin")?;
    authority.issue("service-accounts", None, &[])?.write(&pki, "service-accounts")?;
    let server = format!("https://{}:{}", at.host, at.api);
    if let Some(node) = node {
        let hosts = [at.host.clone(), node.to_owned()];
        authority
            .issue(&format!("system:node:{node}"), Some("system:nodes"), &hosts)?
            .write(&pki, "kubelet")?;
        write(&dir.join("kubelet.kubeconfig"), kubeconfig(context, &server, &pki, "kubelet"))?;
    }
    write(&dir.join("kubeconfig"), kubeconfig(context, &server, &pki, "admin"))
}

/// Starts both and waits until the API server is ready.
pub fn start(dir: &Path, bin: &Path, processes: &Processes, at: &Addresses, with_node: bool) -> Result<()> {
    write(&dir.join("audit-policy.yaml"), AUDIT_POLICY)?;
    processes.start("etcd", &etcd(bin, at))?;
    let mut api = api_server(bin, at);
    if with_node {
        api.extend(
            [
                "--enable-admission-plugins=NodeRestriction",
                "--kubelet-client-certificate=pki/admin.crt",
                "--kubelet-client-key=pki/admin.key",
                "--kubelet-certificate-authority=pki/ca.crt",
                "--kubelet-preferred-address-types=InternalIP",
            ]
            .map(str::to_owned),
        );
    }
    processes.start("kube-apiserver", &api)?;
    let kubectl = bin.join("kubectl");
    let config = dir.join("kubeconfig");
    let ready = || {
        let mut ask = command(&[&kubectl]);
        ask.arg("--kubeconfig").arg(&config).args(["get", "--raw", "/readyz", "--request-timeout=2s"]);
        ask.output().is_ok_and(|out| out.status.success())
    };
    wait_for("kube-apiserver", Duration::from_mins(1), || ready() || !processes.runs("kube-apiserver"))?;
    if processes.runs("kube-apiserver") {
        return Ok(());
    }
    let log = read(&processes.log("kube-apiserver"))?;
    let last = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
    snafu::whatever!("kube-apiserver ended:\n{last}")
}

fn etcd(bin: &Path, at: &Addresses) -> Vec<String> {
    let (client, peer) =
        (format!("http://127.0.0.1:{}", at.etcd), format!("http://127.0.0.1:{}", at.etcd_peer));
    let flags = [
        bin.join("etcd").display().to_string(),
        "--data-dir=etcd".to_owned(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    flags.to_vec()
}

fn api_server(bin: &Path, at: &Addresses) -> Vec<String> {
    let flags = [
        bin.join("kube-apiserver").display().to_string(),
        format!("--etcd-servers=http://127.0.0.1:{}", at.etcd),
        format!("--bind-address={}", if at.host == "127.0.0.1" { "127.0.0.1" } else { "0.0.0.0" }),
        format!("--secure-port={}", at.api),
        format!("--service-cluster-ip-range={}", at.service_range),
        format!("--advertise-address={}", at.host),
        "--tls-cert-file=pki/apiserver.crt".to_owned(),
        "--tls-private-key-file=pki/apiserver.key".to_owned(),
        "--client-ca-file=pki/ca.crt".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--service-account-key-file=pki/service-accounts.crt".to_owned(),
        "--service-account-signing-key-file=pki/service-accounts.key".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--audit-policy-file=audit-policy.yaml".to_owned(),
        "--audit-log-path=audit.log".to_owned(),
    ];
    flags.to_vec()
}

/// A control plane for one test: no root, no node, stopped when dropped, and by the kernel if the test is killed.
pub struct ControlPlane {
    /// Of a cluster administrator.
    pub kubeconfig: PathBuf,
    /// Of writes, as JSON lines.
    pub audit_log: PathBuf,
    dir: PathBuf,
    processes: Processes,
}

impl ControlPlane {
    /// Starts one on free loopback ports.
    pub fn start() -> Result<Self> {
        let made = run(&["mktemp", "-d", "-t", "marketrelay-control-plane.XXXXXX"])?;
        let dir = PathBuf::from(made.trim());
        let prefix = ["setpriv", "--pdeathsig", "KILL"].map(str::to_owned).to_vec();
        let processes = Processes::new(&dir, prefix);
        let (kubeconfig, audit_log) = (dir.join("kubeconfig"), dir.join("audit.log"));
        let plane = Self { kubeconfig, audit_log, dir, processes };
        let [api, etcd, etcd_peer] = free_ports()?;
        let at = Addresses {
            host: "127.0.0.1".into(),
            api,
            etcd,
            etcd_peer,
            service_range: "10.234.0.0/24".into(),
            service_ip: "10.234.0.1".into(),
        };
        certificates(&plane.dir, "control-plane", None, &at)?;
        start(&plane.dir, &binaries::control_plane()?, &plane.processes, &at, false)?;
        Ok(plane)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.processes.stop();
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("can't remove {}: {error}", self.dir.display());
        }
    }
}

fn free_ports() -> Result<[u16; 3]> {
    let bind = || TcpListener::bind("127.0.0.1:0").whatever_context("no free port");
    let listeners = [bind()?, bind()?, bind()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr().whatever_context("no address")?.port();
    }
    Ok(ports)
}
