//! One cluster's network: a namespace, a veth pair, routes.

use super::name::Cluster;
use crate::run::{Result, command, run};

/// Makes what is missing of it.
pub fn up(cluster: &Cluster) -> Result<()> {
    let (ns, host, node) = (cluster.namespace(), cluster.host_ip(), cluster.node_ip());
    let veth = cluster.veth();
    if !succeeds(&["ip", "netns", "exec", &ns, "true"]) {
        // Without this, what a killed command left of it would be in the way.
        delete_namespace(&ns)?;
        run(&["ip", "netns", "add", &ns])?;
    }
    if !succeeds(&["ip", "link", "show", &veth]) {
        run(&["ip", "link", "add", &veth, "type", "veth", "peer", "name", "eth0", "netns", &ns])?;
    }
    run(&["ip", "address", "replace", &format!("{host}/24"), "dev", &veth])?;
    run(&["ip", "link", "set", &veth, "up"])?;
    run(&["ip", "-n", &ns, "address", "replace", &format!("{node}/24"), "dev", "eth0"])?;
    run(&["ip", "-n", &ns, "link", "set", "eth0", "up"])?;
    run(&["ip", "-n", &ns, "link", "set", "lo", "up"])?;
    run(&["ip", "-n", &ns, "route", "replace", "default", "via", &host])?;
    run(&["ip", "route", "replace", &cluster.pod_range(), "via", &node])?;
    let forward = ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"].map(str::to_owned);
    run(&[cluster.enter(), forward.to_vec()].concat())?;
    Ok(())
}

/// Removes what is there of it; routes go with their device.
pub fn down(cluster: &Cluster) -> Result<()> {
    let veth = cluster.veth();
    if succeeds(&["ip", "link", "show", &veth]) {
        run(&["ip", "link", "delete", &veth])?;
    }
    delete_namespace(&cluster.namespace())
}

/// Network namespaces that have a name.
pub fn namespaces() -> Result<Vec<String>> {
    let list = run(&["ip", "netns", "list"])?;
    Ok(list.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

fn delete_namespace(name: &str) -> Result<()> {
    if namespaces()?.iter().any(|there| there == name) {
        run(&["ip", "netns", "delete", name])?;
    }
    Ok(())
}

fn succeeds(words: &[&str]) -> bool {
    command(words).output().is_ok_and(|out| out.status.success())
}
