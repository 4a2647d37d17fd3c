//! eBay tells that somebody closed their account: a request in every namespace with an eBay connection, and nothing is
//! acknowledged before.

use std::{fs, net::SocketAddr, path::Path};

use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use marketrelay_api::{
    ErasureRequest, MarketplaceConnection, SubjectDigest,
    notices::{APPLICATION, CONFIG, EbayNotice, IDENTITY, TLS},
};
use marketrelay_keyring::{DigestKey, SecretKey};
use marketrelay_notices::{
    operator::{HandOverError, Operator as Receiving},
    run::{Surroundings, run},
};
use marketrelay_operator::names::{DIGEST_KEY, NOTICES};
use marketrelay_relay::{egress::Egress, mounts::Entries, tls::http_client};
use marketrelay_sandbox::{Account, Config, Customer, Marketplace, Sandbox, self_signed};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    CONFIG as OPERATOR, Operator, apply, connected, delete, furnish, grant, kubelet::Volume, reason, rights,
};
use crate::{
    samples::{Kind, create},
    support::{Space, text, wait_for, with_namespace},
};

/// A furnished namespace's eBay connection whose children all exist.
pub async fn connect_ebay(space: &Space) {
    connect_to(space, "https://erp.acme.example/orders").await;
}

/// The same, with this destination.
async fn connect_to(space: &Space, destination: &str) {
    let entries = json!({"clientId": "a", "clientSecret": "b", "refreshToken": "c"});
    let secret = json!({"metadata": {"name": "ebay-credentials"}, "stringData": entries});
    apply::<Secret>(space.api(), secret).await;
    let change = json!({"metadata": {"name": "ebay"}, "spec": {
        "bol": null, "ebay": {}, "credentialsSecretRef": {"name": "ebay-credentials"}, "pollInterval": "5s",
        "destination": {"webhook": {"url": destination}}, "storage": {"storageClassName": space.name},
    }});
    create(space, Kind::Connection, &change.to_string()).await;
    reason(space, "ebay", "RelayStarting").await;
}

/// The receiver's certificate as it is mounted.
async fn identity(home: &Space) -> Entries {
    let secret = wait_for(home, NOTICES, async || home.api::<Secret>().get(NOTICES).await.ok()).await;
    let entries = secret.data.into_iter().flatten();
    entries.map(|(name, bytes)| (name, bytes.0.into())).collect()
}

fn base(home: &Space) -> String {
    format!("https://marketrelay-operator.{}.svc:9443/", home.name)
}

/// Hands over a notice about a buyer as the receiver does.
pub async fn hand_over(
    home: &Space,
    operator: SocketAddr,
    id: &str,
    buyer: &str,
) -> Result<(), HandOverError> {
    let url = base(home).parse().expect("a URL");
    let receiving = Receiving::new(&identity(home).await, &url, Some(operator)).expect("a client");
    let buyers = vec![buyer.to_owned(), "ma8vp1jySJC".to_owned()];
    receiving.hand_over(&EbayNotice { notification_id: id.to_owned(), buyers }).await
}

/// The volume of a deleted connection.
async fn retain(space: &Space, connection: &str) {
    let labels = json!({"app.kubernetes.io/managed-by": "marketrelay-operator", "marketrelay.dev/marketplace": "ebay",
        "marketrelay.dev/connection": connection, "marketrelay.dev/retained": "true"});
    let claim = json!({"metadata": {"name": format!("{connection}-data"), "labels": labels}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    apply::<PersistentVolumeClaim>(space.api(), claim).await;
}

/// Requests that notices made.
async fn made(space: &Space) -> Vec<ErasureRequest> {
    let by_notices = ListParams::default().labels("marketrelay.dev/source=ebay-notice");
    space.api::<ErasureRequest>().list(&by_notices).await.expect("requests").items
}

async fn furnished(space: &Space) -> Space {
    let space = Space::make(space.client.clone()).await;
    furnish(&space).await;
    space
}

/// A seller, or an application, at eBay.
fn account(client: &str, initial_orders: u32) -> Account {
    Account {
        marketplace: Marketplace::Ebay,
        client_id: client.to_owned(),
        client_secret: "b".to_owned(),
        refresh_token: "c".to_owned(),
        seed: 5,
        initial_orders,
        growth_seconds: 0,
    }
}

async fn sandbox(account: Account) -> Sandbox {
    let secrets = vec!["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()];
    let customer = Customer { name: "acme".to_owned(), secrets };
    let config = Config {
        control_token: "control".to_owned(),
        accounts: vec![account],
        customers: vec![customer],
        amazon_rate: (1.0, 1.0),
    };
    Sandbox::start(&config).await.expect("a sandbox")
}

/// The simulator's control API.
async fn control(sandbox: &Sandbox, path: &str, body: Option<Value>) -> Value {
    let egress = Egress::new(&["127.0.0.0/8".parse().expect("a network")]);
    let http = http_client(&egress, &sandbox.ca).expect("a client");
    let url = format!("{}/control/{path}", sandbox.url);
    let request = match body {
        Some(body) => http.post(url).json(&body),
        None => http.get(url),
    };
    request.bearer_auth("control").send().await.expect("an answer").json().await.expect("JSON")
}

/// eBay, with the receiver before this operator.
struct Ebay {
    sandbox: Sandbox,
    endpoint: String,
    ca: String,
    stop: CancellationToken,
    _folder: TempDir,
}

impl Ebay {
    async fn start(home: &Space, operator: SocketAddr) -> Self {
        let sandbox = sandbox(account("application", 0)).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let endpoint = format!("https://localhost:{port}/ebay");
        let folder = TempDir::new().expect("a folder");
        let shown = self_signed(&["localhost".to_owned()]).expect("a certificate");
        let config = json!({
            "endpoint": endpoint, "operator": base(home),
            "endpoints": {"api": sandbox.url, "token": format!("{}/identity/v1/oauth2/token", sandbox.url)},
            "egress": {"allowedNetworks": ["127.0.0.0/8", "::1/128"], "extraCaCertificates": sandbox.ca},
        });
        mount(folder.path(), CONFIG, serde_yaml::to_string(&config).expect("YAML"));
        for (name, text) in
            [("clientId", "application"), ("clientSecret", "b"), ("verificationToken", &"v".repeat(40))]
        {
            mount(folder.path(), &format!("{APPLICATION}/{name}"), text);
        }
        for (name, bytes) in identity(home).await {
            mount(folder.path(), &format!("{IDENTITY}/{name}"), bytes.as_slice());
        }
        for (name, text) in [("tls.crt", &shown.certificate), ("tls.key", &shown.key)] {
            mount(folder.path(), &format!("{TLS}/{name}"), text);
        }
        let stop = CancellationToken::new();
        let root = folder.path().to_owned();
        tokio::spawn(run(Surroundings { root, listener, operator: Some(operator) }, stop.clone()));
        Self { sandbox, endpoint, ca: shown.ca, stop, _folder: folder }
    }

    /// Sends a signed notice; gives the answer's status.
    async fn tell(&self, id: &str) -> Value {
        let notice = json!({"url": self.endpoint, "ca": self.ca, "notificationId": id, "username": "Zoe_N",
            "userId": "ma8vp1jySJC"});
        let answer = control(&self.sandbox, "ebay/notices", Some(notice)).await;
        answer["status"].clone()
    }
}

fn mount(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(path, bytes).expect("a file");
}

async fn digest_key(space: &Space) -> DigestKey {
    let secret = space.api::<Secret>().get(DIGEST_KEY).await.expect("a digest key");
    let bytes = secret.data.expect("data").remove("digest-key").expect("a key").0;
    DigestKey::new(&SecretKey::from(<[u8; 32]>::try_from(bytes).expect("32 bytes")))
}

#[tokio::test]
async fn a_signed_notice_becomes_one_request_in_each_namespace_with_an_ebay_connection() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let (other, without) = (furnished(&space).await, furnished(&space).await);
        let operator = Operator::start_over(&[&space, &other, &without], OPERATOR, "operator-0").await;
        for place in [&space, &other] {
            connect_ebay(place).await;
        }
        for place in [&without, &other] {
            connected(place, "bol").await;
        }
        retain(&other, "old").await;
        let ebay = Ebay::start(&space, operator.address).await;
        // A repetition, and another notice.
        for (id, requests) in [("n-1", 1), ("n-1", 1), ("n-2", 2)] {
            assert_eq!(ebay.tell(id).await, 204);
            for place in [&space, &other] {
                assert_eq!(made(place).await.len(), requests, "{id}");
            }
        }
        assert!(made(&without).await.is_empty(), "no eBay connection, no request");
        for (place, asked) in [(&space, &["ebay"][..]), (&other, &["ebay", "old"])] {
            let key = digest_key(place).await;
            let buyer = |name: &str| SubjectDigest::Buyer(*key.buyer("ebay", name).as_bytes());
            let request = made(place).await.remove(0);
            assert_eq!(request.spec.connections, asked, "eBay's alone, retained volumes included");
            let digests = request.spec.subject.digests.clone().expect("digests");
            assert!(digests.contains(&buyer("zoe_n")) && digests.contains(&buyer("ma8vp1jySJC")));
            let told = text(&place.kubectl(&["get", "events,erasure", "--output=yaml"])).to_lowercase();
            assert!(!told.contains("zoe_n") && !told.contains("ma8vp1jysjc"), "{told}");
            wait_for(place, "it is worked on", async || {
                let request = place.api::<ErasureRequest>().get(&request.name_any()).await.ok()?;
                (request.status?.conditions.first()?.reason == "WaitingForRelay").then_some(())
            })
            .await;
        }
        delete::<MarketplaceConnection>(&other, "ebay").await;
        wait_for(&other, "its volume is marked as retained", async || {
            let claims = other.kubectl(&["get", "pvc", "--selector=marketrelay.dev/retained=true"]);
            text(&claims).contains("ebay-data").then_some(())
        })
        .await;
        assert_eq!(ebay.tell("n-3").await, 204);
        assert_eq!((made(&space).await.len(), made(&other).await.len()), (3, 2));
        ebay.stop.cancel();
        other.remove().await;
        without.remove().await;
    })
    .await;
}

#[tokio::test]
async fn any_replica_takes_a_notice_and_nothing_is_acknowledged_that_is_not_done_everywhere() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let other = furnished(&space).await;
        let all = [&space, &other];
        let leader = Operator::start_over(&all, OPERATOR, "operator-0").await;
        for place in all {
            connect_ebay(place).await;
        }
        let standby = Operator::start_over(&all, OPERATOR, "operator-1").await;
        hand_over(&space, standby.address, "n-1", "zoe").await.expect("taken by who doesn't lead");
        assert_eq!((made(&space).await.len(), made(&other).await.len()), (1, 1));
        let mut less = rights();
        for rule in &mut less.cluster_role {
            if rule.resources.iter().flatten().any(|resource| resource == "erasurerequests") {
                rule.verbs.retain(|verb| verb != "create");
            }
        }
        grant(&space, &space, &less).await;
        let refused = wait_for(&space, "less rights", async || {
            let id = format!("n-{}", made(&space).await.len() + 1);
            hand_over(&space, leader.address, &id, "zoe").await.err()
        })
        .await;
        assert!(matches!(refused, HandOverError::Status { status: 503 }), "{refused}");
        grant(&space, &space, &rights()).await;
        let id = format!("n-{}", made(&space).await.len() + 1);
        wait_for(&space, "the repetition is taken", async || {
            hand_over(&space, leader.address, &id, "zoe").await.ok()
        })
        .await;
        assert_eq!(made(&space).await.len(), made(&other).await.len());
        other.remove().await;
    })
    .await;
}

#[tokio::test]
async fn a_notice_is_not_acknowledged_while_a_namespace_has_lost_its_digest_key_unless_it_is_going_itself() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let other = furnished(&space).await;
        let all = [&space, &other];
        let operator = Operator::start_over(&all, OPERATOR, "operator-0").await;
        for place in all {
            connect_ebay(place).await;
        }
        let tell = async |id: &str| hand_over(&space, operator.address, id, "zoe").await;
        let secrets = other.api::<Secret>();
        let key = secrets.get(DIGEST_KEY).await.expect("a digest key");
        let damage = json!({"data": {"digest-key": "AAAA"}}).to_string();
        super::change::<Secret>(&other, DIGEST_KEY, &damage).await;
        let refused = tell("n-1").await.expect_err("it is damaged");
        assert!(matches!(refused, HandOverError::Status { status: 503 }), "{refused}");
        assert_eq!((made(&space).await.len(), made(&other).await.len()), (1, 0), "others have theirs");
        let whole = json!({"data": key.data}).to_string();
        super::change::<Secret>(&other, DIGEST_KEY, &whole).await;
        tell("n-1").await.expect("eBay's repetition is taken");
        assert_eq!((made(&space).await.len(), made(&other).await.len()), (1, 1));
        secrets.delete(DIGEST_KEY, &DeleteParams::default()).await.expect("deleted");
        let refused = tell("n-2").await.expect_err("it is missing");
        assert!(matches!(refused, HandOverError::Status { status: 503 }), "{refused}");
        let namespaces = Api::<Namespace>::all(space.client.clone());
        drop(namespaces.delete(&other.name, &DeleteParams::default()).await.expect("it is going"));
        tell("n-2").await.expect("what is going keeps nothing back");
        other.remove().await;
    })
    .await;
}

#[tokio::test]
async fn nobody_but_the_receiver_hands_over_notices_and_it_reads_nothing() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let operator = Operator::start(&space, OPERATOR).await;
        connect_ebay(&space).await;
        let secret = space.api::<Secret>();
        let name = "marketrelay-metrics-client";
        let metrics = wait_for(&space, name, async || secret.get(name).await.ok()).await;
        let entries: Entries =
            metrics.data.into_iter().flatten().map(|(name, bytes)| (name, bytes.0.into())).collect();
        let url = base(&space).parse().expect("a URL");
        let receiving = Receiving::new(&entries, &url, Some(operator.address)).expect("a client");
        let notice = EbayNotice { notification_id: "n-1".to_owned(), buyers: vec!["zoe".to_owned()] };
        let refused = receiving.hand_over(&notice).await.expect_err("refused");
        assert!(matches!(refused, HandOverError::Status { status: 403 }), "{refused}");
        let nobody = EbayNotice { notification_id: "n-1".to_owned(), buyers: Vec::new() };
        let receiving =
            Receiving::new(&identity(&space).await, &url, Some(operator.address)).expect("a client");
        let refused = receiving.hand_over(&nobody).await.expect_err("refused");
        assert!(matches!(refused, HandOverError::Status { status: 400 }), "{refused}");
        assert!(made(&space).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn where_every_relay_says_that_it_knows_nobody_of_that_name_there_is_nothing_to_request() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let sandbox = sandbox(account("a", 3)).await;
        let config = json!({
            "relay": {"image": "registry.example/relay:1"}, "controller": {"statusIntervalSeconds": 5},
            "endpoints": {"ebay": {"api": sandbox.url, "token": format!("{}/identity/v1/oauth2/token", sandbox.url)}},
            "egress": {"allowedNetworks": ["127.0.0.0/8", "::1/128"], "extraCaCertificates": sandbox.ca},
        });
        let operator = Operator::start(&space, &config.to_string()).await;
        connect_to(&space, &format!("{}/customers/acme/orders", sandbox.url)).await;
        let (volume, orders) = (Volume::new(), control(&sandbox, "accounts/a/orders", None).await);
        let pod = volume.start(&space, "ebay").await;
        wait_for(&space, "the orders are collected and delivered", async || {
            (control(&sandbox, "customers/acme", None).await["orders"] == 3).then_some(())
        })
        .await;
        hand_over(&space, operator.address, "n-1", "nobody").await.expect("taken");
        assert!(made(&space).await.is_empty(), "the relay has said so");
        let buyer = orders[1]["username"].as_str().expect("a user name");
        hand_over(&space, operator.address, "n-2", buyer).await.expect("taken");
        let request = made(&space).await.remove(0);
        let status = wait_for(&space, "it is erased", async || {
            let status = space.api::<ErasureRequest>().get(&request.name_any()).await.ok()?.status?;
            status.completed_at.is_some().then_some(status)
        })
        .await;
        assert_eq!((status.matched, status.erased), (Some(1), Some(1)));
        pod.stop().await;
        hand_over(&space, operator.address, "n-3", "nobody").await.expect("taken");
        assert_eq!(made(&space).await.len(), 2, "a relay that is down may know them");
    })
    .await;
}
