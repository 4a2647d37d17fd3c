//! What is killed in the middle of a backup leaves no half of one, and the next is whole.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::ListParams};
use marketrelay_api::backup::Site;
use serde_json::json;

use crate::{
    backups::{backed_up, files, ids, store, told},
    cluster::{kill, process, s3, together, wait_for},
    restores::{newer_backup, policy},
    stalled::Stalled,
    tenant::{Tenant, with_tenant},
};

/// Enough for a snapshot to take longer than it takes to find who takes it.
const ORDERS: u32 = 4_000;
/// A marketplace's pages, a Job's turn and its patience, on a busy machine.
const SOON: Duration = Duration::from_mins(5);

/// Makes a Job as a person does who can't wait.
fn back_up(tenant: &Tenant, job: &str) {
    tenant.kubectl(&["create", "job", "--from=cronjob/bol-on-site", job]).expect("a Job");
}

/// The process of a Job's pod and the pod's address, as soon as it runs; `None`: it has ended already.
async fn at_work(tenant: &Tenant, job: &str) -> Option<(u32, String)> {
    wait_for(&format!("{}: {job} runs", tenant.name), SOON, async || {
        if has_ended(tenant, job)? {
            return Ok(None);
        }
        let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        let pods = tenant.api::<Pod>().list(&of_job).await.map_err(|error| error.to_string())?;
        let pod = pods.items.first().ok_or("no pod")?;
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).ok_or("no address")?;
        let process = process(&pod.uid().unwrap_or_default(), "/marketrelay-backup").ok_or("no process")?;
        Ok(Some((process, address)))
    })
    .await
}

fn has_ended(tenant: &Tenant, job: &str) -> Result<bool, String> {
    let ended = "--output=jsonpath={.status.conditions[?(@.status=='True')].type}";
    let conditions = tenant.kubectl(&["get", "job", job, ended])?;
    Ok(conditions.contains("Complete") || conditions.contains("Failed"))
}

/// Waits for the end of a Job; gives its log.
async fn log(tenant: &Tenant, job: &str) -> String {
    wait_for(&format!("{}: {job} has ended", tenant.name), SOON, async || {
        if !has_ended(tenant, job)? {
            return Err("it hasn't".to_owned());
        }
        tenant.kubectl(&["logs", &format!("job/{job}")])
    })
    .await
}

/// What the store has of backups are whole ones.
fn is_whole(tenant: &Tenant) {
    let files = files(tenant, Site::OnSite);
    for id in ids(tenant, Site::OnSite) {
        for part in ["data", "manifest.json"] {
            let is_part = |path: &PathBuf| path.ends_with(format!("{id}/{part}"));
            assert!(files.iter().any(is_part), "{id} has no {part}: {files:?}");
        }
    }
}

/// Kills the relay while it streams; the Job must have seen it. A moment that is missed is waited for with another Job.
async fn kill_relay_mid_snapshot(tenant: &Tenant) {
    for attempt in 1..=8 {
        let job = format!("cut-{attempt}");
        let relay = tenant.relay_process("bol").await;
        back_up(tenant, &job);
        let Some((_, address)) = at_work(tenant, &job).await else { continue };
        let is_caught = wait_for("the Job has a connection to the relay", SOON, async || {
            if has_connection(relay, &address) {
                return Ok(true);
            }
            if has_ended(tenant, &job)? { Ok(false) } else { Err(format!("none from {address}")) }
        })
        .await;
        if !is_caught {
            continue;
        }
        kill(relay);
        let log = log(tenant, &job).await;
        tenant.ready("bol").await;
        if log.contains("the snapshot was cut") {
            return;
        }
    }
    panic!("no snapshot was cut");
}

/// Whether an address has an established connection to the relay's process, by its namespace's table.
fn has_connection(relay: u32, address: &str) -> bool {
    let address: std::net::Ipv4Addr = address.parse().expect("an address");
    let hex = format!("{:08X}:", u32::from_le_bytes(address.octets()));
    let mapped = format!("0000000000000000FFFF0000{hex}");
    ["tcp", "tcp6"].iter().any(|table| {
        let table = std::fs::read_to_string(format!("/proc/{relay}/net/{table}")).unwrap_or_default();
        table.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(2);
            let remote = fields.next().unwrap_or_default();
            (remote.starts_with(&hex) || remote.starts_with(&mapped)) && fields.next() == Some("01")
        })
    })
}

/// Kills the Job while its data is on the way.
async fn kill_job_mid_upload(tenant: &Tenant, way: &Stalled) {
    way.stop_after(64 * 1024);
    back_up(tenant, "killed");
    let (job, _) = at_work(tenant, "killed").await.expect("a Job whose upload can't end");
    wait_for("an upload is under way", SOON, async || {
        if way.has_stopped() { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    kill(job);
    way.go_on();
    log(tenant, "killed").await;
}

#[tokio::test]
async fn a_relay_killed_mid_snapshot_and_a_job_killed_mid_upload_leave_no_half_of_a_backup() {
    let _together = together().await;
    with_tenant("halves", |tenant| async move {
        let s3 = s3(Site::OnSite);
        let address = s3.endpoint.trim_start_matches("https://").parse::<SocketAddr>();
        let way = Stalled::before(address.expect("an address")).await;
        tenant.seller("ebay", 1).await;
        tenant.order("ebay", ORDERS).await;
        tenant.apply(&policy());
        let mut store = store(&tenant, Site::OnSite, None);
        store["s3"]["endpoint"] = json!(format!("https://{}", way.address));
        let mut connection = tenant.connection("ebay");
        connection["metadata"]["name"] = json!("bol");
        connection["spec"]["retentionPolicyRef"] = json!({"name": "minutes"});
        connection["spec"]["backup"] = json!({"schedule": "*/30 * * * *", "onSite": store});
        tenant.apply(&connection);
        let line = format!("marketrelay_relay_stored{{what=\"orders\"}} {}", ORDERS + 1);
        wait_for("all orders are stored", SOON, async || {
            let metrics = tenant.metrics("bol")?;
            let found: Vec<_> = metrics.lines().filter(|line| line.contains("\"orders\"")).collect();
            if found.contains(&line.as_str()) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;

        // From then on the relay has what backups are encrypted to: it refuses nothing, and only the test ends it.
        backed_up(&tenant, Site::OnSite).await;
        kill_relay_mid_snapshot(&tenant).await;
        is_whole(&tenant);
        kill_job_mid_upload(&tenant, &way).await;
        back_up(&tenant, "whole");
        newer_backup(&tenant, Site::OnSite).await;
        log(&tenant, "whole").await;
        is_whole(&tenant);
        let told = told(&tenant, Site::OnSite).await.expect("told");
        assert_eq!((told.foreign, told.damaged, told.overdue), (0, 0, 0), "{told:?}");
        tenant.ready("bol").await;
    })
    .await;
}
