//! Beside a control plane: Kubernetes' controllers, its scheduler, and nodes that kwok plays. Nothing runs on them.

use std::{path::Path, time::Duration};

use serde_json::json;

use super::processes::Processes;
use crate::run::{Result, command, output, wait_for, write};

/// What is simulated.
pub struct Simulation {
    /// How many nodes; each takes any number of pods.
    pub nodes: usize,
    /// What becomes of nodes and pods: kwok's Stages, YAML.
    pub stages: String,
}

/// Of its controllers those that Jobs and relays hang on; as fast as a cluster of many tenants has them.
const CONTROLLER_MANAGER: [&str; 12] = [
    "--kubeconfig=kubeconfig",
    "--service-account-private-key-file=pki/service-accounts.key",
    "--root-ca-file=pki/ca.crt",
    "--leader-elect=false",
    "--allocate-node-cidrs=false",
    "--controllers=cronjob-controller,job-controller,garbage-collector-controller,ttl-after-finished-controller,\
     statefulset-controller,namespace-controller,node-lifecycle-controller",
    // Two of these may run on one machine.
    "--secure-port=0",
    "--kube-api-qps=1000",
    "--kube-api-burst=2000",
    "--concurrent-cron-job-syncs=20",
    "--concurrent-job-syncs=20",
    "--concurrent-namespace-syncs=20",
];

const SCHEDULER: [&str; 5] = [
    "--kubeconfig=kubeconfig",
    "--leader-elect=false",
    "--secure-port=0",
    "--kube-api-qps=1000",
    "--kube-api-burst=2000",
];

const KWOK: [&str; 4] = [
    "--kubeconfig=kubeconfig",
    "--config=stages.yaml",
    "--manage-all-nodes=true",
    "--node-lease-duration-seconds=40",
];

/// Starts all of it and waits until the nodes are Ready.
pub fn start(dir: &Path, bin: &Path, processes: &Processes, simulation: &Simulation) -> Result<()> {
    write(&dir.join("stages.yaml"), &simulation.stages)?;
    let programs = [
        ("kube-controller-manager", &CONTROLLER_MANAGER[..]),
        ("kube-scheduler", &SCHEDULER),
        ("kwok", &KWOK),
    ];
    for (name, flags) in programs {
        let program = bin.join(name).display().to_string();
        let flags = flags.iter().map(|flag| (*flag).to_owned());
        processes.start(name, &[program].into_iter().chain(flags).collect::<Vec<_>>())?;
    }
    let nodes = (0..simulation.nodes).map(|number| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("simulated-{number}")}})
    });
    let nodes = json!({"apiVersion": "v1", "kind": "List", "items": nodes.collect::<Vec<_>>()});
    let file = dir.join("nodes.json");
    write(&file, nodes.to_string())?;
    let kubectl = || {
        let mut kubectl = command(&[bin.join("kubectl")]);
        kubectl.arg("--kubeconfig").arg(dir.join("kubeconfig")).env("KUBECACHEDIR", dir.join("kubectl"));
        kubectl
    };
    output(kubectl().args(["create", "--filename"]).arg(file))?;
    let names = programs.map(|(name, _)| name);
    let ready = ["wait", "--for=condition=Ready", "--timeout=2s", "node", "--all"];
    let is_ready = || output(kubectl().args(ready)).is_ok();
    let ended = || names.iter().any(|name| !processes.runs(name));
    wait_for("simulated nodes to be Ready", Duration::from_mins(1), || ended() || is_ready())?;
    processes.check(&names)
}
