//! Holds: a key each, made and destroyed as the policy says, and never before its end without a confirmation.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{
    Client,
    api::{Patch, PatchParams, PostParams},
};
use marketrelay_api::{
    MarketplaceConnection, MarketplaceConnectionStatus, RetentionPolicy,
    hold::{HoldState, HoldStatus},
    record::RecordPhase,
};
use serde_json::json;

use super::{
    CONFIG, Operator, audit, change,
    closures::{confirm, confirm_record, reaches},
    connect, connected, connection, delete,
    erasures::{World, reason as erasure_reason, request, secret},
    furnish,
    gate::{send, through},
    kubelet::Volume,
    reason,
};
use crate::{
    samples::{Kind, create},
    support::{Space, wait_for, with_namespace},
};

/// What a busy machine may need between two looks.
const SLACK: SignedDuration = SignedDuration::from_secs(8);

fn from_now(seconds: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + seconds).expect("in range")
}

fn stamp(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn entry(name: &str, until: Timestamp) -> String {
    format!("hold.{name}.{}", stamp(until))
}

/// A policy with a hold of all orders of these years until then, and a connection that refers to it.
pub(super) async fn policy(space: &Space, until: Timestamp) {
    let policy = json!({"metadata": {"name": "standard"}, "spec": {"holds": [{
        "name": "tax", "reason": "AO 147, decided by the controller",
        "placed": {"from": "2020-01-01", "to": "2100-01-01"}, "until": until.to_string(),
    }]}});
    create(space, Kind::Policy, &policy.to_string()).await;
}

pub(super) async fn refer(space: &Space, name: &str) {
    change::<MarketplaceConnection>(space, name, "{spec: {retentionPolicyRef: {name: standard}}}").await;
}

/// The hold's keys by their entries.
async fn keys(space: &Space) -> Option<BTreeMap<String, Vec<u8>>> {
    let secret = space.api::<Secret>().get_opt("bol-keyring").await.expect("an answer")?;
    let entries = secret.data.unwrap_or_default().into_iter();
    Some(entries.filter(|(name, _)| name.starts_with("hold.")).map(|(name, bytes)| (name, bytes.0)).collect())
}

async fn has_keys(space: &Space, names: &[String]) -> Vec<Vec<u8>> {
    wait_for(space, &format!("the keys {names:?}"), async || {
        let keys = keys(space).await?;
        keys.keys().eq(names.iter()).then(|| keys.into_values().collect())
    })
    .await
}

async fn status(space: &Space, name: &str) -> MarketplaceConnectionStatus {
    connection(space, name).await.status.unwrap_or_default()
}

/// Waits until the condition Held has this reason; gives its message and the holds.
pub(super) async fn held(space: &Space, name: &str, reason: &str) -> (String, Vec<HoldStatus>) {
    wait_for(space, &format!("Held of {name} is {reason}"), async || {
        let status = status(space, name).await;
        let condition = status.conditions.into_iter().find(|condition| condition.type_ == "Held")?;
        (condition.reason == reason).then_some((condition.message, status.holds))
    })
    .await
}

/// What the kubelet would say of the relay's pod.
async fn runs(space: &Space) {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "bol-relay-0", "labels": {"app.kubernetes.io/managed-by": "marketrelay-operator",
            "app.kubernetes.io/component": "relay", "marketrelay.dev/connection": "bol"}},
        "spec": {"serviceAccountName": "bol-relay", "containers": [{"name": "relay", "image": "relay:1"}]},
    }))
    .expect("a pod");
    let pods = space.api::<Pod>();
    pods.create(&PostParams::default(), &pod).await.expect("a pod");
    let running = json!({"status": {"phase": "Running"}});
    pods.patch_status("bol-relay-0", &PatchParams::default(), &Patch::Merge(running)).await.expect("it runs");
}

/// Three more looks at the connections.
async fn looks(space: &Space) {
    let before = audit::looks(space);
    wait_for(space, "more looks", async || (audit::looks(space) >= before + 3).then_some(())).await;
}

#[tokio::test]
async fn a_hold_has_its_key_at_once_and_is_held_when_the_relay_confirms() {
    with_namespace(|space| async move {
        let world = World::start().await;
        furnish(&space).await;
        let _operator = Operator::start(&space, &world.config()).await;
        world.order(3, "zoe@nachtigall.example").await;
        let until = from_now(86_400);
        policy(&space, until).await;
        world.connect(&space, "bol").await;
        refer(&space, "bol").await;
        has_keys(&space, &[entry("tax", until)]).await;
        let (message, holds) = held(&space, "bol", "HoldPending").await;
        assert!(message.contains("tax:") && holds[0].state == HoldState::Pending, "{message} {holds:?}");
        let config = wait_for(&space, "the relay's configuration", async || {
            let map = space.api::<ConfigMap>().get("bol-relay").await.ok()?;
            map.data?.remove("relay.yaml").filter(|file| file.contains("holds:"))
        })
        .await;
        assert!(config.contains("2020-01-01T00:00:00Z"), "{config}");
        let volume = Volume::new();
        let pod = volume.start(&space, "bol").await;
        runs(&space).await;
        world.arrived(&space, 3).await;
        let (message, holds) = held(&space, "bol", "Held").await;
        assert!(message.contains("volume is the only copy"), "{message}");
        assert_eq!((holds.len(), holds[0].name.as_str(), holds[0].state), (1, "tax", HoldState::Held));
        assert_eq!(holds[0].until.0, until);

        secret(&space, "case-4711", json!({"emails": "zoe@nachtigall.example"})).await;
        request(&space, "{}").await;
        let (message, status) = erasure_reason(&space, "Held").await;
        assert!(message.contains("holds keep 3"), "{message}");
        assert_eq!((status.matched, status.erased, status.held), (Some(3), Some(3), Some(3)));
        assert_eq!(status.connections[0].held, Some(3));
        assert!(status.sealed_copies_until.is_some_and(|at| at.0 >= until), "until the hold's end");
        pod.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_hold_ends_early_only_when_that_is_confirmed_also_by_another_operator() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        let (until, later) = (from_now(7_200), from_now(9_000));
        policy(&space, until).await;
        connect(&space, "bol").await;
        refer(&space, "bol").await;
        let key = has_keys(&space, &[entry("tax", until)]).await;
        let change = async |spec: serde_json::Value| {
            change::<RetentionPolicy>(&space, "standard", &json!({"spec": spec}).to_string()).await
        };
        let hold = |until: Timestamp| {
            json!([{"name": "tax", "reason": "x", "placed": {"from": "2020-01-01", "to": "2020-01-02"},
                "until": until.to_string()}])
        };
        change(json!({"holds": hold(later)})).await;
        assert_eq!(has_keys(&space, &[entry("tax", later)]).await, key, "the same key under another name");
        for spec in [json!({"holds": hold(until)}), json!({"holds": []}), json!({"endHolds": ["taxes"]})] {
            change(spec.clone()).await;
            let (message, holds) = held(&space, "bol", "HoldKept").await;
            assert!(message.contains("add its name to spec.endHolds"), "{message}");
            assert_eq!((holds[0].state, holds[0].until.0), (HoldState::Kept, later));
            looks(&space).await;
            assert_eq!(has_keys(&space, &[entry("tax", later)]).await, key, "{spec}");
        }
        operator.stop().await;
        let operator = Operator::start(&space, CONFIG).await;
        looks(&space).await;
        assert_eq!(has_keys(&space, &[entry("tax", later)]).await, key);
        change(json!({"holds": hold(until), "endHolds": ["tax"]})).await;
        assert_eq!(has_keys(&space, &[entry("tax", until)]).await, key, "the earlier end is confirmed");
        operator.stop().await;
        change(json!({"holds": []})).await;
        let _operator = Operator::start(&space, CONFIG).await;
        has_keys(&space, &[]).await;
        wait_for(&space, "nothing is said of it any more", async || {
            let status = status(&space, "bol").await;
            let told = status.conditions.iter().any(|condition| condition.type_ == "Held");
            (!told && status.holds.is_empty()).then_some(())
        })
        .await;
        change(json!({"holds": hold(until), "endHolds": []})).await;
        assert_ne!(
            has_keys(&space, &[entry("tax", until)]).await,
            key,
            "a later hold of the name is another one"
        );
    })
    .await;
}

#[tokio::test]
async fn a_hold_whose_end_has_passed_holds_nothing_and_says_so() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        policy(&space, from_now(-60)).await;
        connect(&space, "bol").await;
        refer(&space, "bol").await;
        let (message, holds) = held(&space, "bol", "HoldEnded").await;
        assert!(message.contains("holds nothing") && holds[0].state == HoldState::Ended, "{message}");
        let ready = wait_for(&space, "the policy says so", async || {
            let policy = space.api::<RetentionPolicy>().get("standard").await.expect("a policy");
            policy.status?.conditions.into_iter().next()
        })
        .await;
        assert!(ready.status == "True" && ready.message.ends_with("hold nothing: tax"), "{}", ready.message);
        looks(&space).await;
        has_keys(&space, &[]).await;
    })
    .await;
}

#[tokio::test]
async fn a_holds_key_dies_at_its_second_though_its_connection_is_deleted() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        connect(&space, "bol").await;
        wait_for(&space, "a keyring", async || {
            space.api::<Secret>().get_opt("bol-keyring").await.expect("an answer")
        })
        .await;
        delete::<MarketplaceConnection>(&space, "bol").await;
        operator.stop().await;
        let (soon, lasting) = (from_now(12), from_now(3_600));
        let value = "A".repeat(43) + "=";
        let data = json!({entry("tax", soon): value, entry("court", lasting): value});
        change::<Secret>(&space, "bol-keyring", &json!({"data": data}).to_string()).await;
        let _operator = Operator::start(&space, CONFIG).await;
        wait_for(&space, "its time", async || {
            let alive = keys(&space).await.expect("a keyring").contains_key(&entry("tax", soon));
            assert!(alive || Timestamp::now() >= soon, "it died before its time");
            (!alive).then_some(())
        })
        .await;
        let late = Timestamp::now().duration_since(soon);
        assert!(late < SLACK, "{late:#} late");
        has_keys(&space, &[entry("court", lasting)]).await;
    })
    .await;
}

#[tokio::test]
async fn a_hold_that_is_prolonged_too_late_ends_and_says_so_until_it_gets_another_name() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        let later = from_now(7_200);
        policy(&space, later).await;
        connect(&space, "bol").await;
        refer(&space, "bol").await;
        has_keys(&space, &[entry("tax", later)]).await;
        operator.stop().await;
        // As if its end had been within seconds, and its orders told.
        let soon = from_now(25);
        let data = json!({entry("tax", later): null, entry("tax", soon): "A".repeat(43) + "="});
        change::<Secret>(&space, "bol-keyring", &json!({"data": data}).to_string()).await;
        let told = json!({"status": {"holds": [
            {"name": "tax", "until": soon.to_string(), "orders": 3, "state": "Held"}]}});
        let connections = space.api::<MarketplaceConnection>();
        connections.patch_status("bol", &PatchParams::default(), &Patch::Merge(told)).await.expect("told");
        let _operator = Operator::start(&space, CONFIG).await;
        let (message, holds) = held(&space, "bol", "HoldEnded").await;
        assert!(message.starts_with("tax: the later end came too late"), "{message}");
        assert_eq!((holds[0].state, holds[0].until.0), (HoldState::Ended, soon));
        wait_for(&space, "its own end", async || {
            let keys: Vec<_> = keys(&space).await.expect("a keyring").into_keys().collect();
            assert!(keys.is_empty() || keys == [entry("tax", soon)], "moved: {keys:?}");
            assert!(!keys.is_empty() || Timestamp::now() >= soon, "it died before its time");
            keys.is_empty().then_some(())
        })
        .await;
        looks(&space).await;
        has_keys(&space, &[]).await;
        held(&space, "bol", "HoldEnded").await;
        let other = json!({"spec": {"holds": [{"name": "tax-2", "reason": "x",
            "placed": {"from": "2020-01-01", "to": "2020-01-02"}, "until": later.to_string()}]}});
        change::<RetentionPolicy>(&space, "standard", &other.to_string()).await;
        has_keys(&space, &[entry("tax-2", later)]).await;
    })
    .await;
}

#[tokio::test]
async fn closing_an_account_with_a_hold_waits_until_that_is_confirmed_on_the_record() {
    with_namespace(|space| async move {
        furnish(&space).await;
        policy(&space, from_now(3_600)).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        refer(&space, "bol").await;
        wait_for(&space, "the hold's key", async || keys(&space).await.filter(|keys| !keys.is_empty())).await;

        let id = confirm(&space, "bol").await;
        reaches(&space, &space, &id, RecordPhase::AwaitingConfirmation).await;
        let message = reason(&space, "bol", "ClosureAwaitsConfirmation").await;
        assert!(message.contains("the holds tax keep"), "{message}");
        assert!(!keys(&space).await.unwrap_or_default().is_empty(), "what is held is still there");

        confirm_record(&space, &id).await;
        reaches(&space, &space, &id, RecordPhase::Closed).await;
        assert_eq!(keys(&space).await, None);
    })
    .await;
}

/// The keyring can't be read before a closure looks for what it would destroy.
fn unread(client: &Client) -> Client {
    let is_looked_at = Arc::new(AtomicBool::new(false));
    through(client, move |client, request| {
        let is_looked_at = is_looked_at.clone();
        async move {
            let uri = request.uri();
            if uri.query().is_some_and(|query| query.contains("connection%3Dbol")) {
                is_looked_at.store(true, Ordering::SeqCst);
            }
            if uri.path().ends_with("/secrets/bol-keyring") && !is_looked_at.load(Ordering::SeqCst) {
                return Err(io::Error::other("no answer"));
            }
            send(client, request).await
        }
    })
}

#[tokio::test]
async fn closing_waits_for_a_hold_also_by_an_operator_that_has_not_read_its_keyring() {
    with_namespace(|space| async move {
        furnish(&space).await;
        policy(&space, from_now(3_600)).await;
        let operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        refer(&space, "bol").await;
        wait_for(&space, "the hold's key", async || keys(&space).await.filter(|keys| !keys.is_empty())).await;
        operator.stop().await;

        let id = confirm(&space, "bol").await;
        let _operator = Operator::start_through(&space, CONFIG, |client| unread(&client)).await;
        reaches(&space, &space, &id, RecordPhase::AwaitingConfirmation).await;
        let message = reason(&space, "bol", "ClosureAwaitsConfirmation").await;
        assert!(message.contains("the holds tax keep"), "{message}");
        assert!(!keys(&space).await.unwrap_or_default().is_empty(), "what is held is still there");
    })
    .await;
}
