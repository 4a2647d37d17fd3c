//! What follows from a cluster's name and index: folders, addresses, names of devices.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use snafu::{OptionExt, ResultExt, ensure_whatever};

use crate::{
    paths,
    progress::step,
    run::{Result, read},
};

const HIGHEST_INDEX: u8 = 200;

/// A local cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub name: String,
    /// Third byte of its addresses.
    pub index: u8,
}

impl Cluster {
    /// An existing one.
    pub fn find(name: &str) -> Result<Option<Self>> {
        check(name)?;
        let path = paths::cluster(name).join("index");
        if !path.exists() {
            return Ok(None);
        }
        let index =
            read(&path)?.trim().parse().with_whatever_context(|e| format!("{}: {e}", path.display()))?;
        Ok(Some(Self { name: name.to_owned(), index }))
    }

    /// An existing one, or a new one with the lowest free index. `with_all` runs while no other command claims or
    /// releases one.
    pub fn claim(name: &str, with_all: impl FnOnce() -> Result<()>) -> Result<Self> {
        let _alone = alone()?;
        with_all()?;
        if let Some(cluster) = Self::find(name)? {
            return Ok(cluster);
        }
        let taken: Vec<u8> = Self::list()?.iter().map(|cluster| cluster.index).collect();
        let cluster = (1..=HIGHEST_INDEX)
            .map(|index| Self { name: name.to_owned(), index })
            .find(|cluster| !taken.contains(&cluster.index) && !cluster.is_elsewhere())
            .whatever_context("no free index: take clusters down (`cargo xtask cluster list`)")?;
        let (new, path) = (cluster.dir().join("index.new"), cluster.dir().join("index"));
        crate::run::write(&new, cluster.index.to_string())?;
        fs::rename(new, path).whatever_context("can't keep the cluster's index")?;
        Ok(cluster)
    }

    /// Its addresses belong to a cluster of another cache.
    fn is_elsewhere(&self) -> bool {
        Path::new("/sys/class/net").join(self.veth()).exists()
    }

    /// All, by name.
    pub fn list() -> Result<Vec<Self>> {
        let entries = fs::read_dir(clusters()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names.filter(|name| check(name).is_ok()).collect();
        names.sort();
        names.iter().filter_map(|name| Self::find(name).transpose()).collect()
    }

    /// Keeps other commands from changing this cluster until the answer is dropped; `None` if another one has removed
    /// it meanwhile.
    pub fn lock(&self) -> Result<Option<File>> {
        let path = self.dir().join("index");
        let Ok(file) = File::open(&path) else { return Ok(None) };
        if file.try_lock().is_err() {
            step(format!("waiting for another command that works on cluster {}", self.name));
            file.lock().whatever_context("can't lock the cluster")?;
        }
        let inode = |found: io::Result<fs::Metadata>| found.map(|found| found.ino()).ok();
        Ok((inode(file.metadata()) == inode(fs::metadata(&path))).then_some(file))
    }

    /// Gives name and index back, unless another command has claimed the name meanwhile; `after_last` runs if no
    /// cluster is left.
    pub fn release(&self, after_last: impl FnOnce() -> Result<()>) -> Result<()> {
        let _alone = alone()?;
        if Self::find(&self.name)?.is_some_and(|there| there != *self) {
            return Ok(());
        }
        fs::remove_dir_all(self.dir()).whatever_context("can't remove the cluster's folder")?;
        if Self::list()?.is_empty() { after_last() } else { Ok(()) }
    }

    pub fn dir(&self) -> PathBuf {
        paths::cluster(&self.name)
    }

    pub fn namespace(&self) -> String {
        format!("mr-{}", self.name)
    }

    pub fn veth(&self) -> String {
        format!("mrveth{}", self.index)
    }

    pub fn host_ip(&self) -> String {
        format!("10.231.{}.1", self.index)
    }

    pub fn node_ip(&self) -> String {
        format!("10.231.{}.2", self.index)
    }

    pub fn pod_range(&self) -> String {
        format!("10.232.{}.0/24", self.index)
    }

    pub fn service_range(&self) -> String {
        format!("10.233.{}.0/24", self.index)
    }

    pub fn service_ip(&self, last: u8) -> String {
        format!("10.233.{}.{last}", self.index)
    }

    /// Words that run a program in the cluster's network namespace. (`ip netns exec` would hide the cgroups.)
    pub fn enter(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", self.namespace())]
    }
}

fn clusters() -> PathBuf {
    paths::cache().join("clusters")
}

/// Only one command at a time claims or releases a cluster.
fn alone() -> Result<File> {
    let dir = clusters();
    fs::create_dir_all(&dir).with_whatever_context(|e| format!("can't make {}: {e}", dir.display()))?;
    let file = File::open(&dir).with_whatever_context(|e| format!("can't open {}: {e}", dir.display()))?;
    file.lock().with_whatever_context(|e| format!("can't lock {}: {e}", dir.display()))?;
    Ok(file)
}

fn check(name: &str) -> Result<()> {
    let good = (1..=20).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    ensure_whatever!(
        good,
        "cluster name {name:?}: at most 20 of a-z, 0-9 and -, which is neither first nor last"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_paths_or_devices_are_refused() {
        for bad in ["", "A", "a/b", "..", "a_b", "-a", "a-", "a-name-that-is-much-too-long"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check("demo-2").is_ok());
    }
}
