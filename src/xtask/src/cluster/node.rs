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
    // The kubelet gives up at once without containerd's socket.
    let socket = dir.join("run/c.sock");
    wait_for("containerd", Duration::from_secs(30), || socket.exists())?;
    pause(cluster, bin)?;
    let mut node = with("kubelet", &["--config=kubelet.yaml", "--kubeconfig=kubelet.kubeconfig"]);
    node.extend([hostname, format!("--root-dir={}", dir.join("kubelet").display())]);
    node.push(format!("--node-ip={}", cluster.node_ip()));
    processes.start("kubelet", &node)?;
    let ready = ["wait", "--for=condition=Ready", "--timeout=2s", "node", &cluster.name];
    let is_ready = || output(kubectl(cluster, bin).args(ready)).is_ok();
    wait_for("the node to be Ready (see log/kubelet.log)", Duration::from_secs(90), is_ready)
}

/// kubectl as the cluster's administrator.
pub fn kubectl(cluster: &Cluster, bin: &Path) -> std::process::Command {
    let mut command = command(&[bin.join("kubectl")]);
    command.arg("--kubeconfig").arg(cluster.dir().join("kubeconfig"));
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
    let mut import = command(&["ctr", "--namespace", "k8s.io", "--address"]);
    import.arg(cluster.dir().join("run/c.sock")).args(["images", "import"]).arg(archive);
    output(&mut import)?;
    Ok(())
}

/// The program that holds a pod's namespaces: busybox, waiting.
fn pause(cluster: &Cluster, _bin: &Path) -> Result<()> {
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

/// `restrict_oom_score_adj`: without `CAP_SYS_RESOURCE` a negative score is refused.
fn containerd(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "version = 2\nroot = \"{dir}/containerd\"\nstate = \"{dir}/run\"\n\
         [grpc]\n  address = \"{dir}/run/c.sock\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"{PAUSE}\"\n  restrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\n  bin_dir = \"/usr/lib/cni\"\n  conf_dir = \"{dir}/cni\"\n"
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
        "resolvConf": "/dev/null",
        "enforceNodeAllocatable": [],
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
        "maxPods": 250,
        "serializeImagePulls": false,
    })
    .to_string()
}
