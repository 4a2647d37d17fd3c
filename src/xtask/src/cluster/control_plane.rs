//! etcd and kube-apiserver: inside a node's network namespace, or on loopback for tests that need no node, or only
//! simulated ones.

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Sender, channel},
    thread,
    time::Duration,
};

use snafu::ResultExt;

use super::{
    binaries,
    pki::{Authority, kubeconfig},
    processes::Processes,
    simulated::{self, Simulation},
};
use crate::run::{Result, command, run, wait_for, write};

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

/// Writes requests to `audit.log`, without bodies: everybody's writes, and of ServiceAccounts their reads too.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: Metadata
  userGroups: [system:serviceaccounts]
";

/// Makes the certificates and kubeconfigs of a new cluster.
pub fn certificates(dir: &Path, context: &str, node: Option<&str>, at: &Addresses) -> Result<()> {
    // It is written last.
    if !std::fs::read_to_string(dir.join("kubeconfig")).unwrap_or_default().is_empty() {
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
    } else {
        api.push("--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned());
    }
    processes.start("kube-apiserver", &api)?;
    let kubectl = bin.join("kubectl");
    let config = dir.join("kubeconfig");
    let servers = ["etcd", "kube-apiserver"];
    let ready = || {
        let listens = TcpStream::connect((at.host.as_str(), at.api)).is_ok();
        let mut ask = command(&[&kubectl]);
        ask.arg("--kubeconfig").arg(&config).args(["get", "--raw", "/readyz", "--request-timeout=2s"]);
        listens && ask.output().is_ok_and(|out| out.status.success())
    };
    let ended = || servers.iter().any(|name| !processes.runs(name));
    wait_for("kube-apiserver", Duration::from_mins(1), || ended() || ready())?;
    processes.check(&servers)
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

/// A control plane for tests: no root, no node. It is stopped when dropped, and when the process that started it ends,
/// however that happens.
pub struct ControlPlane {
    /// Of a cluster administrator.
    pub kubeconfig: PathBuf,
    /// Of writes, as JSON lines.
    pub audit_log: PathBuf,
    /// The folder of kubectl.
    pub bin: PathBuf,
    processes: Processes,
    janitor: Child,
    /// Ends the thread that the servers' lives hang on.
    keeper: Option<Sender<()>>,
}

/// Removes the folder once nobody holds the other end of its input.
const JANITOR: &str = r#"cat; for try in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$0" && break; sleep 1; done"#;

impl ControlPlane {
    /// Starts one on free loopback ports.
    pub fn start() -> Result<Self> {
        Self::start_with(binaries::control_plane()?, None)
    }

    /// The same with Kubernetes' controllers, a scheduler, and nodes whose pods only seem to run.
    pub fn with_simulated_nodes(simulation: Simulation) -> Result<Self> {
        Self::start_with(binaries::simulation()?, Some(simulation))
    }

    fn start_with(bin: PathBuf, simulation: Option<Simulation>) -> Result<Self> {
        let made = run(&["mktemp", "-d", "-t", "marketrelay-control-plane.XXXXXX"])?;
        let dir = PathBuf::from(made.trim());
        let mut janitor = Command::new("setsid");
        janitor.args(["sh", "-c", JANITOR]).arg(&dir).stdin(Stdio::piped()).stdout(Stdio::null());
        let janitor = janitor.stderr(Stdio::null()).spawn().whatever_context("can't start sh")?;
        let prefix = ["setpriv", "--pdeathsig", "KILL"].map(str::to_owned).to_vec();
        let mut plane = Self {
            kubeconfig: dir.join("kubeconfig"),
            audit_log: dir.join("audit.log"),
            processes: Processes::new(&dir, prefix),
            bin,
            janitor,
            keeper: None,
        };
        plane.keeper = Some(keep(&plane, &dir, simulation)?);
        Ok(plane)
    }

    /// Stops the API server without ending it, or lets it go on.
    pub fn pause(&self, paused: bool) {
        self.processes.signal("kube-apiserver", if paused { "-STOP" } else { "-CONT" });
    }

    /// kubectl as the administrator.
    pub fn kubectl(&self) -> Command {
        let mut kubectl = Command::new(self.bin.join("kubectl"));
        kubectl.arg("--kubeconfig").arg(&self.kubeconfig).env("KUBECACHEDIR", self.kubectl_cache());
        kubectl
    }

    /// Fails with the last lines of its log if one of the servers has ended.
    pub fn check(&self) -> Result<()> {
        let all = self.processes.all();
        self.processes.check(&all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())
    }

    /// What kubectl remembers of this server; another one may get its address later.
    pub fn kubectl_cache(&self) -> PathBuf {
        self.kubeconfig.with_file_name("kubectl")
    }
}

/// The kernel ends the servers with the thread that started them, which must not be the one of a single test.
fn keep(plane: &ControlPlane, dir: &Path, simulation: Option<Simulation>) -> Result<Sender<()>> {
    let (keeper, until) = channel();
    let (started, result) = channel();
    let (processes, bin, dir) = (plane.processes.clone(), plane.bin.clone(), dir.to_path_buf());
    thread::spawn(move || {
        let all = start_alone(&dir, &bin, &processes)
            .and_then(|()| simulation.map_or(Ok(()), |one| simulated::start(&dir, &bin, &processes, &one)));
        if started.send(all).is_ok() {
            // An error: the sender is gone.
            until.recv().unwrap_or_default();
        }
    });
    result.recv().whatever_context("the thread that starts the servers has ended")??;
    Ok(keeper)
}

fn start_alone(dir: &Path, bin: &Path, processes: &Processes) -> Result<()> {
    let [api, etcd, etcd_peer] = free_ports()?;
    let at = Addresses {
        host: "127.0.0.1".into(),
        api,
        etcd,
        etcd_peer,
        service_range: "10.234.0.0/24".into(),
        service_ip: "10.234.0.1".into(),
    };
    certificates(dir, "control-plane", None, &at)?;
    start(dir, bin, processes, &at, false)
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Err(error) = self.processes.stop() {
            eprintln!("can't stop a control plane: {error}");
        }
        drop(self.keeper.take());
        drop(self.janitor.stdin.take());
        if let Err(error) = self.janitor.wait() {
            eprintln!("can't remove a control plane's folder: {error}");
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
