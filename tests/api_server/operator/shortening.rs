//! A shorter retention waits, whichever way it comes, and everything else applies at once.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod},
    events::v1::Event,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use marketrelay_api::{
    MarketplaceConnection, RetentionPolicy, RetentionPolicyStatus,
    connection::{PendingRetention, RetentionInEffect},
    relay::RelayConfig,
};
use serde_json::json;

use super::{
    ACCOUNT, CONFIG, Operator, apply, audit, change, connection, converging::collect_garbage, delete,
    erasures::World, furnish, kubelet::Volume, reason, version,
};
use crate::{
    samples::{Kind, create},
    support::{Space, text, wait_for, with_namespace},
};

/// Looks so seldom that it must come back at the very moment.
const QUICK: &str = "{relay: {image: 'registry.example/relay:1'}, controller: {statusIntervalSeconds: 300},
    allowShortDurations: true, retention: {shorteningDelay: 12s}}";
/// What a busy machine may need.
const SLACK: SignedDuration = SignedDuration::from_secs(8);

async fn policy(space: &Space, name: &str, anonymize_after: &str, delete_after_shipment: &str) {
    let spec = json!({"anonymizeAfter": anonymize_after, "deleteAfterShipment": delete_after_shipment});
    apply::<RetentionPolicy>(space.api(), json!({"metadata": {"name": name}, "spec": spec})).await;
}

/// A connection that follows a policy of 100 and 30 days.
async fn place(space: &Space, config: &str) -> Operator {
    furnish(space).await;
    policy(space, "standard", "100d", "30d").await;
    let operator = Operator::start(space, config).await;
    connect(space).await;
    assert_eq!(relay_days(space).await, (100, 30));
    operator
}

async fn connect(space: &Space) {
    let spec =
        json!({"storage": {"storageClassName": space.name}, "retentionPolicyRef": {"name": "standard"}});
    create(space, Kind::Connection, &json!({"metadata": {"name": "bol"}, "spec": spec}).to_string()).await;
    reason(space, "bol", "RelayStarting").await;
}

async fn relay_days(space: &Space) -> (i64, i64) {
    let map = space.api::<ConfigMap>().get("bol-relay").await.expect("a configuration");
    let config: RelayConfig =
        serde_yaml::from_str(&map.data.expect("entries")["relay.yaml"]).expect("the relay's");
    let retention = config.retention;
    (retention.anonymize_after_seconds / 86_400, retention.delete_after_shipment_seconds / 86_400)
}

async fn retention(space: &Space) -> RetentionInEffect {
    connection(space, "bol").await.status.and_then(|status| status.retention).expect("a retention")
}

/// What is in force and what waits of both durations.
fn shown(retention: &RetentionInEffect) -> (String, Option<String>, Option<String>) {
    let in_force = format!("{} {}", retention.anonymize_after, retention.delete_after_shipment);
    let pending = retention.pending.as_ref();
    let shown = |duration: Option<&marketrelay_api::Duration>| duration.map(ToString::to_string);
    let anonymize_after = shown(pending.and_then(|pending| pending.anonymize_after.as_ref()));
    (in_force, anonymize_after, shown(pending.and_then(|pending| pending.delete_after_shipment.as_ref())))
}

/// Waits until this is in force, and this waits.
async fn settled(space: &Space, in_force: &str, waits: (Option<&str>, Option<&str>)) -> RetentionInEffect {
    let expected = (in_force.to_owned(), waits.0.map(str::to_owned), waits.1.map(str::to_owned));
    wait_for(space, &format!("{expected:?}"), async || {
        let retention = retention(space).await;
        (shown(&retention) == expected).then_some(retention)
    })
    .await
}

async fn policy_status(
    space: &Space,
    fits: impl Fn(&RetentionPolicyStatus) -> bool,
) -> RetentionPolicyStatus {
    wait_for(space, "the policy's status", async || {
        let policy = space.api::<RetentionPolicy>().get("standard").await.expect("a policy");
        policy.status.filter(&fits)
    })
    .await
}

async fn told(space: &Space, reason: &str) -> String {
    wait_for(space, reason, async || {
        let events = space.api::<Event>().list(&ListParams::default()).await.expect("events");
        events.items.into_iter().find(|event| event.reason.as_deref() == Some(reason))?.note
    })
    .await
}

/// Until its moment the relay keeps what it has; then it has the shorter one, soon.
async fn takes_effect(space: &Space, pending: &PendingRetention) {
    let at = pending.effective_at.0;
    wait_for(space, "10 days", async || {
        let days = relay_days(space).await;
        assert!(days == (100, 30) || Timestamp::now() >= at, "{days:?} before {at}");
        (days == (10, 30)).then_some(())
    })
    .await;
    let retention = settled(space, "10d 30d", (None, None)).await;
    assert_eq!(retention.pending, None);
}

#[tokio::test]
async fn a_shortened_policy_waits_with_its_connection_and_takes_effect_at_its_moment() {
    with_namespace(|space| async move {
        let _operator = place(&space, QUICK).await;
        let before = Timestamp::now();
        policy(&space, "standard", "10d", "30d").await;
        let pending = settled(&space, "100d 30d", (Some("10d"), None)).await.pending.expect("it waits");
        assert!(pending.effective_at.0 >= before + SignedDuration::from_secs(12), "{pending:?}");
        let status = policy_status(&space, |status| status.pending.is_some()).await;
        let sum = status.pending.expect("it waits");
        assert_eq!((sum.connections, &sum.effective_at), (1, &pending.effective_at));
        let ready = &status.conditions[0];
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "ShorteningWaits"));
        assert!(ready.message.contains("how many more isn't known of 1 of them"), "{}", ready.message);
        takes_effect(&space, &pending).await;
        let late = Timestamp::now().duration_since(pending.effective_at.0);
        assert!(late < SLACK, "{late:#} late");
        let status = policy_status(&space, |status| status.pending.is_none()).await;
        assert_eq!(status.conditions[0].reason, "Ready");
        let note = told(&space, "ShorteningWaits").await;
        assert!(
            note.contains("anonymizeAfter 10d, deleteAfterShipment 30d instead of anonymizeAfter 100d"),
            "{note}"
        );
        told(&space, "RetentionShortened").await;
    })
    .await;
}

#[tokio::test]
async fn taking_it_back_in_time_leaves_everything_as_it_was() {
    with_namespace(|space| async move {
        let _operator = place(&space, CONFIG).await;
        let config = space.api::<ConfigMap>().get("bol-relay").await.expect("a configuration");
        policy(&space, "standard", "10d", "9d").await;
        settled(&space, "100d 30d", (Some("10d"), Some("9d"))).await;
        policy(&space, "standard", "100d", "30d").await;
        settled(&space, "100d 30d", (None, None)).await;
        policy_status(&space, |status| status.pending.is_none()).await;
        told(&space, "ShorteningCancelled").await;
        let after = space.api::<ConfigMap>().get("bol-relay").await.expect("a configuration");
        assert_eq!(version(&after), version(&config));
    })
    .await;
}

#[tokio::test]
async fn another_policy_and_none_and_one_that_was_deleted_and_made_again_wait_as_well() {
    with_namespace(|space| async move {
        let _operator = place(&space, CONFIG).await;
        policy(&space, "other", "10d", "30d").await;
        let refer = async |reference: &str| {
            let patch = format!("{{spec: {{retentionPolicyRef: {reference}}}}}");
            change::<MarketplaceConnection>(&space, "bol", &patch).await;
        };
        refer("{name: other}").await;
        settled(&space, "100d 30d", (Some("10d"), None)).await;
        refer("null").await;
        settled(&space, "100d 30d", (Some("90d"), None)).await;
        refer("{name: standard}").await;
        settled(&space, "100d 30d", (None, None)).await;
        delete::<RetentionPolicy>(&space, "standard").await;
        reason(&space, "bol", "PolicyNotFound").await;
        assert_eq!(shown(&retention(&space).await), ("100d 30d".to_owned(), None, None));
        policy(&space, "standard", "10d", "30d").await;
        let first = settled(&space, "100d 30d", (Some("10d"), None)).await.pending;
        delete::<RetentionPolicy>(&space, "standard").await;
        reason(&space, "bol", "PolicyNotFound").await;
        policy(&space, "standard", "10d", "30d").await;
        reason(&space, "bol", "RelayStarting").await;
        assert_eq!(retention(&space).await.pending, first, "it goes on waiting");
        assert_eq!(relay_days(&space).await, (100, 30));
    })
    .await;
}

/// What the operator wrote since then, of these two kinds.
fn order_of_writes(space: &Space, since: usize) -> Vec<String> {
    let requests = audit::requests(space).split_off(since);
    let writes = requests.into_iter().filter(audit::Request::is_write);
    let kinds = writes.map(|request| request.right().1);
    kinds.filter(|kind| ["marketplaceconnections/status", "configmaps"].contains(&kind.as_str())).collect()
}

#[tokio::test]
async fn a_longer_duration_applies_at_once_beside_one_that_waits_and_is_recorded_first() {
    with_namespace(|space| async move {
        let _operator = place(&space, CONFIG).await;
        let since = audit::requests(&space).len();
        policy(&space, "standard", "120d", "9d").await;
        settled(&space, "120d 30d", (None, Some("9d"))).await;
        wait_for(&space, "120 days", async || (relay_days(&space).await == (120, 30)).then_some(())).await;
        wait_for(&space, "the volume's own note", async || {
            let claim = space.api::<PersistentVolumeClaim>().get("bol-data").await.expect("a claim");
            claim.annotations().get("marketrelay.dev/retention")?.contains("120d").then_some(())
        })
        .await;
        let writes = wait_for(&space, "both writes", async || {
            let writes = order_of_writes(&space, since);
            writes.iter().any(|kind| kind == "configmaps").then_some(writes)
        })
        .await;
        assert_eq!(writes[0], "marketplaceconnections/status", "{writes:?}");
    })
    .await;
}

#[tokio::test]
async fn a_restart_neither_ends_nor_begins_a_delay() {
    with_namespace(|space| async move {
        let operator = place(&space, CONFIG).await;
        policy(&space, "standard", "10d", "30d").await;
        let before = settled(&space, "100d 30d", (Some("10d"), None)).await.pending;
        operator.stop().await;
        let looks = audit::looks(&space);
        let _operator = Operator::start(&space, CONFIG).await;
        wait_for(&space, "looks", async || (audit::looks(&space) >= looks + 2).then_some(())).await;
        assert_eq!(retention(&space).await.pending, before);
        assert_eq!(relay_days(&space).await, (100, 30));
    })
    .await;
}

#[tokio::test]
async fn a_delay_that_ended_while_nobody_led_has_ended() {
    with_namespace(|space| async move {
        let operator = place(&space, QUICK).await;
        policy(&space, "standard", "10d", "30d").await;
        let pending = settled(&space, "100d 30d", (Some("10d"), None)).await.pending.expect("it waits");
        operator.stop().await;
        wait_for(&space, "its moment", async || (Timestamp::now() > pending.effective_at.0).then_some(()))
            .await;
        let _operator = Operator::start(&space, QUICK).await;
        takes_effect(&space, &pending).await;
    })
    .await;
}

#[tokio::test]
async fn a_retained_volume_remembers_under_which_retention_its_data_was_kept() {
    with_namespace(|space| async move {
        let _operator = place(&space, CONFIG).await;
        delete::<MarketplaceConnection>(&space, "bol").await;
        wait_for(&space, "retained", async || {
            let claim = space.api::<PersistentVolumeClaim>().get("bol-data").await.expect("a claim");
            claim.labels().get("marketrelay.dev/retained").cloned()
        })
        .await;
        collect_garbage(&space).await;
        policy(&space, "standard", "10d", "30d").await;
        connect(&space).await;
        settled(&space, "100d 30d", (Some("10d"), None)).await;
        assert_eq!(relay_days(&space).await, (100, 30));
    })
    .await;
}

/// As the kubelet and the controllers would: the relay's pod, and that it runs.
async fn pod_runs(space: &Space) {
    let labels =
        json!({"app.kubernetes.io/managed-by": "marketrelay-operator", "marketrelay.dev/connection": "bol"});
    let spec = json!({"serviceAccountName": ACCOUNT, "automountServiceAccountToken": false,
        "containers": [{"name": "relay", "image": "registry.example/relay:1"}]});
    apply::<Pod>(space.api(), json!({"metadata": {"name": "bol-relay-0", "labels": labels}, "spec": spec}))
        .await;
    let status = json!({"status": {"phase": "Running"}});
    let pods = space.api::<Pod>();
    pods.patch_status("bol-relay-0", &PatchParams::default(), &Patch::Merge(&status)).await.expect("running");
}

#[tokio::test]
async fn how_many_orders_are_affected_is_the_relays_word_and_unknown_without_it() {
    with_namespace(|space| async move {
        let world = World::start().await;
        furnish(&space).await;
        policy(&space, "standard", "90d", "30d").await;
        let _operator = Operator::start(&space, &world.config()).await;
        world.order(3, "zoe@nachtigall.example").await;
        world.connect(&space, "bol").await;
        let reference = "{spec: {retentionPolicyRef: {name: standard}}}";
        change::<MarketplaceConnection>(&space, "bol", reference).await;
        let volume = Volume::new();
        let relay = volume.start(&space, "bol").await;
        world.arrived(&space, 3).await;
        pod_runs(&space).await;
        policy(&space, "standard", "90d", "5d").await;
        let count = |affected: Option<i64>| {
            move |status: &RetentionPolicyStatus| {
                status.pending.as_ref().is_some_and(|pending| pending.affected == affected)
            }
        };
        let status = policy_status(&space, count(Some(3))).await;
        let message = &status.conditions[0].message;
        assert!(
            message.contains("at 1 connection, until") && message.contains("; 3 orders are affected: "),
            "{message}"
        );
        assert_eq!(retention(&space).await.pending.and_then(|pending| pending.affected), Some(3));
        let note = told(&space, "ShorteningWaits").await;
        assert!(note.contains("3 orders lose their personal data"), "{note}");
        let table = text(&space.kubectl(&["get", "retpol", "standard"]));
        let until = status.pending.expect("it waits").effective_at.0.to_string();
        let row = table.lines().last().expect("a row").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            row.starts_with(&format!("standard 90d 30d 5d 1 1 3 {until} True ShorteningWaits ")),
            "{table}"
        );
        relay.stop().await;
        let status = policy_status(&space, count(None)).await;
        assert!(status.conditions[0].message.contains("isn't known of 1 of them"), "{:?}", status.conditions);
        let pods = space.api::<Pod>();
        pods.delete("bol-relay-0", &DeleteParams::default().grace_period(0)).await.expect("gone");
    })
    .await;
}
