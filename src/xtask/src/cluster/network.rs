//! One cluster's network: a namespace, a veth pair, routes.

use std::process::Command;

use super::name::Cluster;
use crate::run::{Result, run};

/// Makes what is missing of it.
pub fn up(cluster: &Cluster) -> Result<()> {
    let (ns, host, node) = (cluster.namespace(), cluster.host_ip(), cluster.node_ip());
    let veth = cluster.veth();
    run(&["sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
    if !exists(&["ip", "netns", "exec", &ns, "true"]) {
        run(&["ip", "netns", "add", &ns])?;
    }
    if !exists(&["ip", "link", "show", &veth]) {
        run(&["ip", "link", "add", &veth, "type", "veth", "peer", "name", "eth0", "netns", &ns])?;
    }
    run(&["ip", "address", "replace", &format!("{host}/24"), "dev", &veth])?;
    run(&["ip", "link", "set", &veth, "up"])?;
    run(&["ip", "-n", &ns, "address", "replace", &format!("{node}/24"), "dev", "eth0"])?;
    run(&["ip", "-n", &ns, "link", "set", "eth0", "up"])?;
    run(&["ip", "-n", &ns, "link", "set", "lo", "up"])?;
    run(&["ip", "-n", &ns, "route", "replace", "default", "via", &host])?;
    run(&["ip", "route", "replace", &cluster.pod_range(), "via", &node])?;
    let inside = cluster.enter();
    let forward = ["sysctl", "-qw", "net.ipv4.ip_forward=1"].map(str::to_owned);
    run(&[inside, forward.to_vec()].concat())?;
    Ok(())
}

/// Removes what is there of it; the pods' namespaces hold addresses of this cluster's range only.
pub fn down(cluster: &Cluster) -> Result<()> {
    for pod in pod_namespaces(cluster)? {
        run(&["ip", "netns", "delete", &pod])?;
    }
    let (ns, veth) = (cluster.namespace(), cluster.veth());
    if exists(&["ip", "link", "show", &veth]) {
        run(&["ip", "link", "delete", &veth])?;
    }
    if run(&["ip", "netns", "list"])?.lines().any(|line| line.split(' ').next() == Some(&ns)) {
        run(&["ip", "netns", "delete", &ns])?;
    }
    Ok(())
}

fn pod_namespaces(cluster: &Cluster) -> Result<Vec<String>> {
    let range = cluster.pod_range();
    let prefix = range.trim_end_matches("0/24");
    let list = run(&["ip", "netns", "list"])?;
    let names =
        list.lines().filter_map(|line| line.split(' ').next()).filter(|name| name.starts_with("cni-"));
    let ours = |name: &&str| {
        let addresses = run(&["ip", "-n", name, "-4", "-o", "address"]).unwrap_or_default();
        addresses.contains(&format!("inet {prefix}"))
    };
    Ok(names.filter(ours).map(str::to_owned).collect())
}

fn exists(words: &[&str]) -> bool {
    Command::new(words[0]).args(&words[1..]).output().is_ok_and(|out| out.status.success())
}
