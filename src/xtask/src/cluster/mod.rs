//! `cargo xtask cluster`: a real Kubernetes on this machine, in a network namespace of its own.

mod addons;
mod binaries;
mod cgroups;
mod control_plane;
mod host;
mod left;
mod name;
mod network;
mod node;
mod outside;
mod packages;
mod pki;
mod processes;
mod s3;
mod simulated;
mod smoke;
mod storage;

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

pub use binaries::{helm, prefetch, versitygw};
use clap::Subcommand;
use control_plane::Addresses;
pub use control_plane::ControlPlane;
pub use left::left_behind;
use marketrelay_api::backup::Site;
use name::Cluster;
pub use packages::require;
pub use pki::{Authority, Identity};
use processes::Processes;
pub use processes::marked;
pub use s3::S3;
pub use simulated::Simulation;
pub use smoke::smoke;
use snafu::{OptionExt, ResultExt, ensure_whatever};

use crate::{
    paths,
    progress::step,
    run::{Marked, Result, output},
};

/// `cargo xtask cluster …`
#[derive(Subcommand)]
pub enum Command {
    /// Bring a cluster up; one that is up already is only completed.
    Up {
        /// At most 20 of a-z, 0-9 and -; part of addresses, folders and the kubeconfig's context.
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
    /// Show whether a cluster runs, how to reach it and its two S3 servers, its node, pods and storage classes.
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
    Ok(access_to(&find(name)?))
}

/// How to use the S3 server of that site of an existing cluster.
pub fn s3(name: &str, site: Site) -> Result<S3> {
    s3::access(&find(name)?, site)
}

fn access_to(cluster: &Cluster) -> Access {
    let dir = cluster.dir();
    Access {
        kubeconfig: dir.join("kubeconfig"),
        bin: binaries::links(),
        context: context(cluster),
        audit_log: dir.join("audit.log"),
    }
}

/// Brings a cluster up, or completes it.
pub fn up(name: &str) -> Result<Access> {
    packages::install()?;
    let bin = binaries::all()?;
    let (cluster, _alone) = claim(name)?;
    let _marked = Marked::with(&cluster.dir());
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
    Ok(access_to(&cluster))
}

/// The cluster, and what keeps other commands from changing it.
fn claim(name: &str) -> Result<(Cluster, File)> {
    loop {
        let cluster = Cluster::claim(name, host::up)?;
        if let Some(alone) = cluster.lock()? {
            return Ok((cluster, alone));
        }
    }
}

/// Takes a cluster down; what a killed `up` left goes too.
pub fn down(name: &str) -> Result<()> {
    let claimed = Cluster::find(name)?.map(|cluster| (cluster.lock(), cluster));
    let Some((Some(_alone), cluster)) = claimed.map(|(lock, cluster)| Ok((lock?, cluster))).transpose()?
    else {
        return forget(name);
    };
    step(format!("cluster {name}: ending its processes"));
    Processes::new(&cluster.dir(), Vec::new()).stop()?;
    cgroups::down(&cluster)?;
    network_processes(&cluster)?;
    step(format!("cluster {name}: removing mounts and network"));
    outside::down(&cluster)?;
    storage::down(&cluster)?;
    network::down(&cluster)?;
    cluster.release(after_last)?;
    step(format!("cluster {name} is gone"));
    Ok(())
}

/// Loses a cluster with everything in it but what its S3 servers keep; [`up`] makes it anew around them.
pub fn lose(name: &str) -> Result<()> {
    let dir = find(name)?.dir();
    let (stores, kept) = (s3::dir(&dir), dir.with_extension("s3"));
    if kept.exists() {
        fs::remove_dir_all(&kept).whatever_context("can't remove what an earlier loss has kept")?;
    }
    fs::rename(&stores, &kept).whatever_context("can't keep the stores")?;
    down(name)?;
    fs::create_dir_all(&dir).whatever_context("can't make the cluster's folder")?;
    fs::rename(&kept, &stores).whatever_context("can't put the stores back")
}

fn after_last() -> Result<()> {
    outside::after_last()?;
    host::down()
}

/// A folder without an index is from an `up` or a `down` that was killed: nothing else is there any more or yet.
fn forget(name: &str) -> Result<()> {
    if paths::cluster(name).exists() {
        let never_made = Cluster { name: name.to_owned(), index: 0 };
        return never_made.release(after_last);
    }
    println!("no cluster named {name} here (cargo xtask cluster list)");
    Ok(())
}

/// Imports an image archive.
pub fn load(name: &str, archive: &Path) -> Result<()> {
    node::load(&find(name)?, archive)
}

/// containerd's shims live in the cluster's network namespace and outlive containerd.
fn network_processes(cluster: &Cluster) -> Result<()> {
    let path = PathBuf::from("/run/netns").join(cluster.namespace());
    let Ok(ours) = fs::metadata(&path) else { return Ok(()) };
    let same = |pid: &u32| {
        fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|ns| (ns.dev(), ns.ino()) == (ours.dev(), ours.ino()))
    };
    processes::kill_all("end of the node's processes", || processes::pids().filter(same).collect())
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
    step(format!("control plane {name} is ready; Ctrl-C ends it"));
    println!("export KUBECONFIG={}", plane.kubeconfig.display());
    println!("export KUBECACHEDIR={}", plane.kubectl_cache().display());
    println!("export PATH={}:$PATH", plane.bin.display());
    loop {
        std::thread::park();
    }
}

fn status(name: &str) -> Result<()> {
    let cluster = find(name)?;
    let access = access_to(&cluster);
    let (processes, dir) = (Processes::new(&cluster.dir(), Vec::new()), cluster.dir());
    println!("cluster     {name}: {}", state(&processes));
    println!("shell       eval \"$(cargo xtask cluster env {name})\"");
    println!("kubeconfig  {}", access.kubeconfig.display());
    for site in Site::ALL {
        let shown = s3::access(&cluster, site).map(|s3| s3.describe());
        println!("S3 {site:<8} {}", shown.unwrap_or_else(|_| "not made yet".to_owned()));
    }
    println!("logs        {}", dir.join("log").display());
    let ended: Vec<_> =
        processes.all().into_iter().filter_map(|(name, runs)| (!runs).then_some(name)).collect();
    // The S3 servers are started last.
    let which = if ended.is_empty() { String::new() } else { format!(" (ended: {})", ended.join(", ")) };
    ensure_whatever!(
        ended.is_empty() && Site::ALL.iter().all(|site| processes.runs(&s3::process(*site))),
        "cluster {name} isn't complete{which}: cargo xtask cluster up {name}"
    );
    for what in [&["get", "nodes"][..], &["get", "pods", "--all-namespaces"], &["get", "storageclasses"]] {
        print!("\n{}", output(node::kubectl(&cluster, &access.bin).args(what))?);
    }
    Ok(())
}

fn state(processes: &Processes) -> String {
    let all = processes.all();
    match (all.iter().filter(|(_, runs)| *runs).count(), all.len()) {
        (0, _) => "stopped".to_owned(),
        (running, all) if running == all => "running".to_owned(),
        (running, all) => format!("{running} of {all} processes run"),
    }
}

fn list() -> Result<()> {
    let clusters = Cluster::list()?;
    if clusters.is_empty() {
        println!("no clusters here; make one: cargo xtask cluster up NAME");
        return Ok(());
    }
    println!("{:<20}  {:<14}  {:<24}  KUBECONFIG", "NAME", "NODE", "STATE");
    for cluster in clusters {
        let state = state(&Processes::new(&cluster.dir(), Vec::new()));
        let config = cluster.dir().join("kubeconfig");
        println!("{:<20}  {:<14}  {state:<24}  {}", cluster.name, cluster.node_ip(), config.display());
    }
    Ok(())
}

fn env(name: &str) -> Result<()> {
    let access = access(name)?;
    println!("export KUBECONFIG={}", access.kubeconfig.display());
    println!("export KUBECACHEDIR={}", paths::cluster(name).join("kubectl").display());
    println!("export PATH={}:$PATH", access.bin.display());
    Ok(())
}
