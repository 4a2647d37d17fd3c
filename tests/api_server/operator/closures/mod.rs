//! An account is closed: keys first, then what they opened, then the proof.

mod breaker;
mod expired;
mod in_flight;
mod killed;
mod namespaces;
pub(super) mod stores;
mod withdrawn;

use k8s_openapi::api::{
    core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret},
    events::v1::Event,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use marketrelay_api::{
    ConnectionRecord, ErasureRequest, MarketplaceConnection,
    record::{ClosureCause, ClosureProof, RecordPhase},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    CONFIG, Operator, apply, audit, change, children, connect, connected, connection, delete, furnish,
    identity, reason,
};
use crate::{
    samples::{Differences, Kind, create, try_change, try_create},
    support::{Space, text, wait_for, with_namespace},
};

async fn record(home: &Space, id: &str) -> ConnectionRecord {
    home.api().get(id).await.unwrap_or_else(|error| panic!("{id}: {error}"))
}

fn phase(record: &ConnectionRecord) -> RecordPhase {
    record.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

fn proof(record: &ConnectionRecord) -> Option<&ClosureProof> {
    record.status.as_ref()?.closure.as_ref()
}

/// Waits until the record is in this phase, with the cluster's controllers at work.
pub(super) async fn reaches(home: &Space, space: &Space, id: &str, wanted: RecordPhase) -> ConnectionRecord {
    wait_for(space, &format!("{id} is {wanted:?}"), async || {
        tidy(space).await;
        let record = home.api::<ConnectionRecord>().get_opt(id).await.expect("an answer")?;
        (phase(&record) == wanted).then_some(record)
    })
    .await
}

/// Waits until the record's message holds this.
pub(super) async fn says(home: &Space, space: &Space, id: &str, part: &str) {
    wait_for(space, &format!("{id} says {part}"), async || {
        let message = record(home, id).await.status?.message?;
        message.contains(part).then_some(())
    })
    .await;
}

pub(super) async fn confirm(space: &Space, name: &str) -> String {
    let id = identity(space, name).await;
    let closure = format!("{{spec: {{closure: {{confirm: {id}}}}}}}");
    change::<MarketplaceConnection>(space, name, &closure).await;
    id
}

pub(super) async fn confirm_record(home: &Space, id: &str) {
    change::<ConnectionRecord>(home, id, &format!("{{spec: {{closure: {{confirm: {id}}}}}}}")).await;
}

/// The cluster's controllers: a claim that nobody uses goes.
async fn tidy(space: &Space) {
    let pods = space.api::<Pod>().list(&ListParams::default()).await.expect("pods").items;
    for claim in space.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.expect("claims") {
        let pod = claim.name_any().replace("-data", "-relay-0");
        if claim.metadata.deletion_timestamp.is_some() && pods.iter().all(|other| other.name_any() != pod) {
            let_go::<PersistentVolumeClaim>(&space.api(), &claim.name_any()).await;
        }
    }
}

/// Without the finalizers that the cluster's controllers would take away.
async fn let_go<K>(api: &Api<K>, name: &str)
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug,
{
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    match api.patch(name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        patched => drop(patched.unwrap_or_else(|error| panic!("{name}: {error}"))),
    }
}

fn volumes(space: &Space) -> Api<PersistentVolume> {
    Api::all(space.client.clone())
}

/// Binds a connection's claim to a volume that stays when the claim goes; its name.
pub(super) async fn bind(space: &Space, connection: &str) -> String {
    let claims = space.api::<PersistentVolumeClaim>();
    let claim = claims.get(&format!("{connection}-data")).await.expect("a claim");
    let name = format!("{}-{connection}", space.name);
    let volume = json!({"metadata": {"name": name}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOncePod"],
        "persistentVolumeReclaimPolicy": "Retain", "storageClassName": space.name,
        "hostPath": {"path": "/nowhere"},
        "claimRef": {"namespace": space.name, "name": claim.name_any(), "uid": claim.uid()}}});
    apply::<PersistentVolume>(volumes(space), volume).await;
    change::<PersistentVolumeClaim>(space, &claim.name_any(), &format!("{{spec: {{volumeName: {name}}}}}"))
        .await;
    name
}

pub(super) async fn discard(space: &Space, volume: &str) {
    volumes(space).delete(volume, &DeleteParams::default()).await.expect("deleted");
    let_go(&volumes(space), volume).await;
}

/// A pod of the connection's StatefulSet, which no garbage collector takes away here.
async fn run_pod(space: &Space, connection: &str) {
    let pod = json!({"metadata": {"name": format!("{connection}-relay-0"), "labels": {
            "app.kubernetes.io/managed-by": "marketrelay-operator", "app.kubernetes.io/name": "marketrelay",
            "marketrelay.dev/connection": connection}},
        "spec": {"containers": [{"name": "relay", "image": "registry.example/relay:1"}],
                 "serviceAccountName": format!("{connection}-relay"), "automountServiceAccountToken": false}});
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    space.api::<Pod>().create(&PostParams::default(), &pod).await.expect("a pod");
}

/// Everything of a connection that is still there.
async fn left(space: &Space, connection: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (kind, version, suffix) in children::APPLIED.into_iter().chain(children::KEYS) {
        let name = format!("{connection}{suffix}");
        if children::api(space, kind, version).get_opt(&name).await.expect("an answer").is_some() {
            found.push(format!("{kind} {name}"));
        }
    }
    found
}

async fn secret(space: &Space, name: &str) -> Option<Secret> {
    space.api::<Secret>().get_opt(name).await.expect("an answer")
}

fn noted(record: &ConnectionRecord, kind: &str, name: &str) -> Value {
    let objects = proof(record).map(|proof| proof.objects.clone()).unwrap_or_default();
    let object = objects.into_iter().find(|object| object.kind == kind && object.name == name);
    serde_json::to_value(object.unwrap_or_else(|| panic!("{kind} {name} isn't in {record:?}"))).expect("JSON")
}

#[tokio::test]
async fn each_connection_has_its_record_with_one_request_and_kubectl_shows_where_it_is() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        let id = identity(&space, "bol").await;
        let looks = audit::looks(&space) + 3;
        wait_for(&space, "looks", async || (audit::looks(&space) >= looks).then_some(())).await;
        let asked: Vec<_> = audit::requests(&space)
            .into_iter()
            .filter(|request| request.object_ref.resource == "connectionrecords")
            .filter(|request| !["list", "watch"].contains(&request.verb.as_str()))
            .map(|request| request.verb)
            .collect();
        assert_eq!(asked, ["create"]);
        let table = text(&space.kubectl(&["get", "connrec"]));
        let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0].join(" "), "NAME TENANT CONNECTION MARKETPLACE PHASE CAUSE KEYS GONE CLOSED AGE");
        assert_eq!(rows[1][..5], [&id, &space.name, "bol", "bol", "Active"]);
        delete::<MarketplaceConnection>(&space, "bol").await;
        reaches(&space, &space, &id, RecordPhase::Retained).await;
        connected(&space, "bol").await;
        reaches(&space, &space, &id, RecordPhase::Active).await;
        assert_eq!(identity(&space, "bol").await, id, "adopted");
    })
    .await;
}

#[tokio::test]
async fn keys_go_first_though_the_pod_stays_and_the_account_is_closed_when_nothing_is_left() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "other").await;
        connected(&space, "bol").await;
        let volume = bind(&space, "bol").await;
        run_pod(&space, "bol").await;
        let keys: Vec<_> =
            secret(&space, "bol-keyring").await.and_then(|s| s.data).expect("keys").into_keys().collect();
        let id = confirm(&space, "bol").await;
        let protected = format!(
            "still there: PersistentVolumeClaim bol-data, Pod bol-relay-0, PersistentVolume {volume}"
        );
        says(&space, &space, &id, &protected).await;
        assert_eq!(left(&space, "bol").await, ["PersistentVolumeClaim bol-data"]);
        let during = record(&space, &id).await;
        assert!(proof(&during).expect("a closure").keys_destroyed_at.is_some());
        let message = reason(&space, "bol", "Closing").await;
        assert!(message.contains("no way back") && message.contains(&id), "{message}");

        change::<MarketplaceConnection>(&space, "bol", "{spec: {closure: null}}").await;
        delete::<Pod>(&space, "bol-relay-0").await;
        let retained = format!("still there: PersistentVolume {volume} (its reclaim policy is Retain");
        wait_for(&space, "the volume is waited for", async || {
            tidy(&space).await;
            record(&space, &id).await.status?.message?.contains(&retained).then_some(())
        })
        .await;
        discard(&space, &volume).await;
        let closed = reaches(&space, &space, &id, RecordPhase::Closed).await;

        let proof = proof(&closed).expect("a proof");
        assert_eq!(proof.cause, ClosureCause::ConnectionConfirmed);
        assert!(proof.objects.iter().all(|object| object.gone_at.is_some()), "{proof:?}");
        let keyring = noted(&closed, "Secret", "bol-keyring");
        assert_eq!((&keyring["entries"], &keyring["entryCount"]), (&json!(keys), &json!(keys.len())));
        for (kind, _, suffix) in children::APPLIED.into_iter().chain(children::KEYS) {
            noted(&closed, kind, &format!("bol{suffix}"));
        }
        noted(&closed, "PersistentVolume", &volume);
        noted(&closed, "Pod", "bol-relay-0");
        let listing = proof.listing.as_ref().expect("a listing");
        assert_eq!((listing.found, listing.kinds.len(), listing.namespace_exists), (0, 11, true));
        assert!(left(&space, "bol").await.is_empty());
        reason(&space, "bol", "Closed").await;

        let deleted: Vec<_> =
            audit::writes(&space).into_iter().filter(|write| write.starts_with("delete ")).collect();
        let at = |what: &str| deleted.iter().position(|write| write.contains(what)).expect(what);
        assert!(
            at("bol-keyring") < at("bol-database-key")
                && at("bol-database-key") < at("persistentvolumeclaims"),
            "{deleted:?}"
        );
        assert!(at("statefulsets") < at("bol-keyring"), "{deleted:?}");
        assert_eq!(left(&space, "other").await.len(), 9, "another connection is left alone");
        assert!(secret(&space, "marketrelay-digest-key").await.is_some(), "the other connection needs it");
        assert!(deleted.iter().all(|write| !write.contains("digest")), "{deleted:?}");
        let events = space.api::<Event>().list(&ListParams::default()).await.expect("events");
        let told = |reason: &str| events.items.iter().any(|event| event.reason.as_deref() == Some(reason));
        assert!(told("ClosureBegan") && told("Closing") && told("Closed"));
    })
    .await;
}

#[tokio::test]
async fn applied_again_after_its_closure_a_connection_begins_anew() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        let digest_key = secret(&space, "marketrelay-digest-key").await.expect("a key").data;
        let first = confirm(&space, "bol").await;
        let closed = reaches(&space, &space, &first, RecordPhase::Closed).await;
        noted(&closed, "Secret", "marketrelay-digest-key");
        reason(&space, "bol", "Closed").await;
        assert!(left(&space, "bol").await.is_empty());
        let digest = format!("order:{}", "0".repeat(64));
        create(
            &space,
            Kind::Erasure,
            &format!("{{spec: {{subject: {{secretRef: null, digests: ['{digest}']}}}}}}"),
        )
        .await;
        wait_for(&space, "nothing is left to erase", async || {
            let status = space.api::<ErasureRequest>().get("sample").await.expect("the request").status?;
            (status.conditions.first()?.reason == "SubjectUnknown").then_some(())
        })
        .await;

        delete::<MarketplaceConnection>(&space, "bol").await;
        connected(&space, "bol").await;
        let second = identity(&space, "bol").await;
        assert_ne!(first, second);
        assert_eq!(left(&space, "bol").await.len(), 9);
        let key = secret(&space, "marketrelay-digest-key").await.expect("a key").data;
        assert_ne!(key, digest_key, "the last connection took the namespace's key along");
        let (old, new) = (record(&space, &first).await, record(&space, &second).await);
        assert_eq!((phase(&old), phase(&new)), (RecordPhase::Closed, RecordPhase::Active));
        assert_eq!(old.status, closed.status, "the proof stays as it is");
    })
    .await;
}

#[tokio::test]
async fn a_retained_connection_is_closed_by_its_record() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        let id = identity(&space, "bol").await;
        delete::<MarketplaceConnection>(&space, "bol").await;
        reaches(&space, &space, &id, RecordPhase::Retained).await;
        confirm_record(&space, &id).await;
        let closed = reaches(&space, &space, &id, RecordPhase::Closed).await;
        assert_eq!(proof(&closed).expect("a proof").cause, ClosureCause::RecordConfirmed);
        assert!(left(&space, "bol").await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_new_connection_of_the_name_waits_until_the_old_one_is_closed() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        run_pod(&space, "bol").await;
        let first = confirm(&space, "bol").await;
        says(&space, &space, &first, "still there: PersistentVolumeClaim bol-data, Pod bol-relay-0").await;
        delete::<MarketplaceConnection>(&space, "bol").await;
        connect(&space, "bol").await;
        let message = reason(&space, "bol", "Closing").await;
        assert!(message.contains("earlier connection") && message.contains(&first), "{message}");
        assert!(connection(&space, "bol").await.status.expect("a status").connection_id.is_none());
        assert!(secret(&space, "bol-keyring").await.is_none(), "no key is made meanwhile");
        delete::<Pod>(&space, "bol-relay-0").await;
        reaches(&space, &space, &first, RecordPhase::Closed).await;
        reason(&space, "bol", "RelayStarting").await;
        assert_ne!(identity(&space, "bol").await, first);
    })
    .await;
}

#[tokio::test]
async fn only_the_connections_own_id_closes_it() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        let id = identity(&space, "bol").await;
        let wrong = format!("spec.closure.confirm must be the id of this connection, {id}");
        let early = "spec.closure can be set once the connection has its id";
        let record_wrong = "spec.closure.confirm must be the record's own name";
        let fixed = "a record is about one connection for good";
        let mut differences = Differences::default();
        for (kind, name, spec, part) in [
            (Kind::Connection, "bol", "{closure: {confirm: bol}}", Some(wrong.as_str())),
            (Kind::Connection, "bol", "{closure: {confirm: ''}}", Some(&wrong)),
            (Kind::Connection, "bol", "{closure: {}}", Some("spec.closure.confirm: Required value")),
            (Kind::Connection, "bol", &format!("{{closure: {{confirm: {id}}}}}"), None),
            (Kind::Record, &id, "{closure: {confirm: bol}}", Some(record_wrong)),
            (Kind::Record, &id, "{connection: other}", Some(fixed)),
            (Kind::Record, &id, &format!("{{closure: {{confirm: {id}}}}}"), None),
        ] {
            let answer = try_change(&space, kind, name, &format!("{{spec: {spec}}}")).await;
            differences.note(spec, part, answer);
        }
        let new = format!("{{metadata: {{name: new}}, spec: {{closure: {{confirm: {id}}}}}}}");
        differences.note("a new one", Some(early), try_create(&space, Kind::Connection, &new).await);
        differences.none();
        assert_eq!(phase(&record(&space, &id).await), RecordPhase::Active);
    })
    .await;
}

#[tokio::test]
async fn what_was_deleted_by_hand_is_known_to_be_gone() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        let id = identity(&space, "bol").await;
        delete::<MarketplaceConnection>(&space, "bol").await;
        reaches(&space, &space, &id, RecordPhase::Retained).await;
        delete::<Secret>(&space, "bol-keyring").await;
        for (kind, version, suffix) in children::APPLIED.into_iter().chain(children::KEYS) {
            let api: Api<DynamicObject> = children::api(&space, kind, version);
            let deleted = api.delete(&format!("bol{suffix}"), &DeleteParams::default()).await;
            assert!(deleted.is_ok() || suffix == "-keyring", "{kind} {suffix}: {deleted:?}");
            assert_ne!(phase(&record(&space, &id).await), RecordPhase::Closed, "the claim is still there");
        }
        let closed = reaches(&space, &space, &id, RecordPhase::Closed).await;
        assert_eq!(proof(&closed).expect("a proof").cause, ClosureCause::DataDeleted);
    })
    .await;
}

async fn is_suspended(space: &Space, connection: &str) -> bool {
    let file = space.api::<ConfigMap>().get(&format!("{connection}-relay")).await.expect("a configuration");
    let file = file.data.and_then(|data| data.into_values().next()).expect("a file");
    serde_yaml::from_str::<Value>(&file).expect("YAML")["suspend"] == json!(true)
}
