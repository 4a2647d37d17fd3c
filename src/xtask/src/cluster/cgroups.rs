//! One cluster's control groups: two kubelets under the same root would take each other's pods for orphans.

use std::{
    fs,
    path::{Path, PathBuf},
};

use snafu::ResultExt;

use super::{name::Cluster, processes::kill_all};
use crate::run::{Result, wait_for};

const ROOT: &str = "/sys/fs/cgroup";

pub fn up(cluster: &Cluster) -> Result<()> {
    for dir in dirs(&cluster.namespace()) {
        fs::create_dir_all(&dir).with_whatever_context(|e| format!("can't make {}: {e}", dir.display()))?;
    }
    Ok(())
}

/// Kills what still runs in them and removes them.
pub fn down(cluster: &Cluster) -> Result<()> {
    let all = dirs(&cluster.namespace());
    kill_all("end of the pods' processes", || all.iter().flat_map(|dir| pids(dir)).collect())?;
    for dir in &all {
        let removed = || {
            remove(dir);
            !dir.exists()
        };
        wait_for("removal of control groups", std::time::Duration::from_secs(10), removed)?;
    }
    Ok(())
}

/// In every controller of version 1, or in the one tree of version 2.
pub fn dirs(name: &str) -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return vec![root.join(name)];
    }
    let controllers = fs::read_dir(root).into_iter().flatten().flatten();
    let real = controllers.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    real.map(|entry| entry.path().join(name)).collect()
}

fn children(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

fn pids(dir: &Path) -> Vec<u32> {
    let own = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let own = own.lines().filter_map(|line| line.parse().ok());
    own.chain(children(dir).flat_map(|child| pids(&child))).collect()
}

/// A group that is still busy stays until the next try.
fn remove(dir: &Path) {
    children(dir).for_each(|child| remove(&child));
    drop(fs::remove_dir(dir));
}
