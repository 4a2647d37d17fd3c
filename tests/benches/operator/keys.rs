//! How long after their time the keys of 1,000 keyrings die, by the operator's own audit records.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::plane::{CONCURRENCY, Plane};

const KEYRINGS: usize = 1_000;
/// Keys that stay, as with the default policy.
const LASTING: i64 = 33;
/// For writing the keyrings, before the first key's time.
const AHEAD: SignedDuration = SignedDuration::from_mins(1);
const LONGEST: Duration = Duration::from_mins(5);

pub async fn run() {
    let plane = Plane::start().await;
    plane.namespace("keys");
    let _operator = plane.operator("keys").await;
    println!("{KEYRINGS} keyrings with {} keys each", LASTING + 1);
    println!("| seconds late | min | median | p99 | max |\n|---|---|---|---|---|");
    for (set, words, over) in [("minute", "within a minute", 60_000), ("second", "within one second", 1_000)]
    {
        let before = destroyed(&plane, set).len();
        assert_eq!(before, 0);
        fall_due(&plane, set, over).await;
        let mut late = all_destroyed(&plane, set).await;
        late.sort_by(f64::total_cmp);
        let (median, high, last) = (late[KEYRINGS / 2], late[KEYRINGS * 99 / 100], late[KEYRINGS - 1]);
        println!("| due {words} | {:.2} | {median:.2} | {high:.2} | {last:.2} |", late[0]);
        println!("operator_key_lateness_seconds_{set}_max {last:.2}");
    }
}

/// Makes keyrings of deleted connections, whose first keys fall due in turn `over` so many milliseconds.
async fn fall_due(plane: &Plane, set: &str, over: i64) {
    let api = Api::<Secret>::namespaced(plane.client.clone(), "keys");
    let first = Timestamp::now() + AHEAD;
    let keyrings = (0_i64..).take(KEYRINGS).map(|number| {
        let share = over * number / i64::try_from(KEYRINGS).expect("a small number");
        keyring(&format!("{set}-{number}"), first + SignedDuration::from_millis(share))
    });
    stream::iter(keyrings)
        .for_each_concurrent(CONCURRENCY, |keyring| {
            let api = api.clone();
            async move {
                api.create(&PostParams::default(), &keyring).await.expect("a keyring");
            }
        })
        .await;
    assert!(Timestamp::now() < first, "the keyrings weren't written before their first key's time");
}

fn keyring(connection: &str, first: Timestamp) -> Secret {
    let id = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34";
    let mut secret = Secret::default();
    secret.metadata.name = Some(format!("{connection}-keyring"));
    let labels = json!({"app.kubernetes.io/component": "keys", "marketrelay.dev/connection": connection,
        "marketrelay.dev/connection-id": id, "marketrelay.dev/retained": "true"});
    secret.metadata.labels = serde_json::from_value(labels).expect("labels");
    let since =
        json!({"marketrelay.dev/volume-key-since": Timestamp::now(), "marketrelay.dev/key-epoch": "86400"});
    secret.metadata.annotations = serde_json::from_value(since).expect("annotations");
    let times = (0..=LASTING).map(|day| first + SignedDuration::from_hours(24 * day));
    let keys = times.map(|at| (format!("epoch.{}", at.strftime("%Y%m%dT%H%M%SZ")), ByteString(vec![7; 32])));
    let rest = [
        ("connection-id".to_owned(), ByteString(id.as_bytes().to_vec())),
        ("volume.1".to_owned(), ByteString(vec![8; 32])),
    ];
    secret.data = Some(keys.chain(rest).collect());
    secret
}

async fn all_destroyed(plane: &Plane, set: &str) -> Vec<f64> {
    let began = Instant::now();
    loop {
        let late = destroyed(plane, set);
        if late.len() >= KEYRINGS {
            return late;
        }
        assert!(began.elapsed() < LONGEST, "{} of {KEYRINGS} keys are destroyed", late.len());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// How late, from the audit records of a set's keys.
fn destroyed(plane: &Plane, set: &str) -> Vec<f64> {
    let records = plane.log();
    let records = records.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours = records.filter(|record| {
        let fields = &record["fields"];
        record["target"] == "marketrelay::audit"
            && fields["action"] == "EpochKeyDestroyed"
            && fields["name"].as_str().is_some_and(|name| name.starts_with(set))
    });
    ours.filter_map(|record| Some(record["fields"]["late_milliseconds"].as_f64()? / 1_000.0)).collect()
}
