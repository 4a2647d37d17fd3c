//! Identities of backups die at their second as keys do, and the keyring's recipients follow them.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http::Method;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::{core::v1::Secret, events::v1::Event},
};
use kube::{
    Client,
    api::{ListParams, PostParams},
};
use marketrelay_api::{MarketplaceConnection, RetentionPolicy, record::RecordPhase};
use marketrelay_keyring::{BackupIdentities, BackupKey, DestroyAt, Grid, Keyring, Recipient};
use serde_json::json;

use super::{
    CONFIG, Operator, apply, audit,
    auditing::running,
    change, closures, connected, delete, furnish,
    gate::{send, through},
    identity,
    kubelet::Volume,
    reason,
};
use crate::support::{Space, wait_for, with_namespace};

const ID: &str = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34";
/// What a busy machine may need between two looks.
const SLACK: SignedDuration = SignedDuration::from_secs(8);

pub(super) fn from_now(seconds: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + seconds).expect("in range")
}

fn name(at: Timestamp) -> String {
    BackupKey::new(DestroyAt::from_second(at.as_second())).to_string()
}

/// Identities that are destroyed then, made as another operator would make them.
pub(super) async fn put(space: &Space, connection: &str, id: &str, destroy_at: &[Timestamp]) -> Secret {
    let id = id.parse().expect("a connection id");
    let mut made = BackupIdentities::new(id);
    let grid = Grid::new(made.connection_id(), SignedDuration::from_hours(1));
    made.extend(grid, Timestamp::now(), from_now(100 * 3_600));
    let mut entries = made.entries();
    let own = ("connection-id".to_owned(), entries.remove("connection-id").expect("the id"));
    let named = destroy_at.iter().map(|at| name(*at)).zip(entries.into_values());
    let mut secret = Secret::default();
    secret.metadata.name = Some(format!("{connection}-backup-identities"));
    let labels = json!({"app.kubernetes.io/component": "keys", "app.kubernetes.io/managed-by": "marketrelay-operator",
        "marketrelay.dev/connection": connection, "marketrelay.dev/connection-id": made.connection_id()});
    secret.metadata.labels = serde_json::from_value(labels).expect("labels");
    secret.data = Some(named.chain([own]).map(|(name, bytes)| (name, ByteString(bytes))).collect());
    space.api::<Secret>().create(&PostParams::default(), &secret).await.expect("identities")
}

fn opened(secret: &Secret) -> BTreeMap<BackupKey, Recipient> {
    let entries = secret.data.iter().flatten();
    let read =
        BackupIdentities::from_entries(entries.map(|(name, bytes)| (name.as_str(), bytes.0.as_slice())));
    read.expect("identities").recipients()
}

async fn identities(space: &Space, connection: &str) -> Option<Secret> {
    space.api().get_opt(&format!("{connection}-backup-identities")).await.expect("an answer")
}

/// What the keyring has backups encrypted to.
async fn recipients(space: &Space, connection: &str) -> BTreeMap<BackupKey, Recipient> {
    let secret: Secret = space.api().get(&format!("{connection}-keyring")).await.expect("a keyring");
    let entries = secret.data.iter().flatten();
    let read = Keyring::from_entries(entries.map(|(name, bytes)| (name.as_str(), bytes.0.as_slice())));
    read.expect("a keyring").recipients().clone()
}

async fn follow(space: &Space, connection: &str, expected: &BTreeMap<BackupKey, Recipient>) {
    wait_for(space, "the recipients are those of the identities", async || {
        (recipients(space, connection).await == *expected).then_some(())
    })
    .await;
}

/// Waits until it is gone, which must be at its time; nothing else has changed.
async fn dies(space: &Space, before: &Secret, connection: &str, at: Timestamp) {
    wait_for(space, &format!("an identity of {connection}"), async || {
        let data = identities(space, connection).await.expect("the Secret stays").data.unwrap_or_default();
        let alive = data.contains_key(&name(at));
        assert!(alive || Timestamp::now() >= at, "it died before its time");
        (!alive).then_some(())
    })
    .await;
    let late = Timestamp::now().duration_since(at);
    assert!(late < SLACK, "{late:#} late");
    let mut expected = before.data.clone().unwrap_or_default();
    expected.remove(&name(at));
    assert_eq!(identities(space, connection).await.expect("the Secret").data, Some(expected));
}

/// A policy under which backups are kept so long.
async fn policy(space: &Space, backup_retention: &str) {
    let spec = json!({"backupRetention": backup_retention});
    apply::<RetentionPolicy>(space.api(), json!({"metadata": {"name": "standard"}, "spec": spec})).await;
}

#[tokio::test]
async fn identities_are_made_for_a_connection_with_backups_alone_and_reach_as_far_as_those_are_kept() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        policy(&space, "10d").await;
        connected(&space, "other").await;
        connected(&space, "bol").await;
        assert!(identities(&space, "bol").await.is_none(), "there are no backups");
        change::<MarketplaceConnection>(
            &space,
            "bol",
            "{spec: {retentionPolicyRef: {name: standard}, backup: {onSite: {s3: {credentialsSecretRef: {name: store}}}}}}",
        )
        .await;
        let made = wait_for(&space, "identities", async || identities(&space, "bol").await).await;
        let (id, labels) = (identity(&space, "bol").await, made.metadata.labels.clone().unwrap_or_default());
        assert_eq!(labels["marketrelay.dev/connection-id"], id);
        assert_eq!(labels["velero.io/exclude-from-backup"], "true");
        assert_eq!(made.metadata.owner_references, None, "they outlive their connection");
        let names = |secret: &Secret| opened(secret).into_keys().collect::<Vec<_>>();
        let seconds: Vec<_> = names(&made).iter().map(|name| name.destroy_at().as_second()).collect();
        assert!(seconds.windows(2).all(|pair| pair[1] - pair[0] == 86_400), "{seconds:?}");
        let reach = seconds.last().expect("one") - Timestamp::now().as_second();
        // With the reserve of two epochs, and from a time that no clock has reached.
        assert!((12 * 86_400..=13 * 86_400 + 600).contains(&reach), "{reach}");

        policy(&space, "20d").await;
        let longer = wait_for(&space, "more of them", async || {
            identities(&space, "bol").await.filter(|secret| opened(secret).len() > seconds.len())
        })
        .await;
        assert_eq!(names(&longer).len(), seconds.len() + 10);
        let kept = made.data.iter().flatten().all(|(name, bytes)| longer.data.as_ref().and_then(|data| data.get(name)) == Some(bytes));
        assert!(kept, "those that there were are the same");
        assert!(identities(&space, "other").await.is_none());

        change::<MarketplaceConnection>(&space, "bol", "{spec: {backup: null}}").await;
        let settle = audit::looks(&space) + 3;
        wait_for(&space, "looks", async || (audit::looks(&space) >= settle).then_some(())).await;
        assert_eq!(identities(&space, "bol").await.expect("the Secret").data, longer.data, "they live out their time");
    })
    .await;
}

#[tokio::test]
async fn an_identity_dies_at_its_second_though_its_connection_is_broken_or_deleted_or_never_was() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        for name in ["broken", "deleted"] {
            connected(&space, name).await;
        }
        let of =
            [("broken", identity(&space, "broken").await), ("deleted", identity(&space, "deleted").await)];
        change::<MarketplaceConnection>(&space, "broken", "{spec: {credentialsSecretRef: {name: none}}}")
            .await;
        reason(&space, "broken", "SecretNotFound").await;
        delete::<MarketplaceConnection>(&space, "deleted").await;
        let (soon, later) = (from_now(5), from_now(3_600));
        let mut before = Vec::new();
        for (connection, id) in of.into_iter().chain([("stranger", ID.to_owned())]) {
            before.push((connection, put(&space, connection, &id, &[soon, later]).await));
        }
        for (connection, secret) in &before {
            dies(&space, secret, connection, soon).await;
        }
        wait_for(&space, "it is labelled", async || {
            let labels = identities(&space, "deleted").await?.metadata.labels?;
            labels.get("marketrelay.dev/retained").map(drop)
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn identities_whose_time_came_while_nobody_led_die_first_and_are_reported_as_late() {
    with_namespace(|space| async move {
        furnish(&space).await;
        put(&space, "gone", ID, &[from_now(-7_200), from_now(3_600)]).await;
        let _operator = Operator::start(&space, CONFIG).await;
        let note = wait_for(&space, "an event", async || {
            let events = space.api::<Event>().list(&ListParams::default()).await.expect("events");
            let late = |event: &Event| event.reason.as_deref() == Some("KeyDestroyedLate");
            events.items.into_iter().find(late)?.note
        })
        .await;
        assert!(note.contains("gone-backup-identities") && note.contains("2h"), "{note}");
        let left = identities(&space, "gone").await.expect("the Secret");
        assert_eq!(opened(&left).len(), 1);
    })
    .await;
}

/// The operator dies when it is about to write the keyring; whether it has come to that.
#[derive(Clone, Default)]
struct Death(Arc<AtomicBool>);

impl Death {
    fn given_to(&self, client: &Client) -> Client {
        let death = self.clone();
        through(client, move |client, request| {
            let death = death.clone();
            async move {
                if *request.method() == Method::PUT && request.uri().path().ends_with("/secrets/bol-keyring")
                {
                    death.0.store(true, Ordering::SeqCst);
                }
                if death.0.load(Ordering::SeqCst) {
                    return Err(io::Error::other("the operator is dead"));
                }
                send(client, request).await
            }
        })
    }
}

#[tokio::test]
async fn recipients_follow_their_identities_though_the_operator_is_killed_in_between() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let death = Death::default();
        let operator = Operator::start_through(&space, CONFIG, |client| death.given_to(&client)).await;
        connected(&space, "bol").await;
        let volume = Volume::new();
        let pod = volume.start(&space, "bol").await;
        running(&space).await;
        let id = identity(&space, "bol").await;
        let made = put(&space, "bol", &id, &[from_now(3_600), from_now(7_200)]).await;
        wait_for(&space, "it is about to write them", async || death.0.load(Ordering::SeqCst).then_some(()))
            .await;
        drop(operator);
        assert!(recipients(&space, "bol").await.is_empty(), "they come after their identities");
        let _operator = Operator::start(&space, CONFIG).await;
        follow(&space, "bol", &opened(&made)).await;
        assert_eq!(identities(&space, "bol").await.expect("the Secret").data, made.data);
        pod.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_relay_that_is_not_known_to_take_them_gets_no_recipients() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        let id = identity(&space, "bol").await;
        let (soon, later) = (from_now(6), from_now(3_600));
        let made = put(&space, "bol", &id, &[soon, later]).await;
        dies(&space, &made, "bol", soon).await;
        assert!(recipients(&space, "bol").await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn recipients_whose_identities_are_lost_are_withdrawn_and_told_of() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        let volume = Volume::new();
        let pod = volume.start(&space, "bol").await;
        running(&space).await;
        let id = identity(&space, "bol").await;
        let made = put(&space, "bol", &id, &[from_now(3_600), from_now(7_200)]).await;
        follow(&space, "bol", &opened(&made)).await;
        delete::<Secret>(&space, "bol-backup-identities").await;
        follow(&space, "bol", &BTreeMap::new()).await;
        let note = wait_for(&space, "an event", async || {
            let events = space.api::<Event>().list(&ListParams::default()).await.expect("events");
            let lost = |event: &Event| event.reason.as_deref() == Some("BackupIdentitiesLost");
            events.items.into_iter().find(lost)?.note
        })
        .await;
        assert!(note.contains("2 recipients in bol-keyring"), "{note}");
        pod.stop().await;
    })
    .await;
}

#[tokio::test]
async fn closing_an_account_destroys_its_identities_and_proves_it() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        let id = identity(&space, "bol").await;
        let at = from_now(3_600);
        put(&space, "bol", &id, &[at]).await;
        closures::confirm(&space, "bol").await;
        let record = closures::reaches(&space, &space, &id, RecordPhase::Closed).await;
        assert!(identities(&space, "bol").await.is_none());
        let proof = record.status.and_then(|status| status.closure).expect("a proof");
        let position = |name: &str| proof.objects.iter().position(|object| object.name == name);
        let own = position("bol-backup-identities").expect("it is in the proof");
        assert!(Some(own) < position("bol-keyring"), "identities go first: {:?}", proof.objects);
        assert_eq!(proof.objects[own].entries, [name(at), "connection-id".to_owned()]);
        assert!(proof.objects[own].gone_at.is_some() && proof.keys_destroyed_at.is_some());
    })
    .await;
}
