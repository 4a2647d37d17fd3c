//! `cargo xtask cluster`: a real Kubernetes on this machine, in a network namespace of its own.

mod addons;
mod binaries;
mod cgroups;
mod control_plane;
mod name;
mod network;
mod node;
mod packages;
mod pki;
mod processes;
mod s3;
mod smoke;
mod storage;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use control_plane::Addresses;
pub use control_plane::ControlPlane;
use name::Cluster;
pub use pki::{Authority, Identity};
use processes::Processes;
pub use smoke::{left_behind, smoke};
use snafu::OptionExt;

use crate::{
    progress::step,
    run::{Result, output},
};

/// `cargo xtask cluster …`
#[derive(Subcommand)]
pub enum Command {
    /// Bring a cluster up; one that is up already is only completed.
    Up {
        /// At most 20 of a-z, 0-9 and -.
        name: String,
        /// Only etcd and kube-apiserver, on loopback, without root; ends with Ctrl-C.
        #[arg(long)]
        control_plane_only: bool,
    },
    /// Take a cluster down and remove all that it left on this machine.
    Down {
        /// Its name.
        name: String,
    },
    /// Show a cluster's node, pods, storage classes and S3 server.
    Status {
        /// Its name.
        name: String,
    },
    /// List the clusters of this machine.
    List,
    /// Print shell lines that point kubectl and helm at a cluster: `eval "$(cargo xtask cluster env NAME)"`.
    Env {
        /// Its name.
        name: String,
    },
    /// Import image archives into a cluster's node.
    Load {
        /// Its name.
        name: String,
        /// As `cargo xtask images` writes them.
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
}

/// Runs one of them.
pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Up { name, control_plane_only: true } => serve_control_plane(&name),
        Command::Up { name, control_plane_only: false } => up(&name).map(drop),
        Command::Down { name } => down(&name),
        Command::Status { name } => status(&name),
        Command::List => list(),
        Command::Env { name } => env(&name),
        Command::Load { name, archives } => archives.iter().try_for_each(|archive| load(&name, archive)),
    }
}

/// What a user of a cluster needs to know.
pub struct Access {
    /// Of an administrator.
    pub kubeconfig: PathBuf,
    /// The folder of kubectl and helm.
    pub bin: PathBuf,
    /// The context's name in the kubeconfig.
    pub context: String,
    /// Of writes, as JSON lines.
    pub audit_log: PathBuf,
}

impl Access {
    /// The cluster's name.
    pub fn name(&self) -> &str {
        self.context.strip_prefix("marketrelay-").unwrap_or(&self.context)
    }
}

/// How to use an existing cluster.
pub fn access(name: &str) -> Result<Access> {
    let cluster = find(name)?;
    let dir = cluster.dir();
    Ok(Access {
        kubeconfig: dir.join("kubeconfig"),
        bin: binaries::all()?,
        context: context(&cluster),
        audit_log: dir.join("audit.log"),
    })
}

/// Brings a cluster up.
pub fn up(name: &str) -> Result<Access> {
    packages::install()?;
    let bin = binaries::all()?;
    let cluster = Cluster::claim(name)?;
    step(format!("cluster {name}: network and storage"));
    network::up(&cluster)?;
    cgroups::up(&cluster)?;
    storage::up(&cluster)?;
    step(format!("cluster {name}: control plane"));
    let at = addresses(&cluster);
    control_plane::certificates(&cluster.dir(), &context(&cluster), Some(name), &at)?;
    let processes = Processes::new(&cluster.dir(), cluster.enter());
    control_plane::start(&cluster.dir(), &bin, &processes, &at, true)?;
    step(format!("cluster {name}: node"));
    node::start(&cluster, &bin, &processes)?;
    s3::start(&cluster, &bin)?;
    step(format!("cluster {name}: DNS and storage classes"));
    addons::install(&cluster, &bin)?;
    step(format!("cluster {name} is ready: eval \"$(cargo xtask cluster env {name})\""));
    access(name)
}

/// Takes a cluster down; what a killed `up` left goes too.
pub fn down(name: &str) -> Result<()> {
    let Some(cluster) = Cluster::find(name)? else {
        println!("no cluster named {name} here (cargo xtask cluster list)");
        return Ok(());
    };
    step(format!("cluster {name}: ending its processes"));
    Processes::new(&cluster.dir(), Vec::new()).stop();
    cgroups::down(&cluster)?;
    network_processes(&cluster)?;
    step(format!("cluster {name}: removing mounts and network"));
    storage::down(&cluster)?;
    network::down(&cluster)?;
    cluster.release()?;
    step(format!("cluster {name} is gone"));
    Ok(())
}

/// Imports an image archive.
pub fn load(name: &str, archive: &Path) -> Result<()> {
    node::load(&find(name)?, archive)
}

/// containerd's shims live in the cluster's network namespace and outlive containerd.
fn network_processes(cluster: &Cluster) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let path = PathBuf::from("/run/netns").join(cluster.namespace());
    let Ok(ours) = std::fs::metadata(&path) else { return Ok(()) };
    let inside = || {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let same = |pid: &u32| {
            std::fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|ns| ns.ino() == ours.ino())
        };
        pids.filter(same).collect::<Vec<_>>()
    };
    crate::run::wait_for("end of the node's processes", std::time::Duration::from_secs(20), || {
        let left = inside();
        for pid in &left {
            processes::kill("-KILL", *pid);
        }
        left.is_empty()
    })
}

fn find(name: &str) -> Result<Cluster> {
    Cluster::find(name)?
        .with_whatever_context(|| format!("no cluster named {name}: cargo xtask cluster up {name}"))
}

fn context(cluster: &Cluster) -> String {
    format!("marketrelay-{}", cluster.name)
}

fn addresses(cluster: &Cluster) -> Addresses {
    Addresses {
        host: cluster.node_ip(),
        api: 6443,
        etcd: 2379,
        etcd_peer: 2380,
        service_range: cluster.service_range(),
        service_ip: cluster.service_ip(1),
    }
}

fn serve_control_plane(name: &str) -> Result<()> {
    let plane = ControlPlane::start()?;
    step(format!("control plane {name} is ready: export KUBECONFIG={}", plane.kubeconfig.display()));
    println!("{:>7}  press Enter to end it", "");
    let mut line = String::new();
    drop(std::io::stdin().read_line(&mut line));
    Ok(())
}

fn status(name: &str) -> Result<()> {
    let cluster = find(name)?;
    let access = access(name)?;
    for what in [&["get", "nodes"][..], &["get", "pods", "--all-namespaces"], &["get", "storageclasses"]] {
        println!("{}", output(node::kubectl(&cluster, &access.bin).args(what))?);
    }
    println!("kubeconfig  {}", access.kubeconfig.display());
    println!("S3          {}", s3::describe(&cluster)?);
    Ok(())
}

fn list() -> Result<()> {
    println!("{:<22} {:<16} {:<8} KUBECONFIG", "NAME", "NODE", "RUNS");
    for cluster in Cluster::list()? {
        let runs = Processes::new(&cluster.dir(), Vec::new()).runs("kube-apiserver");
        let config = cluster.dir().join("kubeconfig");
        println!("{:<22} {:<16} {:<8} {}", cluster.name, cluster.node_ip(), runs, config.display());
    }
    Ok(())
}

fn env(name: &str) -> Result<()> {
    let access = access(name)?;
    println!("export KUBECONFIG={}", access.kubeconfig.display());
    println!("export PATH={}:$PATH", access.bin.display());
    Ok(())
}
