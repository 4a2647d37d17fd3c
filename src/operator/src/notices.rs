//! From eBay's notice that somebody closed their account to an erasure request in every namespace with an eBay connection that may
//! know them. Any replica does it, leader or not: it reads from the API server itself, and what exists already isn't made again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, ObjectMeta, PostParams},
};
use marketrelay_api::{
    ErasureRequest, ErasureRequestSpec, SubjectDigest, connection::MarketplaceKind, erasure::Subject, labels,
    notices::EbayNotice, relay::Erasure,
};
use marketrelay_keyring::DigestKey;
use snafu::{ResultExt, Snafu, ensure};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    compare::hash, controllers::erasure::digest_key, names::DIGEST_KEY, relay_client::RelayClient,
    scope::Scope,
};

/// Notices that are worked on at the same time.
const NOTICES: usize = 4;
/// Namespaces of one notice that are worked on at the same time.
const NAMESPACES: usize = 32;
/// Objects in one page of a list.
const PAGE: u32 = 500;
/// For a whole notice; who hands it over waits a little longer.
const TIME: Duration = Duration::from_secs(8);
/// Of it, for asking relays; one that hasn't answered then may know the buyer.
const ASKING: Duration = Duration::from_secs(2);
/// How long a request stays once it is complete.
const TTL: &str = "1d";
/// Of a user name or id; eBay's have 64 at most.
const LONGEST_BUYER: usize = 256;
const MOST_BUYERS: usize = 4;
/// That a request can name; above that it names none, and all of its namespace are asked.
const MOST_CONNECTIONS: usize = 500;

/// Why a notice hasn't become an erasure everywhere.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum NoticeError {
    #[snafu(display("the notice names nobody, or more than one person"))]
    Form,
    #[snafu(display("not done within {} s", TIME.as_secs()))]
    Late,
    #[snafu(display("namespaces with eBay connections can't be listed: {source}"))]
    List { source: kube::Error },
    #[snafu(display("in namespace {namespace}: {source}"))]
    Request { namespace: String, source: kube::Error },
    #[snafu(display(
        "in namespace {namespace}: Secret {DIGEST_KEY} is missing or damaged, and nobody is found without it \
         (docs/runbooks/lost-keyring.md)"
    ))]
    DigestKeyLost { namespace: String },
}

/// The eBay volumes of a namespace, by the names of their connections.
#[derive(Debug, Default)]
struct Volumes {
    /// Of connections that can be asked.
    asked: Vec<String>,
    /// Of these and of deleted connections whose volumes were retained.
    all: BTreeSet<String>,
}

/// Takes notices.
pub struct Notices {
    client: Client,
    relays: Arc<RelayClient>,
    scopes: Vec<Scope>,
    room: Semaphore,
}

impl Notices {
    /// For these scopes.
    pub fn new(client: Client, relays: Arc<RelayClient>, scopes: Vec<Scope>) -> Self {
        Self { client, relays, scopes, room: Semaphore::new(NOTICES) }
    }

    /// Once it is done, every namespace with an eBay connection that may know the buyer has its request; gives the number of new ones.
    pub async fn accept(&self, notice: &EbayNotice) -> Result<usize, NoticeError> {
        let fits = |text: &String| (1..=LONGEST_BUYER).contains(&text.trim().len());
        let count = notice.buyers.len();
        ensure!((1..=MOST_BUYERS).contains(&count) && notice.buyers.iter().all(fits), FormSnafu);
        ensure!(!notice.notification_id.is_empty(), FormSnafu);
        let work = async {
            let _room = self.room.acquire().await;
            self.everywhere(notice).await
        };
        timeout(TIME, work).await.unwrap_or(Err(NoticeError::Late))
    }

    /// A namespace that fails doesn't keep the others from their request; the first failure is told.
    async fn everywhere(&self, notice: &EbayNotice) -> Result<usize, NoticeError> {
        let namespaces = self.namespaces().await.context(ListSnafu)?;
        let asked_until = Instant::now() + ASKING;
        let ask = |(namespace, volumes): (String, Volumes)| async move {
            self.request(&namespace, &volumes, notice, asked_until).await
        };
        let results: Vec<Result<_, NoticeError>> =
            stream::iter(namespaces).map(ask).buffer_unordered(NAMESPACES).collect().await;
        results.into_iter().try_fold(0, |made, new| Ok(made + usize::from(new?)))
    }

    /// By the volumes: a connection that has none has stored nothing yet. One that was deleted can't be asked, so a namespace with
    /// such ones alone isn't among them.
    async fn namespaces(&self) -> kube::Result<BTreeMap<String, Volumes>> {
        let selector = format!("{}={}", labels::MARKETPLACE, MarketplaceKind::Ebay);
        let mut found = BTreeMap::<_, Volumes>::new();
        for scope in &self.scopes {
            let api = scope.api::<PersistentVolumeClaim>(&self.client);
            let mut page = ListParams::default().labels(&selector).limit(PAGE);
            loop {
                let list = api.list_metadata(&page).await?;
                for claim in &list.items {
                    let Some(connection) = claim.labels().get(labels::CONNECTION) else { continue };
                    let volumes = found.entry(claim.namespace().unwrap_or_default()).or_default();
                    volumes.all.insert(connection.clone());
                    if claim.labels().get(labels::RETAINED).is_none_or(|retained| retained != "true") {
                        volumes.asked.push(connection.clone());
                    }
                }
                match list.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => page = page.continue_token(&token),
                    None => break,
                }
            }
        }
        found.retain(|_, volumes| !volumes.asked.is_empty());
        Ok(found)
    }

    /// Whether the request is new.
    async fn request(
        &self,
        namespace: &str,
        volumes: &Volumes,
        notice: &EbayNotice,
        asked_until: Instant,
    ) -> Result<bool, NoticeError> {
        let secrets = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let Some(key) = digest_key(&secrets).await.context(RequestSnafu { namespace })? else {
            ensure!(self.ends(namespace).await?, DigestKeyLostSnafu { namespace });
            return Ok(false);
        };
        let subject = Erasure { subject: digests(notice, &key) };
        if !self.may_know(namespace, &volumes.asked, &subject, asked_until).await {
            return Ok(false);
        }
        let request = request(notice, subject.subject, &volumes.all);
        let api = Api::<ErasureRequest>::namespaced(self.client.clone(), namespace);
        match api.create(&PostParams::default(), &request).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(refusal)) if refusal.is_already_exists() || is_ending(&refusal) => Ok(false),
            Err(source) => Err(NoticeError::Request { namespace: namespace.to_owned(), source }),
        }
    }

    /// Whether the namespace is gone or going, and its volumes and keys with it.
    async fn ends(&self, namespace: &str) -> Result<bool, NoticeError> {
        let found = Api::<Namespace>::all(self.client.clone()).get_opt(namespace).await;
        let found = found.context(RequestSnafu { namespace })?;
        Ok(found.is_none_or(|found| found.metadata.deletion_timestamp.is_some()))
    }
}

impl Notices {
    /// Whether a relay knows the buyer, or doesn't say.
    async fn may_know(
        &self,
        namespace: &str,
        connections: &[String],
        subject: &Erasure,
        until: Instant,
    ) -> bool {
        for name in connections {
            match timeout_at(until, self.relays.knows(namespace, name, subject)).await {
                Ok(Ok(answer)) if answer.orders == 0 => {}
                _ => return true,
            }
        }
        false
    }
}

/// Under the namespace's key, as its relays digest eBay's buyers.
fn digests(notice: &EbayNotice, key: &DigestKey) -> Vec<SubjectDigest> {
    let marketplace = MarketplaceKind::Ebay.to_string();
    let digest = |buyer: &String| SubjectDigest::Buyer(*key.buyer(&marketplace, buyer).as_bytes());
    notice.buyers.iter().map(digest).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The namespace is gone or going, and its keys with it.
fn is_ending(refusal: &kube::core::Status) -> bool {
    let causes = refusal.details.iter().flat_map(|details| &details.causes);
    let ending = |reason: &str| reason == "NamespaceTerminating";
    refusal.is_not_found() || causes.into_iter().any(|cause| ending(&cause.reason))
}

/// Named after the notice's id and not after the person, so that a repetition makes nothing new. Of eBay's connections alone: it
/// needn't wait for others, which can't know the buyer.
fn request(
    notice: &EbayNotice,
    digests: Vec<SubjectDigest>,
    connections: &BTreeSet<String>,
) -> ErasureRequest {
    let names_all = connections.len() <= MOST_CONNECTIONS;
    let name = format!("{}-{}", labels::EBAY_NOTICE, &hash(notice.notification_id.as_bytes())[..32]);
    let ours = [(labels::SOURCE, labels::EBAY_NOTICE), (labels::MANAGED_BY, labels::OPERATOR)];
    ErasureRequest {
        metadata: ObjectMeta {
            name: Some(name),
            labels: Some(ours.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        spec: ErasureRequestSpec {
            subject: Subject { digests: Some(digests), secret_ref: None },
            connections: if names_all { connections.iter().cloned().collect() } else { Vec::new() },
            ttl_after_completion: TTL.parse().expect("a constant duration"),
        },
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use marketrelay_keyring::SecretKey;

    use super::*;

    fn notice(id: &str, buyers: &[&str]) -> EbayNotice {
        let buyers = buyers.iter().map(|buyer| (*buyer).to_owned()).collect();
        EbayNotice { notification_id: id.to_owned(), buyers }
    }

    #[test]
    fn a_request_names_nobody_and_is_the_same_for_each_repetition() {
        let key = DigestKey::new(&SecretKey::from([1; 32]));
        let connections = ["ebay".to_owned()].into();
        let of = |notice: &EbayNotice| request(notice, digests(notice, &key), &connections);
        let made = of(&notice("49feeaeb", &["Zoe_N", "ma8vp1jySJC"]));
        let again = of(&notice("49feeaeb", &["ma8vp1jySJC", "Zoe_N"]));
        assert_eq!(made, again);
        let other = of(&notice("49feeaec", &["Zoe_N"]));
        assert_ne!(made.name_any(), other.name_any());
        let text = serde_json::to_string(&made).expect("JSON");
        for part in ["zoe", "Zoe", "ma8vp1", "49feeaeb"] {
            assert!(!text.contains(part), "{text}");
        }
        let digests = made.spec.subject.digests.expect("digests");
        for buyer in ["zoe_n", "ma8vp1jySJC"] {
            let digest = SubjectDigest::Buyer(*key.buyer("ebay", buyer).as_bytes());
            assert!(digests.contains(&digest), "as the relays digest {buyer}");
        }
    }
}
