//! What this needs of a Debian machine.

use std::path::Path;

use crate::{
    progress::step,
    run::{Result, command, output, run},
};
use snafu::ensure_whatever;

/// A file that shows that a package is there, and the package.
const NEEDED: [(&str, &str); 14] = [
    ("/usr/bin/containerd", "containerd"),
    ("/usr/sbin/runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("/usr/bin/fscrypt", "fscrypt"),
    ("/bin/busybox", "busybox-static"),
    ("/usr/sbin/nft", "nftables"),
    ("/usr/sbin/iptables", "iptables"),
    ("/usr/sbin/conntrack", "conntrack"),
    ("/usr/sbin/ip", "iproute2"),
    ("/usr/sbin/mkfs.ext4", "e2fsprogs"),
    ("/usr/sbin/losetup", "mount"),
    ("/usr/bin/nsenter", "util-linux"),
    ("/usr/bin/openssl", "openssl"),
    ("/usr/bin/curl", "curl"),
];

/// Installs the packages that are missing, once it's sure that they can help.
pub fn install() -> Result<()> {
    let root = run(&["id", "-u"])?.trim() == "0";
    ensure_whatever!(
        root,
        "a whole local cluster needs root (network namespaces, mounts, control groups); for a control plane alone add \
         --control-plane-only"
    );
    capabilities()?;
    require(&NEEDED)
}

/// Installs those of these packages that are missing, each by a file that shows that it is there.
pub fn require(needed: &[(&str, &str)]) -> Result<()> {
    let missing = || needed.iter().filter(|(file, _)| !Path::new(file).exists());
    if missing().next().is_none() {
        return Ok(());
    }
    let names: Vec<_> = missing().map(|(_, name)| *name).collect();
    ensure_whatever!(
        Path::new("/usr/bin/apt-get").exists(),
        "install the packages {} (their names in Debian)",
        names.join(", ")
    );
    step(format!("installing Debian packages: {}", names.join(" ")));
    run(&["apt-get", "update", "-qq"])?;
    let mut install = command(&["apt-get", "install", "-qq", "--yes", "--no-install-recommends"]);
    output(install.args(&names).env("DEBIAN_FRONTEND", "noninteractive"))?;
    match missing().next() {
        None => Ok(()),
        Some((file, name)) => {
            snafu::whatever!(
                "{file} is missing although the package {name} is installed: install {name} again"
            )
        }
    }
}

/// `CAP_NET_ADMIN` (12) and `CAP_SYS_ADMIN` (21) in the effective set.
fn capabilities() -> Result<()> {
    let status = crate::run::read(Path::new("/proc/self/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or("0");
    let set = u64::from_str_radix(line.trim(), 16).unwrap_or_default();
    for (bit, name) in [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")] {
        ensure_whatever!(
            set & (1 << bit) != 0,
            "the capability {name} is missing: run on a machine or in a container that has it; for a control plane \
             alone add --control-plane-only"
        );
    }
    Ok(())
}
