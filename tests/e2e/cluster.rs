//! The cluster that `cargo xtask e2e` made.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use marketrelay_api::backup::Site;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use xtask::{
    cluster::{self, Access, S3},
    kube::Kube,
    run::run,
};

/// Where the chart is installed.
pub const SYSTEM: &str = "marketrelay-system";

/// Tests that disturb others run alone.
static COMPANY: RwLock<()> = RwLock::const_new(());

/// May run beside others.
pub async fn together() -> RwLockReadGuard<'static, ()> {
    COMPANY.read().await
}

/// Runs alone: kills the operator, breaks a marketplace, counts writes.
pub async fn alone() -> RwLockWriteGuard<'static, ()> {
    COMPANY.write().await
}

fn name() -> String {
    std::env::var("MARKETRELAY_E2E_CLUSTER").expect("cargo xtask e2e sets MARKETRELAY_E2E_CLUSTER")
}

fn access() -> Access {
    cluster::access(&name()).expect("a running cluster")
}

/// The S3 server of a site.
pub fn s3(site: Site) -> S3 {
    cluster::s3(&name(), site).expect("a running cluster")
}

/// kubectl and helm.
pub fn kube() -> Kube {
    Kube::local(&access())
}

/// The folder of everything that the cluster has on this machine.
pub fn folder() -> PathBuf {
    let mut path = access().kubeconfig;
    path.pop();
    path
}

/// The API server's log of what was asked.
pub fn audit_log() -> PathBuf {
    access().audit_log
}

/// An administrator's client; each test's runtime needs its own.
pub async fn client() -> Client {
    let kubeconfig = Kubeconfig::read_from(access().kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a client configuration")).expect("a client")
}

/// Asks until there is an answer; after the deadline it fails and says what was seen last.
pub async fn wait_for<T>(what: &str, limit: Duration, ask: impl AsyncFn() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(seen) => assert!(start.elapsed() < limit, "{what}: not within {limit:?}; last seen: {seen}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The process of a pod's container, on this machine.
pub fn process(pod_uid: &str, program: &str) -> Option<u32> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let uid = pod_uid.replace('-', "_");
    pids.into_iter().find(|pid| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let group = read("cgroup");
        (group.contains(pod_uid) || group.contains(&uid)) && read("cmdline").starts_with(program)
    })
}

/// Ends a process at once.
pub fn kill(pid: u32) {
    run(&["kill", "-KILL", &pid.to_string()]).expect("killed");
}
