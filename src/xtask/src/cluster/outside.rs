//! What the kubelet, containerd and network plugins put elsewhere than into the cluster's folder, whatever they're told.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use snafu::ResultExt;

use super::name::Cluster;
use crate::run::Result;

const LOGS: &str = "/var/log/containers";
const RESULTS: &str = "/var/lib/cni/results";
/// Every kubelet of the machine takes it.
const DEVICE_PLUGINS: &str = "/var/lib/kubelet/device-plugins/kubelet.sock";
/// Folders that were made for the above, the inner ones first.
const FOLDERS: [&str; 7] = [
    LOGS,
    RESULTS,
    "/var/lib/cni",
    "/run/containerd/s",
    "/run/containerd",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet",
];

/// Removes it, once the cluster's processes have ended.
pub fn down(cluster: &Cluster) -> Result<()> {
    for path in of(&cluster.dir()) {
        remove(&path)?;
    }
    Ok(())
}

/// Removes what no cluster of this machine needs any more, once none is left.
pub fn after_last() -> Result<()> {
    if let Some(path) = shared() {
        remove(&path)?;
    }
    // A folder that others use isn't empty and stays.
    for dir in FOLDERS {
        drop(fs::remove_dir(dir));
    }
    Ok(())
}

/// What all clusters of a machine share and nobody uses.
pub fn shared() -> Option<PathBuf> {
    Some(PathBuf::from(DEVICE_PLUGINS)).filter(|socket| is_abandoned(socket))
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).with_whatever_context(|e| format!("can't remove {}: {e}", path.display()))
}

/// Links to pods' logs, results of network plugins, sockets of containerd's shims.
pub fn of(dir: &Path) -> Vec<PathBuf> {
    let mut found = entries(LOGS.as_ref());
    found.retain(|link| fs::read_link(link).is_ok_and(|to| to.starts_with(dir)));
    let sandboxes = entries(&dir.join("containerd/io.containerd.grpc.v1.cri/sandboxes"));
    let ids: Vec<_> = sandboxes.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    let is_ours = |path: &PathBuf| ids.iter().any(|id| path.to_string_lossy().contains(id));
    found.extend(entries(RESULTS.as_ref()).into_iter().filter(is_ours));
    let shims = entries(&dir.join("run/io.containerd.runtime.v2.task/k8s.io"));
    let sockets = shims.iter().filter_map(|shim| fs::read_to_string(shim.join("address")).ok());
    let sockets = sockets.filter_map(|address| address.trim().strip_prefix("unix://").map(PathBuf::from));
    found.extend(sockets.filter(|socket| is_abandoned(socket)));
    // The containers of a pod share a shim.
    found.sort_unstable();
    found.dedup();
    found
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Nobody listens any more.
fn is_abandoned(socket: &Path) -> bool {
    socket.exists() && UnixStream::connect(socket).is_err()
}
