//! Where volumes live: an ext4 in a file with a directory that the kernel encrypts, and a plain directory.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use snafu::ResultExt;

use super::name::Cluster;
use crate::run::{Result, read, run, wait_for};

const SIZE: &str = "8G";
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

/// Makes or completes it. The key is kept last: without one, what is there is from a command that was killed.
pub fn up(cluster: &Cluster) -> Result<()> {
    fs::create_dir_all(plain(cluster)).whatever_context("can't make the folder of plain volumes")?;
    let mount = text(&cluster.dir().join("encrypted"));
    fs::create_dir_all(&mount).whatever_context("can't make a mount point")?;
    if !key(cluster).exists() {
        detach(cluster)?;
        return create(cluster, &mount);
    }
    if !is_mounted(&mount)? {
        run(&["mount", "-o", "loop", &text(&image(cluster)), &mount])?;
    }
    let volumes = text(&encrypted(cluster));
    if !run(&["fscrypt", "status", &volumes])?.contains("Unlocked: Yes") {
        run(&["fscrypt", "unlock", &volumes, &format!("--key={}", text(&key(cluster))), "--quiet"])?;
    }
    Ok(())
}

fn create(cluster: &Cluster, mount: &str) -> Result<()> {
    let (image, volumes) = (text(&image(cluster)), text(&encrypted(cluster)));
    run(&["truncate", "--size", "0", &image])?;
    run(&["truncate", "--size", SIZE, &image])?;
    run(&["mkfs.ext4", "-q", "-F", "-O", "encrypt", &image])?;
    run(&["mount", "-o", "loop", &image, mount])?;
    run(&["fscrypt", "setup", mount, "--quiet"])?;
    fs::create_dir(&volumes).whatever_context("can't make the folder of encrypted volumes")?;
    let partial = format!("{}.new", text(&key(cluster)));
    run(&["dd", "if=/dev/urandom", &format!("of={partial}"), "bs=32", "count=1", "status=none"])?;
    let [name, file] = [format!("--name={}", cluster.name), format!("--key={partial}")];
    run(&["fscrypt", "encrypt", &volumes, "--source=raw_key", &name, &file, "--quiet", "--no-recovery"])?;
    fs::rename(&partial, key(cluster)).whatever_context("can't keep the volumes' key")
}

/// Unmounts everything below the cluster's folder (pods' volumes and network namespaces too) and detaches its loop
/// device.
pub fn down(cluster: &Cluster) -> Result<()> {
    let mut mounts = mounts_below(&cluster.dir())?;
    mounts.sort_unstable();
    for path in mounts.iter().rev() {
        run(&["umount", "--lazy", path])?;
    }
    detach(cluster)
}

/// Mount points below a folder.
pub fn mounts_below(dir: &Path) -> Result<Vec<String>> {
    let below = format!("{}/", dir.display());
    let mounts = read("/proc/mounts".as_ref())?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    Ok(points.filter(|path| path.starts_with(&below)).map(str::to_owned).collect())
}

/// Loop devices whose file is in a folder.
pub fn loops_in(dir: &Path) -> Result<Vec<String>> {
    let list = run(&["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"])?;
    let below = format!("{}/", dir.display());
    let ours = list.lines().filter_map(|line| {
        let (device, file) = line.trim().split_once(' ')?;
        file.trim().starts_with(&below).then(|| device.to_owned())
    });
    Ok(ours.collect())
}

/// The kernel detaches a device by itself once nobody uses its file system any more.
fn detach(cluster: &Cluster) -> Result<()> {
    let mount = text(&cluster.dir().join("encrypted"));
    if is_mounted(&mount)? {
        run(&["umount", "--lazy", &mount])?;
    }
    let gone = || {
        let left = loops_in(&cluster.dir()).unwrap_or_default();
        for device in &left {
            drop(run(&["losetup", "--detach", device]));
        }
        left.is_empty()
    };
    wait_for("release of the encrypted volumes' loop device", Duration::from_secs(20), gone)
}

fn is_mounted(path: &str) -> Result<bool> {
    Ok(read("/proc/mounts".as_ref())?.lines().any(|line| line.split(' ').nth(1) == Some(path)))
}

fn key(cluster: &Cluster) -> PathBuf {
    cluster.dir().join("volumes.key")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
