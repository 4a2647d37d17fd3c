//! What this needs of a Debian machine.

use std::{path::Path, process::Command};

use crate::{
    progress::step,
    run::{Result, run},
};
use snafu::ensure_whatever;

/// A file that shows that a package is there, and the package.
const NEEDED: [(&str, &str); 12] = [
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
    let missing: Vec<_> =
        NEEDED.iter().filter(|(file, _)| !Path::new(file).exists()).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        ensure_whatever!(
            Path::new("/usr/bin/apt-get").exists(),
            "install the packages {} (their names in Debian)",
            missing.join(", ")
        );
        step(format!("installing Debian packages: {}", missing.join(" ")));
        run(&["apt-get", "update", "-qq"])?;
        let mut install = Command::new("apt-get");
        install.args(["install", "-qq", "--yes", "--no-install-recommends"]).args(&missing);
        crate::run::output(install.env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    Ok(())
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
