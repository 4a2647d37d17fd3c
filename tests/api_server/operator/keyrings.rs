//! Keys die at their second, whatever becomes of their connection or of the operator.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::{coordination::v1::Lease, core::v1::Secret, events::v1::Event, rbac::v1::ClusterRoleBinding},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams},
    config::AuthInfo,
};
use marketrelay_api::MarketplaceConnection;
use marketrelay_operator::clock::Clock;
use serde_json::json;

use super::{
    ACCOUNT, CONFIG, Operator, apply, audit, change, connected, connection, delete, furnish, grant, reason,
    rights, token, version,
};
use crate::support::{PLANE, Space, configuration, wait_for, with_namespace};

const ID: &str = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34";
/// What a busy machine may need between two looks.
const SLACK: SignedDuration = SignedDuration::from_secs(8);

fn name(at: Timestamp) -> String {
    format!("epoch.{}", at.strftime("%Y%m%dT%H%M%SZ"))
}

fn from_now(seconds: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + seconds).expect("in range")
}

/// A keyring whose connection is gone, with keys that die then.
async fn retained(space: &Space, connection: &str, destroy_at: &[Timestamp]) -> Secret {
    let mut secret = Secret::default();
    secret.metadata.name = Some(format!("{connection}-keyring"));
    let labels = json!({"app.kubernetes.io/component": "keys", "marketrelay.dev/connection": connection,
        "marketrelay.dev/connection-id": ID, "marketrelay.dev/retained": "true"});
    secret.metadata.labels = serde_json::from_value(labels).expect("labels");
    let since =
        json!({"marketrelay.dev/volume-key-since": Timestamp::now(), "marketrelay.dev/key-epoch": "86400"});
    secret.metadata.annotations = serde_json::from_value(since).expect("annotations");
    let epochs = destroy_at.iter().map(|at| (name(*at), ByteString(vec![7; 32])));
    let rest = [
        ("connection-id".to_owned(), ByteString(ID.as_bytes().to_vec())),
        ("volume.1".to_owned(), ByteString(vec![8; 32])),
    ];
    secret.data = Some(epochs.chain(rest).collect());
    space.api::<Secret>().create(&PostParams::default(), &secret).await.expect("a keyring")
}

async fn entries(space: &Space, connection: &str) -> Vec<String> {
    let secret = space.api::<Secret>().get(&format!("{connection}-keyring")).await.expect("a keyring");
    secret.data.unwrap_or_default().into_keys().collect()
}

async fn gone(space: &Space, connection: &str, key: &str) {
    wait_for(space, &format!("{connection}'s {key} is gone"), async || {
        (!entries(space, connection).await.iter().any(|name| name == key)).then_some(())
    })
    .await;
}

/// Puts a key into a connection's keyring that had to die two hours ago.
async fn overdue(space: &Space, connection: &str) -> String {
    let key = name(from_now(-7_200));
    let patch = format!("{{data: {{{key}: {}}}}}", "A".repeat(43) + "=");
    change::<Secret>(space, &format!("{connection}-keyring"), &patch).await;
    key
}

async fn late_event(space: &Space, about: &str) -> String {
    wait_for(space, &format!("an event at {about}"), async || {
        let events = space.api::<Event>().list(&ListParams::default()).await.expect("events");
        let event = events.items.into_iter().find(|event| {
            event.reason.as_deref() == Some("KeyDestroyedLate")
                && event.regarding.as_ref().is_some_and(|object| object.name.as_deref() == Some(about))
        });
        event?.note
    })
    .await
}

async fn enforced(space: &Space, name: &str, reason: &str) -> String {
    wait_for(space, &format!("RetentionEnforced of {name} is {reason}"), async || {
        let conditions = connection(space, name).await.status.unwrap_or_default().conditions;
        let found = conditions.into_iter().find(|condition| condition.type_ == "RetentionEnforced")?;
        (found.reason == reason).then_some(found.message)
    })
    .await
}

#[tokio::test]
async fn a_key_dies_at_its_second_though_its_connection_is_deleted() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "first").await;
        let (soon, later) = (from_now(4), from_now(3_600));
        let before = retained(&space, "gone", &[soon, later]).await;
        wait_for(&space, "its time", async || {
            let alive = entries(&space, "gone").await.contains(&name(soon));
            assert!(alive || Timestamp::now() >= soon, "it died before its time");
            (!alive).then_some(())
        })
        .await;
        let late = Timestamp::now().duration_since(soon);
        assert!(late < SLACK, "{late:#} late");
        let after = space.api::<Secret>().get("gone-keyring").await.expect("a keyring");
        let mut expected = before.data.unwrap_or_default();
        expected.remove(&name(soon));
        assert_eq!(after.data, Some(expected), "nothing else has changed");
    })
    .await;
}

#[tokio::test]
async fn keys_whose_time_came_while_nobody_led_die_first_and_are_reported_as_late() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        for name in ["broken", "suspended", "deleted"] {
            connected(&space, name).await;
        }
        let change = change::<MarketplaceConnection>;
        change(&space, "broken", "{spec: {credentialsSecretRef: {name: none}}}").await;
        reason(&space, "broken", "SecretNotFound").await;
        change(&space, "suspended", "{spec: {suspend: true}}").await;
        reason(&space, "suspended", "Suspended").await;
        delete::<MarketplaceConnection>(&space, "deleted").await;
        wait_for(&space, "retained", async || {
            let secret = space.api::<Secret>().get("deleted-keyring").await.expect("a keyring");
            secret.labels().get("marketrelay.dev/retained").cloned()
        })
        .await;
        operator.stop().await;
        let mut keys = Vec::new();
        for name in ["broken", "suspended", "deleted"] {
            keys.push((name, overdue(&space, name).await));
        }
        let before = audit::requests(&space).len();
        let _operator = Operator::start(&space, CONFIG).await;
        for (connection, key) in keys {
            gone(&space, connection, &key).await;
        }
        for about in ["broken", "suspended", "deleted-keyring"] {
            let note = late_event(&space, about).await;
            assert!(note.contains("2h"), "{note}");
        }
        let looks = audit::looks(&space);
        wait_for(&space, "a look", async || (audit::looks(&space) > looks).then_some(())).await;
        let requests = audit::requests(&space).split_off(before);
        let replaced =
            |request: &audit::Request| request.verb == "update" && request.object_ref.resource == "secrets";
        let last = requests
            .iter()
            .rposition(|request| replaced(request) && request.object_ref.name.ends_with("-keyring"));
        let first = requests.iter().position(|request| {
            request.verb == "list" && request.object_ref.resource == "events"
                || request.object_ref.subresource == "status"
        });
        assert!(last.expect("replaced") < first.expect("a look"), "connections were looked at first");
    })
    .await;
}

/// Granting the same to another account has taken it away.
async fn also_bind(home: &Space, space: &Space) {
    let role = format!("marketrelay-{}", space.name);
    let binding = json!({"metadata": {"name": format!("{role}-{}", home.name)},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": home.name}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}});
    apply::<ClusterRoleBinding>(Api::all(space.client.clone()), binding).await;
}

#[tokio::test]
async fn a_stale_view_cannot_bring_a_key_back_and_two_operators_at_once_lose_none() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let (one, two) = (Space::make(space.client.clone()).await, Space::make(space.client.clone()).await);
        grant(&one, &space, &rights()).await;
        let access = configuration(&PLANE).await;
        let _first = Operator::replica(access.clone(), &one, &space, CONFIG, "operator-0").await;
        grant(&two, &space, &rights()).await;
        also_bind(&one, &space).await;
        let _second = Operator::replica(access.clone(), &two, &space, CONFIG, "operator-1").await;
        for home in [&one, &two] {
            let lease = home.api::<Lease>();
            wait_for(&space, "both lead", async || {
                lease.get_opt("marketrelay-operator").await.expect("an answer").map(drop)
            })
            .await;
        }
        let due: Vec<_> = (4..10).map(from_now).collect();
        let lasting: Vec<_> = (0..20).map(|hour| from_now(3_600 * (hour + 1))).collect();
        let stale = retained(&space, "gone", &[&due[..], &lasting].concat()).await;
        for at in &due {
            gone(&space, "gone", &name(*at)).await;
        }
        let mut as_operator = access;
        as_operator.auth_info = AuthInfo { token: Some(token(&one).await.into()), ..AuthInfo::default() };
        let client = Client::try_from(as_operator).expect("a client");
        let api = Api::<Secret>::namespaced(client, &space.name);
        let refused = api.replace("gone-keyring", &PostParams::default(), &stale).await;
        assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.is_conflict()), "{refused:?}");
        let left = space.api::<Secret>().get("gone-keyring").await.expect("a keyring");
        let mut expected = stale.data.clone().unwrap_or_default();
        expected.retain(|entry, _| due.iter().all(|at| name(*at) != *entry));
        assert_eq!(left.data, Some(expected.clone()));

        let mut put_back = stale;
        put_back.metadata.resource_version = None;
        space
            .api::<Secret>()
            .replace("gone-keyring", &PostParams::default(), &put_back)
            .await
            .expect("an old copy");
        for at in &due {
            gone(&space, "gone", &name(*at)).await;
        }
        let left = space.api::<Secret>().get("gone-keyring").await.expect("a keyring");
        assert_eq!(left.data, Some(expected));
        one.remove().await;
        two.remove().await;
    })
    .await;
}

#[tokio::test]
async fn no_keyring_is_read_and_nothing_is_written_while_no_key_is_due() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        retained(&space, "gone", &[from_now(3_600)]).await;
        let read = || {
            let keyring = |request: &audit::Request| {
                request.object_ref.resource == "secrets" && request.object_ref.name.ends_with("-keyring")
            };
            audit::requests(&space)
                .into_iter()
                .filter(keyring)
                .map(|request| request.object_ref.name)
                .collect::<Vec<_>>()
        };
        wait_for(&space, "both were read", async || {
            let read = read();
            ["bol-keyring", "gone-keyring"]
                .iter()
                .all(|name| read.iter().any(|read| read == name))
                .then_some(())
        })
        .await;
        let settle = audit::looks(&space) + 2;
        wait_for(&space, "two looks", async || (audit::looks(&space) >= settle).then_some(())).await;
        let (before, writes) = (read().len(), audit::writes(&space).len());
        let looks = audit::looks(&space) + 3;
        wait_for(&space, "more looks", async || (audit::looks(&space) >= looks).then_some(())).await;
        assert_eq!(read().split_off(before), Vec::<String>::new());
        assert_eq!(audit::writes(&space).split_off(writes), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_disagrees_with_the_api_servers_destroys_nothing_and_says_so() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let ahead = |minutes: i64| Clock::of(move || Timestamp::now() + SignedDuration::from_mins(minutes));
        let operator = Operator::start_with(&space, CONFIG, ahead(6)).await;
        connected(&space, "bol").await;
        retained(&space, "gone", &[from_now(90), from_now(3_600)]).await;
        let message = enforced(&space, "bol", "ClockDisagrees").await;
        assert!(message.contains("ahead of the API server's"), "{message}");
        let looks = audit::looks(&space) + 2;
        wait_for(&space, "two looks", async || (audit::looks(&space) >= looks).then_some(())).await;
        assert_eq!(entries(&space, "gone").await.len(), 4, "destroyed by a wrong clock");
        operator.stop().await;
        let _operator = Operator::start_with(&space, CONFIG, ahead(3)).await;
        wait_for(&space, "the key that is due", async || {
            (entries(&space, "gone").await.len() == 3).then_some(())
        })
        .await;
        enforced(&space, "bol", "NotRunning").await;
    })
    .await;
}

#[tokio::test]
async fn a_volume_keys_replacement_begins_after_an_epoch_and_waits_for_the_relays_word() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        operator.stop().await;
        let old = "{metadata: {annotations: {marketrelay.dev/volume-key-since: '2020-01-01T00:00:00Z'}}}";
        let before = change::<Secret>(&space, "bol-keyring", old).await;
        let _operator = Operator::start(&space, CONFIG).await;
        let keyring = || async { space.api::<Secret>().get("bol-keyring").await.expect("a keyring") };
        wait_for(&space, "a second generation", async || {
            keyring().await.data?.contains_key("volume.2").then_some(())
        })
        .await;
        let after = keyring().await;
        assert_eq!(
            after.data.as_ref().map(|data| &data["volume.1"]),
            before.data.as_ref().map(|data| &data["volume.1"])
        );
        let since: Timestamp =
            after.annotations()["marketrelay.dev/volume-key-since"].parse().expect("a time");
        assert!(Timestamp::now().duration_since(since) < SLACK, "{since}");
        assert_eq!(after.annotations()["marketrelay.dev/key-epoch"], "86400");
        let looks = audit::looks(&space) + 3;
        wait_for(&space, "looks", async || (audit::looks(&space) >= looks).then_some(())).await;
        assert_eq!(version(&keyring().await), version(&after), "one replacement at a time");
    })
    .await;
}
