//! What follows from a cluster's name and index: folders, addresses, names of devices.

use std::{fs, path::PathBuf};

use snafu::{ResultExt, ensure_whatever};

use crate::{
    paths,
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

    /// An existing one, or a new one with the lowest free index. Two commands at once get different indexes: claiming
    /// one makes a folder, which only one of them can.
    pub fn claim(name: &str) -> Result<Self> {
        if let Some(cluster) = Self::find(name)? {
            return Ok(cluster);
        }
        for index in 1..=HIGHEST_INDEX {
            let claim = claim_dir(index);
            fs::create_dir_all(paths::cache().join("indexes"))
                .whatever_context("can't make the cache's folder")?;
            if fs::create_dir(&claim).is_ok() {
                crate::run::write(&claim.join("name"), name)?;
                crate::run::write(&paths::cluster(name).join("index"), index.to_string())?;
                return Ok(Self { name: name.to_owned(), index });
            }
        }
        snafu::whatever!("no free index: take clusters down (`cargo xtask cluster list`)")
    }

    /// All, by name.
    pub fn list() -> Result<Vec<Self>> {
        let dir = paths::cache().join("clusters");
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names.iter().filter_map(|name| Self::find(name).transpose()).collect()
    }

    /// Gives name and index back.
    pub fn release(&self) -> Result<()> {
        fs::remove_dir_all(self.dir()).whatever_context("can't remove the cluster's folder")?;
        fs::remove_dir_all(claim_dir(self.index)).whatever_context("can't give the index back")
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

fn claim_dir(index: u8) -> PathBuf {
    paths::cache().join("indexes").join(index.to_string())
}

fn check(name: &str) -> Result<()> {
    let good = !name.is_empty()
        && name.len() <= 20
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    ensure_whatever!(good, "cluster name {name:?}: at most 20 of a-z, 0-9 and -");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_paths_or_devices_are_refused() {
        for bad in ["", "A", "a/b", "..", "a_b", "a-name-that-is-much-too-long"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check("demo-2").is_ok());
    }
}
