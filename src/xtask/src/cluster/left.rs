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
    left.extend(unclaimed_network()?.into_iter().map(|name| format!("device or route {name}")));
    if Cluster::list()?.is_empty() {
        left.extend(host::changed());
        left.extend(outside::shared().map(|path| path.display().to_string()));
    }
    Ok(left)
}

/// Devices and routes of clusters that don't exist. Other commands may be at work: `up` claims an index before it makes
/// them, and `down` gives it back after it has removed them.
fn unclaimed_network() -> Result<Vec<String>> {
    let seen = network()?;
    let clusters = Cluster::list()?;
    let is_claimed = |name: &String| clusters.iter().any(|c| *name == c.veth() || *name == c.pod_range());
    let still = network()?;
    Ok(seen.into_iter().filter(|name| !is_claimed(name) && still.contains(name)).collect())
}

fn network() -> Result<Vec<String>> {
    let devices = run(&["ip", "-o", "link", "show", "type", "veth"])?;
    let devices = devices.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next());
    let routes = run(&["ip", "-4", "route"])?;
    let routes = routes.lines().filter_map(|line| line.split(' ').next());
    let ours = |name: &&str| name.starts_with("mrveth") || name.starts_with("10.232.");
    Ok(devices.chain(routes).filter(ours).map(str::to_owned).collect())
}
