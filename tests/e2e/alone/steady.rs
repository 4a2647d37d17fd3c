//! The operator writes nothing when nothing changes, and uses exactly the rights that it has.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use kube::{Api, Client, ResourceExt, api::ListParams};
use marketrelay_api::ConnectionRecord;
use serde_json::Value;

use crate::{
    alone::operator::leader,
    cluster::{SYSTEM, alone, audit_log, kube, wait_for},
    tenant::{SOON, with_tenant},
};

const OPERATOR: &str = "system:serviceaccount:marketrelay-system:marketrelay";
/// The chart's `controller.statusIntervalSeconds`.
const LOOK: SignedDuration = SignedDuration::from_secs(20);
const WHEN: &str = "requestReceivedTimestamp";

/// The operator's requests since a position in the log, and the position after them.
fn requests(from: u64) -> (Vec<Value>, u64) {
    let mut file = fs::File::open(audit_log()).expect("the audit log");
    file.seek(SeekFrom::Start(from)).expect("a position");
    let mut text = String::new();
    let read = file.read_to_string(&mut text).expect("text");
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours =
        events.filter(|event| event["user"]["username"] == OPERATOR && event["stage"] == "ResponseComplete");
    (ours.collect(), from + read as u64)
}

fn is_write(event: &Value) -> bool {
    let verb = event["verb"].as_str().unwrap_or_default();
    ["create", "update", "patch", "delete"].contains(&verb) && event["objectRef"]["resource"] != "leases"
}

/// The IDs of all connections that are remembered: stores of earlier tests are gone, and are tried again and again.
async fn records(client: &Client) -> Vec<String> {
    let records = Api::<ConnectionRecord>::namespaced(client.clone(), SYSTEM);
    let found = records.list_metadata(&ListParams::default()).await.expect("records");
    found.iter().map(ResourceExt::name_any).collect()
}

/// Whether an object is of this customer, or the operator's own. What it does for another connection, whose namespace
/// may still be emptied, isn't.
fn is_of(tenant: &str, others: &[String], object: &Value) -> bool {
    let name = object["name"].as_str().unwrap_or_default();
    object["namespace"] == tenant
        || object["namespace"] == SYSTEM && !others.iter().any(|id| name.starts_with(id.as_str()))
}

#[tokio::test]
async fn nothing_is_written_in_a_minute_of_steady_state_nor_after_a_restart() {
    let _alone = alone().await;
    with_tenant("steady", async |tenant| {
        let begun = fs::metadata(audit_log()).expect("the audit log").len();
        let others = records(&tenant.client).await;
        for marketplace in ["ebay", "bol"] {
            tenant.connect(marketplace, 10).await;
            tenant.all_arrived(marketplace).await;
        }
        let is_ours = |event: &Value| is_write(event) && is_of(&tenant.name, &others, &event["objectRef"]);
        let ours = |events: &[Value]| -> Vec<String> {
            let events = events.iter().filter(|event| is_ours(event));
            let told = |event: &Value| format!("{} {} {}", event[WHEN], event["verb"], event["objectRef"]);
            events.map(told).collect()
        };
        // What arrived last is told at the next look.
        wait_for("nothing is written during two looks", SOON, async || {
            let writes: Vec<_> = requests(begun).0.into_iter().filter(is_ours).collect();
            let times = writes.iter().filter_map(|event| event[WHEN].as_str()?.parse::<Timestamp>().ok());
            let last = times.max().unwrap_or_default();
            if Timestamp::now().duration_since(last) > LOOK * 2 {
                Ok(())
            } else {
                Err(ours(&writes).join("\n"))
            }
        })
        .await;
        let quiet = fs::metadata(audit_log()).expect("the audit log").len();
        tokio::time::sleep(Duration::from_mins(1)).await;
        let (events, position) = requests(quiet);
        assert_eq!(ours(&events), Vec::<String>::new());
        let before = wait_for("a leader", SOON, async || leader(&tenant.client).await).await;
        kube()
            .get(&["rollout", "restart", "deployment/marketrelay", "--namespace", SYSTEM])
            .expect("restarted");
        kube()
            .get(&["rollout", "status", "deployment/marketrelay", "--namespace", SYSTEM, "--timeout=120s"])
            .expect("rolled out");
        wait_for("a new leader", SOON, async || {
            let now = leader(&tenant.client).await?;
            if now == before { Err(now) } else { Ok(()) }
        })
        .await;
        tokio::time::sleep(Duration::from_secs(45)).await;
        let (events, _) = requests(position);
        let read = |event: &Value| {
            event["verb"] == "list" && event["objectRef"]["resource"] == "marketplaceconnections"
        };
        assert!(events.iter().any(read), "the new leader has read everything");
        assert_eq!(ours(&events), Vec::<String>::new());
        tenant.ready("bol").await;
    })
    .await;
}
