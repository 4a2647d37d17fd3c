//! A person asks to be forgotten: the Secret goes, the digests reach every relay, and nothing is said before it is done.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use marketrelay_api::{
    ErasureRequest, ErasureRequestStatus, MarketplaceConnection, erasure::ErasureState, record::RecordPhase,
};
use marketrelay_keyring::{DigestKey, SecretKey};
use marketrelay_relay::{egress::Egress, tls::http_client};
use marketrelay_sandbox::{Account, Config, Customer, Marketplace, Sandbox};
use serde_json::{Value, json};

use super::{
    CONFIG, Operator, apply, audit,
    closures::{confirm, reaches, says},
    connected, delete, furnish,
    kubelet::{Pod, Volume},
    reason as connection_reason,
};
use crate::{
    samples::{Kind, create, set_status},
    support::{Space, text, wait_for, with_namespace},
};

const TOKEN: &str = "control";

/// The simulators: the account of the furnished credentials, and the customer.
pub(super) struct World {
    sandbox: Sandbox,
}

impl World {
    pub(super) async fn start() -> Self {
        let account = Account {
            marketplace: Marketplace::Bol,
            client_id: "a".to_owned(),
            client_secret: "b".to_owned(),
            refresh_token: String::new(),
            seed: 7,
            initial_orders: 0,
            growth_seconds: 0,
        };
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned();
        let config = Config {
            control_token: TOKEN.to_owned(),
            accounts: vec![account],
            customers: vec![Customer { name: "acme".to_owned(), secrets: vec![secret] }],
            amazon_rate: (50.0, 100.0),
        };
        Self { sandbox: Sandbox::start(&config).await.expect("a sandbox") }
    }

    /// The operator's configuration.
    pub(super) fn config(&self) -> String {
        let url = &self.sandbox.url;
        let config = json!({
            "relay": {"image": "registry.example/relay:1"},
            "controller": {"statusIntervalSeconds": 5},
            "endpoints": {"bol": {"api": format!("{url}/"), "token": format!("{url}/token")}},
            "egress": {"allowedNetworks": ["127.0.0.0/8"], "extraCaCertificates": self.sandbox.ca},
        });
        config.to_string()
    }

    async fn control(&self, path: &str, body: Option<Value>) -> Value {
        let egress = Egress::new(&["127.0.0.0/8".parse().expect("a network")]);
        let http = http_client(&egress, &self.sandbox.ca).expect("a client");
        let url = format!("{}/control/{path}", self.sandbox.url);
        let request = match body {
            Some(body) => http.post(url).json(&body),
            None => http.get(url),
        };
        request.bearer_auth(TOKEN).send().await.expect("an answer").json().await.expect("JSON")
    }

    /// So many orders of a person.
    pub(super) async fn order(&self, count: u32, email: &str) {
        let person = json!({"firstName": "Zoë", "surname": "Nachtigall", "email": email, "country": "DE"});
        self.control("accounts/a/orders", Some(json!({"count": count, "person": person}))).await;
    }

    async fn summary(&self) -> Value {
        self.control("customers/acme", None).await
    }

    /// A connection whose relay collects from here and delivers here.
    pub(super) async fn connect(&self, space: &Space, name: &str) {
        let url = format!("{}/customers/acme/orders", self.sandbox.url);
        let change = json!({"metadata": {"name": name}, "spec": {
            "pollInterval": "5s", "storage": {"storageClassName": space.name},
            "destination": {"webhook": {"url": url}},
        }});
        create(space, Kind::Connection, &change.to_string()).await;
        connection_reason(space, name, "RelayStarting").await;
    }

    pub(super) async fn arrived(&self, space: &Space, orders: u64) {
        wait_for(space, "orders at the customer", async || {
            (self.summary().await["orders"] == orders).then_some(())
        })
        .await;
    }
}

pub(super) async fn secret(space: &Space, name: &str, entries: Value) {
    apply::<Secret>(space.api(), json!({"metadata": {"name": name}, "stringData": entries})).await;
}

async fn exists(space: &Space, secret: &str) -> bool {
    space.api::<Secret>().get_opt(secret).await.expect("an answer").is_some()
}

/// A request by the Secret `case-4711`.
pub(super) async fn request(space: &Space, change: &str) {
    create(space, Kind::Erasure, change).await;
}

async fn status(space: &Space) -> ErasureRequestStatus {
    let request = space.api::<ErasureRequest>().get("sample").await.expect("the request");
    request.status.unwrap_or_default()
}

/// Waits until Complete has this reason; gives its message and the status.
pub(super) async fn reason(space: &Space, reason: &str) -> (String, ErasureRequestStatus) {
    wait_for(space, reason, async || {
        let status = status(space).await;
        let complete = status.conditions.first()?;
        (complete.reason == reason).then(|| (complete.message.clone(), status.clone()))
    })
    .await
}

/// Nothing that the API server holds or the operator told names the person or holds a digest.
fn nobody_is_named(space: &Space, words: &[&str]) {
    let told = text(&space.kubectl(&["get", "events,erasure,mconn,configmaps", "--output=yaml"]));
    for word in words {
        assert!(!told.contains(word), "{word} in {told}");
    }
}

struct Place {
    world: World,
    operator: Operator,
    volumes: [Volume; 2],
    pods: Vec<Pod>,
}

/// Two connections whose relays have orders of two people.
async fn place(space: &Space) -> Place {
    let world = World::start().await;
    furnish(space).await;
    let operator = Operator::start(space, &world.config()).await;
    world.order(3, "zoe@nachtigall.example").await;
    world.order(2, "max@buyer.example").await;
    let (volumes, mut pods) = ([Volume::new(), Volume::new()], Vec::new());
    for (name, volume) in ["one", "two"].into_iter().zip(&volumes) {
        world.connect(space, name).await;
        pods.push(volume.start(space, name).await);
    }
    wait_for(space, "both have told everything", async || {
        (world.summary().await["events"].as_u64() >= Some(10)).then_some(())
    })
    .await;
    Place { world, operator, volumes, pods }
}

#[tokio::test]
async fn a_request_by_a_secret_erases_at_every_connection_and_the_secret_is_gone() {
    with_namespace(|space| async move {
        let Place { world, pods, operator: _operator, volumes: _volumes } = place(&space).await;
        secret(&space, "case-4711", json!({"emails": "ZOE@nachtigall.example\n"})).await;
        request(&space, "{}").await;
        let (message, status) = reason(&space, "Erased").await;
        assert!(message.contains("6 orders"), "{message}");
        assert!(!exists(&space, "case-4711").await);
        assert_eq!((status.matched, status.erased), (Some(6), Some(6)));
        let at: Vec<_> =
            status.connections.iter().map(|at| (at.name.as_str(), at.state, at.erased)).collect();
        let erased = ErasureState::Erased;
        assert_eq!(at, [("one", erased, Some(3)), ("two", erased, Some(3))]);
        assert!(status.completed_at.is_some() && status.sealed_copies_until.is_some());
        assert!(status.digests.is_empty() && status.subject_secret.is_none(), "the subject is forgotten");
        wait_for(&space, "the customer knows", async || (world.summary().await["erased"] == 6).then_some(()))
            .await;
        assert_eq!(world.summary().await["badSignatures"], 0);
        nobody_is_named(&space, &["nachtigall", "buyer:", "order:"]);
        for pod in pods {
            pod.stop().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_relay_that_is_down_is_waited_for_also_by_an_operator_that_was_killed_after_the_secret_was_gone() {
    with_namespace(|space| async move {
        let Place { world, operator, volumes, mut pods } = place(&space).await;
        pods.pop().expect("two").stop().await;
        secret(&space, "case-4711", json!({"emails": "zoe@nachtigall.example"})).await;
        request(&space, "{}").await;
        let (message, status) = reason(&space, "WaitingForRelay").await;
        assert!(message.contains("relays of two:"), "{message}");
        assert!(!exists(&space, "case-4711").await);
        assert_eq!((status.erased, status.digests.len()), (Some(3), 3));
        drop(operator);
        let before = audit::writes(&space).len();
        let _operator = Operator::start(&space, &world.config()).await;
        let asks = || {
            let requests = audit::requests(&space);
            requests.iter().filter(|one| one.verb == "get" && one.object_ref.name == "case-4711").count()
        };
        let seen = asks();
        wait_for(&space, "three more looks", async || (asks() >= seen + 3).then_some(())).await;
        let writes = audit::writes(&space).split_off(before);
        assert!(writes.iter().all(|write| !write.contains("erasure")), "nothing is written: {writes:?}");
        pods.push(volumes[1].start(&space, "two").await);
        let (_, status) = reason(&space, "Erased").await;
        assert_eq!((status.erased, status.digests.len()), (Some(6), 0));
        for pod in pods {
            pod.stop().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_unknown_subject_completes_with_nothing_and_the_request_goes_after_its_time() {
    with_namespace(|space| async move {
        let world = World::start().await;
        furnish(&space).await;
        let _operator = Operator::start(&space, &world.config()).await;
        world.order(2, "max@buyer.example").await;
        world.connect(&space, "one").await;
        let volume = Volume::new();
        let pod = volume.start(&space, "one").await;
        world.arrived(&space, 2).await;
        let digest = format!("buyer:{}", "0".repeat(64));
        let subject = json!({"spec": {"ttlAfterCompletion": "6s", "subject": {"secretRef": null, "digests": [digest]}}});
        request(&space, &subject.to_string()).await;
        let (message, status) = reason(&space, "SubjectUnknown").await;
        assert!(message.contains("no order"), "{message}");
        assert_eq!((status.matched, status.erased, status.sealed_copies_until), (Some(0), Some(0), None));
        wait_for(&space, "the request is deleted", async || {
            space.api::<ErasureRequest>().get_opt("sample").await.expect("an answer").is_none().then_some(())
        })
        .await;
        assert_eq!(world.summary().await["erased"], 0);
        pod.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_can_not_be_carried_out_says_what_to_do_and_leaves_the_secret_alone() {
    with_namespace(|space| async move {
        furnish(&space).await;
        secret(&space, "case-4711", json!({"emails": "zoe@nachtigall.example"})).await;
        let _operator = Operator::start(&space, CONFIG).await;
        request(&space, "{}").await;
        let (message, _) = reason(&space, "NoConnections").await;
        assert!(message.contains("kubectl get mconn"), "{message}");
        connected(&space, "bol").await;
        // A new connection is enough.
        reason(&space, "WaitingForRelay").await;
        assert!(!exists(&space, "case-4711").await);
        let anew = async |change: &str| {
            delete::<ErasureRequest>(&space, "sample").await;
            request(&space, change).await;
        };
        secret(&space, "case-4711", json!({"emails": "zoe@nachtigall.example"})).await;
        anew("spec: {connections: [bol, boll]}").await;
        let (message, _) = reason(&space, "ConnectionNotFound").await;
        assert!(message.contains("boll in this namespace"), "{message}");
        assert!(exists(&space, "case-4711").await, "it is needed for the right request");
        anew("spec: {subject: {secretRef: {name: case-4712}}}").await;
        let (message, _) = reason(&space, "SecretNotFound").await;
        assert!(message.contains("case-4712"), "{message}");
        secret(&space, "case-4712", json!({"emails": " \n"})).await;
        reason(&space, "SecretIncomplete").await;
        secret(&space, "case-4712", json!({"emails": "zoe@nachtigall.example", "password": "x"})).await;
        let (message, _) = reason(&space, "SecretInvalid").await;
        assert!(
            message.contains("neither used nor deleted") && exists(&space, "case-4712").await,
            "{message}"
        );
        for ours in ["bol-keyring", "bol-database-key", "marketrelay-digest-key"] {
            anew(&format!("spec: {{subject: {{secretRef: {{name: {ours}}}}}}}")).await;
            reason(&space, "SecretInvalid").await;
            assert!(exists(&space, ours).await, "{ours}");
        }
        nobody_is_named(&space, &["nachtigall"]);
    })
    .await;
}

#[tokio::test]
async fn an_operator_that_ended_before_it_deleted_the_secret_deletes_that_one_and_no_other() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        operator.stop().await;
        secret(&space, "case-4711", json!({"emails": "zoe@nachtigall.example"})).await;
        let secrets = space.api::<Secret>();
        let read = secrets.get("case-4711").await.expect("a Secret");
        let made = create(&space, Kind::Erasure, "{}").await;
        let recorded = json!({"digests": [format!("buyer:{}", "1".repeat(64))],
            "subjectSecret": {"uid": read.uid(), "resourceVersion": read.resource_version()}});
        set_status(&space, Kind::Erasure, &made, &recorded.to_string()).await.expect("a status");
        let _operator = Operator::start(&space, CONFIG).await;
        wait_for(&space, "the Secret goes", async || (!exists(&space, "case-4711").await).then_some(()))
            .await;
        assert_eq!(json!(status(&space).await.digests), recorded["digests"], "the digests are known already");
        secret(&space, "case-4711", json!({"emails": "max@buyer.example"})).await;
        reason(&space, "WaitingForRelay").await;
        let looks = audit::looks(&space);
        wait_for(&space, "more looks", async || (audit::looks(&space) >= looks + 3).then_some(())).await;
        assert!(exists(&space, "case-4711").await, "a later Secret of that name is somebody else's");
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_changed_after_it_was_read_is_read_again() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        operator.stop().await;
        secret(&space, "case-4711", json!({"emails": "zoe@nachtigall.example"})).await;
        let read = space.api::<Secret>().get("case-4711").await.expect("a Secret");
        let made = create(&space, Kind::Erasure, "{}").await;
        let recorded = json!({"digests": [format!("buyer:{}", "1".repeat(64))],
            "subjectSecret": {"uid": read.uid(), "resourceVersion": read.resource_version()}});
        set_status(&space, Kind::Erasure, &made, &recorded.to_string()).await.expect("a status");
        secret(&space, "case-4711", json!({"emails": "max@buyer.example"})).await;
        let _operator = Operator::start(&space, CONFIG).await;
        wait_for(&space, "the Secret goes", async || (!exists(&space, "case-4711").await).then_some(()))
            .await;
        let key = space.api::<Secret>().get("marketrelay-digest-key").await.expect("a key");
        let key: [u8; 32] = key.data.expect("data")["digest-key"].0.clone().try_into().expect("32 bytes");
        let max = DigestKey::new(&SecretKey::from(key)).buyer("bol", "max@buyer.example");
        let digests: Vec<_> = status(&space).await.digests.iter().map(ToString::to_string).collect();
        assert!(digests.len() == 3 && digests.contains(&format!("buyer:{max}")));
    })
    .await;
}

#[tokio::test]
async fn the_volume_of_a_deleted_connection_is_told_and_completes_the_request_once_it_is_gone() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        delete::<MarketplaceConnection>(&space, "bol").await;
        secret(&space, "case-4711", json!({"orderNumbers": "A1\nA2"})).await;
        request(&space, "{}").await;
        let (message, status) = reason(&space, "VolumeRetained").await;
        assert!(message.contains("volumes of bol"), "{message}");
        assert_eq!(status.connections[0].state, ErasureState::Retained);
        assert!(!exists(&space, "case-4711").await);
        let claims: Api<PersistentVolumeClaim> = space.api();
        for mut claim in claims.list(&ListParams::default()).await.expect("claims").items {
            // No controller takes this finalizer away here.
            claim.metadata.finalizers = None;
            claims.replace(&claim.name_any(), &PostParams::default(), &claim).await.expect("changed");
        }
        delete::<PersistentVolumeClaim>(&space, "bol-data").await;
        reason(&space, "SubjectUnknown").await;
    })
    .await;
}

/// A request for a person, by a new Secret.
async fn anew(space: &Space, change: &str) {
    if space.api::<ErasureRequest>().get_opt("sample").await.expect("an answer").is_some() {
        delete::<ErasureRequest>(space, "sample").await;
    }
    secret(space, "case-4711", json!({"emails": "zoe@nachtigall.example"})).await;
    request(space, change).await;
}

/// Closes the account as far as its volume, which somebody uses.
async fn close(space: &Space, name: &str) -> String {
    let id = confirm(space, name).await;
    says(space, space, &id, &format!("can be read any more; still there: PersistentVolumeClaim {name}-data"))
        .await;
    id
}

#[tokio::test]
async fn an_account_whose_keys_are_destroyed_keeps_no_request_waiting_though_its_closing_lasts() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        connected(&space, "other").await;
        close(&space, "bol").await;
        let only_the_other = async || {
            let (message, status) = reason(&space, "WaitingForRelay").await;
            assert!(message.contains("relays of other:"), "{message}");
            let names: Vec<_> = status.connections.iter().map(|at| at.name.as_str()).collect();
            assert_eq!(names, ["other"]);
        };
        anew(&space, "{}").await;
        only_the_other().await;
        delete::<MarketplaceConnection>(&space, "bol").await;
        anew(&space, "{}").await;
        only_the_other().await;
        anew(&space, "spec: {connections: [bol]}").await;
        reason(&space, "SubjectUnknown").await;
    })
    .await;
}

#[tokio::test]
async fn where_every_account_is_closed_a_subject_is_unknown_and_its_secret_goes_all_the_same() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        let id = close(&space, "bol").await;
        assert!(!exists(&space, "marketrelay-digest-key").await, "nothing can be digested");
        let is_over = async || {
            let (_, status) = reason(&space, "SubjectUnknown").await;
            assert!(!exists(&space, "case-4711").await, "the person's name stays");
            assert!(status.completed_at.is_some() && status.subject_secret.is_none(), "{status:?}");
        };
        anew(&space, "{}").await;
        is_over().await;
        delete::<MarketplaceConnection>(&space, "bol").await;
        reaches(&space, &space, &id, RecordPhase::Closed).await;
        for change in ["{}", "spec: {connections: [bol]}"] {
            anew(&space, change).await;
            is_over().await;
        }
        secret(&space, "case-4712", json!({"emails": "zoe@nachtigall.example", "password": "x"})).await;
        anew(&space, "spec: {subject: {secretRef: {name: case-4712}}}").await;
        reason(&space, "SecretInvalid").await;
        assert!(exists(&space, "case-4712").await, "it is meant for something else");
        nobody_is_named(&space, &["nachtigall"]);
    })
    .await;
}
