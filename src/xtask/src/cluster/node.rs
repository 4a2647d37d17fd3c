//! The node: controllers, scheduler, proxy, containerd and kubelet.

use std::{path::Path, time::Duration};

use super::{name::Cluster, processes::Processes};
use crate::{
    image,
    run::{Result, command, output, wait_for, write},
};

const PAUSE: &str = "marketrelay.dev/pause:1";

/// Starts what isn't running and waits until the node is Ready.
pub fn start(cluster: &Cluster, bin: &Path, processes: &Processes) -> Result<()> {
    let dir = cluster.dir();
    write(&dir.join("cni/10-bridge.conflist"), cni(cluster, &dir))?;
    write(&dir.join("containerd.toml"), containerd(&dir))?;
    write(&dir.join("kubelet.yaml"), kubelet(cluster, &dir))?;
    let program = |name: &str| bin.join(name).display().to_string();
    let with = |name: &str, flags: &[&str]| {
        let flags = flags.iter().map(|flag| (*flag).to_owned());
        [program(name)].into_iter().chain(flags).collect::<Vec<_>>()
    };
    processes.start("kube-controller-manager", &with("kube-controller-manager", &CONTROLLER_MANAGER))?;
    processes.start(
        "kube-scheduler",
        &with("kube-scheduler", &["--kubeconfig=kubeconfig", "--leader-elect=false"]),
    )?;
    let hostname = format!("--hostname-override={}", cluster.name);
    let range = format!("--cluster-cidr={}", cluster.pod_range());
    let mut proxy = with("kube-proxy", &PROXY);
    proxy.extend([hostname.clone(), range]);
    processes.start("kube-proxy", &proxy)?;
    processes.start("containerd", &["containerd", "-c", "containerd.toml"])?;
    // The kubelet gives up at once without containerd.
    let answers = || ctr(cluster).arg("version").output().is_ok_and(|out| out.status.success());
    let ended = || !processes.runs("containerd");
    wait_for("containerd", Duration::from_secs(30), || ended() || answers())?;
    processes.check(&["containerd"])?;
    pause(cluster)?;
    let mut node = with("kubelet", &["--config=kubelet.yaml", "--kubeconfig=kubelet.kubeconfig"]);
    node.extend([hostname, format!("--root-dir={}", dir.join("kubelet").display())]);
    node.push(format!("--node-ip={}", cluster.node_ip()));
    let heartbeat = || lease(cluster, bin);
    let before = if processes.runs("kubelet") { None } else { heartbeat() };
    processes.start("kubelet", &node)?;
    // What the API server says about a node may be from before the kubelet was started again.
    let is_current = || heartbeat().is_some_and(|now| before.as_ref() != Some(&now));
    let ready = ["wait", "--for=condition=Ready", "--timeout=2s", "node", &cluster.name];
    let is_ready = || is_current() && output(kubectl(cluster, bin).args(ready)).is_ok();
    let ended = || !processes.runs("kubelet");
    let limit = Duration::from_secs(90);
    wait_for("the node to be Ready (see log/kubelet.log)", limit, || ended() || is_ready())?;
    processes.check(&["kubelet", "kube-proxy", "kube-controller-manager", "kube-scheduler"])
}

/// When the kubelet last reported.
fn lease(cluster: &Cluster, bin: &Path) -> Option<String> {
    let mut get = kubectl(cluster, bin);
    get.args(["get", "lease", "--namespace=kube-node-lease", &cluster.name]);
    output(get.arg("--output=jsonpath={.spec.renewTime}")).ok()
}

/// kubectl as the cluster's administrator.
pub fn kubectl(cluster: &Cluster, bin: &Path) -> std::process::Command {
    let mut command = command(&[bin.join("kubectl")]);
    command.arg("--kubeconfig").arg(cluster.dir().join("kubeconfig"));
    command.env("KUBECACHEDIR", cluster.dir().join("kubectl"));
    command
}

const CONTROLLER_MANAGER: [&str; 8] = [
    "--kubeconfig=kubeconfig",
    "--service-account-private-key-file=pki/service-accounts.key",
    "--root-ca-file=pki/ca.crt",
    "--use-service-account-credentials",
    "--leader-elect=false",
    "--allocate-node-cidrs=false",
    "--bind-address=127.0.0.1",
    "--kube-api-qps=100",
];

const PROXY: [&str; 5] = [
    "--kubeconfig=kubeconfig",
    "--proxy-mode=nftables",
    "--conntrack-max-per-core=0",
    "--conntrack-tcp-timeout-established=0",
    "--conntrack-tcp-timeout-close-wait=0",
];

/// Imports an image archive into the node.
pub fn load(cluster: &Cluster, archive: &Path) -> Result<()> {
    output(ctr(cluster).args(["images", "import"]).arg(archive))?;
    Ok(())
}

fn ctr(cluster: &Cluster) -> std::process::Command {
    let mut ctr = command(&["ctr", "--namespace", "k8s.io", "--connect-timeout", "2s", "--address"]);
    ctr.arg(cluster.dir().join("run/c.sock"));
    ctr
}

/// The program that holds a pod's namespaces: busybox, waiting.
fn pause(cluster: &Cluster) -> Result<()> {
    let archive = cluster.dir().join("pause.tar");
    let image = image::Image {
        reference: PAUSE,
        files: &[("/bin/busybox".into(), "/busybox")],
        links: &[],
        entrypoint: &["/busybox", "sleep", "2147483647"],
        user: "65535:65535",
    };
    image::build(&image, &archive)?;
    load(cluster, &archive)
}

fn cni(cluster: &Cluster, dir: &Path) -> String {
    let plugins = serde_json::json!([
        {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
         "ipam": {"type": "host-local", "dataDir": dir.join("ipam"),
                  "ranges": [[{"subnet": cluster.pod_range()}]], "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]);
    serde_json::json!({"cniVersion": "1.0.0", "name": "bridge", "plugins": plugins}).to_string()
}

/// `restrict_oom_score_adj`: without `CAP_SYS_RESOURCE` a negative score is refused. All that can be is below the
/// cluster's folder, so that `down` knows whose it is.
fn containerd(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "version = 2\nroot = \"{dir}/containerd\"\nstate = \"{dir}/run\"\n\
         [grpc]\n  address = \"{dir}/run/c.sock\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"{PAUSE}\"\n  restrict_oom_score_adj = true\n\
         \x20 netns_mounts_under_state_dir = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\n  bin_dir = \"/usr/lib/cni\"\n  conf_dir = \"{dir}/cni\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n  Root = \"{dir}/runc\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\n  path = \"{dir}/opt\"\n"
    )
}

fn kubelet(cluster: &Cluster, dir: &Path) -> String {
    serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", cluster.namespace()),
        "containerRuntimeEndpoint": format!("unix://{}/run/c.sock", dir.display()),
        "failSwapOn": false,
        "authentication": {"anonymous": {"enabled": false}, "x509": {"clientCAFile": dir.join("pki/ca.crt")},
                           "webhook": {"enabled": true}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": dir.join("pki/kubelet.crt"),
        "tlsPrivateKeyFile": dir.join("pki/kubelet.key"),
        "address": cluster.node_ip(),
        "clusterDNS": [cluster.service_ip(10)],
        "clusterDomain": "cluster.local",
        "podLogsDir": dir.join("podlogs"),
        "volumePluginDir": dir.join("volume-plugins"),
        "resolvConf": "/dev/null",
        "enforceNodeAllocatable": [],
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
        // Nothing can be pulled again here, and another folder of the disk may be full for good.
        "imageGCHighThresholdPercent": 100,
        "maxPods": 250,
        "serializeImagePulls": false,
    })
    .to_string()
}
