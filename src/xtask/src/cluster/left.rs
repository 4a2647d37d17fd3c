//! What clusters leave on a machine, for the tests of `down`.

use super::{cgroups, host, name::Cluster, network, outside, processes, storage};
use crate::{
    paths,
    run::{Result, run},
};

/// What of a cluster that was taken down is still on this machine.
pub fn left_behind(name: &str) -> Result<Vec<String>> {
    let dir = paths::cluster(name);
    let shown = dir.display().to_string();
    let mut left = Vec::new();
    left.extend(dir.exists().then(|| shown.clone()));
    left.extend(processes::marked(&dir).iter().map(|pid| format!("process {pid}")));
    let namespace = format!("mr-{name}");
    let groups = cgroups::dirs(&namespace).into_iter().filter(|dir| dir.exists());
    left.extend(groups.map(|dir| dir.display().to_string()));
    let namespaces = network::namespaces()?.into_iter().filter(|there| *there == namespace);
    left.extend(namespaces.map(|name| format!("network namespace {name}")));
    left.extend(storage::mounts_below(&dir)?.into_iter().map(|path| format!("mount {path}")));
    left.extend(storage::loops_in(&dir)?.into_iter().map(|device| format!("loop device {device}")));
    left.extend(outside::of(&dir).into_iter().map(|path| path.display().to_string()));
    left.extend(unclaimed_network()?);
    if Cluster::list()?.is_empty() {
        left.extend(host::changed());
    }
    Ok(left)
}

/// Devices and routes of clusters that don't exist.
fn unclaimed_network() -> Result<Vec<String>> {
    let clusters = Cluster::list()?;
    let devices = run(&["ip", "-o", "link", "show", "type", "veth"])?;
    let names = devices.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next());
    let devices =
        names.filter(|name| name.starts_with("mrveth") && !clusters.iter().any(|c| c.veth() == *name));
    let devices = devices.map(|name| format!("device {name}"));
    let routes = run(&["ip", "-4", "route"])?;
    let ranges = routes.lines().filter_map(|line| line.split(' ').next());
    let pods = ranges.filter(|range| range.starts_with("10.232."));
    let routes = pods.filter(|range| !clusters.iter().any(|c| c.pod_range() == *range));
    Ok(devices.chain(routes.map(|range| format!("route {range}"))).collect())
}
