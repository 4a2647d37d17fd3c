//! Where volumes live: an ext4 in a file with a directory that the kernel encrypts, and a plain directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use snafu::ResultExt;

use super::name::Cluster;
use crate::run::{Result, read, run, write};

const SIZE: &str = "8G";
const FSCRYPT_CONFIG: &str = "/etc/fscrypt.conf";
const FSCRYPT_DEFAULTS: &str = r#"{
	"source": "custom_passphrase",
	"hash_costs": {"time": "18", "memory": "131072", "parallelism": "2"},
	"options": {"padding": "32", "contents": "AES_256_XTS", "filenames": "AES_256_CTS", "policy_version": "2"},
	"use_fs_keyring_for_v1_policies": false,
	"allow_cross_user_metadata": false
}
"#;

/// The folder of encrypted volumes.
pub fn encrypted(cluster: &Cluster) -> PathBuf {
    cluster.dir().join("encrypted/volumes")
}

/// The folder of plain volumes.
pub fn plain(cluster: &Cluster) -> PathBuf {
    cluster.dir().join("plain")
}

/// The ext4 below the encrypted folder: what a thief of the disk would read.
pub fn image(cluster: &Cluster) -> PathBuf {
    cluster.dir().join("encrypted.img")
}

pub fn up(cluster: &Cluster) -> Result<()> {
    fs::create_dir_all(plain(cluster)).whatever_context("can't make the folder of plain volumes")?;
    let (image, mount) = (text(&image(cluster)), text(&cluster.dir().join("encrypted")));
    if is_mounted(&mount)? {
        return Ok(());
    }
    fs::create_dir_all(&mount).whatever_context("can't make a mount point")?;
    let fresh = !cluster.dir().join("volumes.key").exists();
    if fresh {
        run(&["truncate", "--size", SIZE, &image])?;
        run(&["mkfs.ext4", "-q", "-F", "-O", "encrypt", &image])?;
    }
    run(&["mount", "-o", "loop", &image, &mount])?;
    let (volumes, key) = (text(&encrypted(cluster)), text(&cluster.dir().join("volumes.key")));
    if !fresh {
        run(&["fscrypt", "unlock", &volumes, &format!("--key={key}"), "--quiet"])?;
        return Ok(());
    }
    if !std::path::Path::new(FSCRYPT_CONFIG).exists() {
        write(std::path::Path::new(FSCRYPT_CONFIG), FSCRYPT_DEFAULTS)?;
    }
    run(&["fscrypt", "setup", &mount, "--quiet"])?;
    fs::create_dir(&volumes).whatever_context("can't make the folder of encrypted volumes")?;
    let partial = format!("{key}.new");
    run(&["dd", "if=/dev/urandom", &format!("of={partial}"), "bs=32", "count=1", "status=none"])?;
    let [name, file] = [format!("--name={}", cluster.name), format!("--key={partial}")];
    run(&["fscrypt", "encrypt", &volumes, "--source=raw_key", &name, &file, "--quiet", "--no-recovery"])?;
    fs::rename(&partial, &key).whatever_context("can't keep the volumes' key")
}

/// Unmounts everything below the cluster's folder (pods' volumes too) and detaches its loop device.
pub fn down(cluster: &Cluster) -> Result<()> {
    let dir = format!("{}/", cluster.dir().display());
    let mounts = read(std::path::Path::new("/proc/mounts"))?;
    let ours = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|path| path.starts_with(&dir));
    let mut ours: Vec<_> = ours.collect();
    ours.sort_unstable();
    for path in ours.iter().rev() {
        run(&["umount", "--lazy", path])?;
    }
    let image = text(&image(cluster));
    for device in
        run(&["losetup", "--noheadings", "--output", "NAME", "--associated", &image])?.split_whitespace()
    {
        run(&["losetup", "--detach", device])?;
    }
    Ok(())
}

fn is_mounted(path: &str) -> Result<bool> {
    let mounts = read(std::path::Path::new("/proc/mounts"))?;
    Ok(mounts.lines().any(|line| line.split(' ').nth(1) == Some(path)))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
