//! The backups of a closed account are deleted from every store that it has used, and the proof has the listings.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::{Pod, Secret},
    networking::v1::NetworkPolicy,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use marketrelay_api::{
    ConnectionRecord, MarketplaceConnection,
    backup::PurgeConfig,
    labels,
    record::{PurgedStore, RecordPhase},
};
use serde_json::{Value, json};

use super::{
    Operator, confirm, killed::Life, namespaces::condemn, phase, proof, reaches, record, says, tidy,
};
use crate::{
    operator::{
        audit,
        backups::{BOTH, CONFIG, CRON_JOBS, connect, cron_jobs, finish, furnish_stores, leave},
        change, delete, grant, identity, reason, rights,
    },
    support::{PLANE, Space, configuration, text, wait_for, with_namespace},
};

/// More than a closure takes.
const MOST: usize = 60;

/// A connection with backups at both sites; its id.
pub(super) async fn backed_up(space: &Space) -> String {
    connect(space, "bol", BOTH).await;
    cron_jobs(space, "bol", &CRON_JOBS).await;
    reason(space, "bol", "RelayStarting").await;
    identity(space, "bol").await
}

/// An operator that lives elsewhere.
async fn operator(home: &Space, space: &Space) -> Operator {
    grant(home, space, &rights()).await;
    Operator::replica(configuration(&PLANE).await, home, space, CONFIG, "operator-0").await
}

pub(super) async fn copies(home: &Space, id: &str) -> Option<Secret> {
    home.api::<Secret>().get_opt(&format!("{id}-stores")).await.expect("an answer")
}

pub(super) fn entry(copies: &Secret, name: &str) -> String {
    let bytes = copies.data.as_ref().and_then(|data| data.get(name));
    String::from_utf8(bytes.unwrap_or_else(|| panic!("no {name}")).0.clone()).expect("text")
}

fn stores(record: &ConnectionRecord) -> Vec<PurgedStore> {
    proof(record).map(|proof| proof.stores.clone()).unwrap_or_default()
}

async fn jobs(home: &Space, id: &str) -> Vec<Job> {
    let selector = format!("{}={},{}={id}", labels::COMPONENT, labels::PURGE, labels::CONNECTION_ID);
    let jobs: Vec<Job> = home.api().list(&ListParams::default().labels(&selector)).await.expect("Jobs").items;
    jobs.into_iter().filter(|job| job.name_any().starts_with(&format!("{id}-purge-"))).collect()
}

/// Waits for an attempt, and what it was told.
async fn begun(home: &Space, id: &str, attempt: usize) -> (Job, PurgeConfig) {
    let name = format!("{id}-purge-{attempt}");
    let job =
        wait_for(home, &name, async || home.api::<Job>().get_opt(&name).await.expect("an answer")).await;
    let copies = copies(home, id).await.expect("copies");
    (job, serde_yaml::from_str(&entry(&copies, "job.yaml")).expect("a configuration"))
}

/// What a Job reports of the stores that it was told of; of those with `bucket`, that they could not be purged.
pub(super) fn report(config: &PurgeConfig, bucket: &str) -> Value {
    let at = jiff::Timestamp::now();
    let of = |store: &marketrelay_api::backup::PurgeStore| {
        if store.store.bucket == bucket {
            let failure = json!({"reason": "StoreRefused", "message": "the credentials are wrong"});
            return json!({"id": store.id, "deleted": 0, "failure": failure});
        }
        json!({"id": store.id, "deleted": 3, "listing": {"at": at, "found": 0, "foreign": 1}})
    };
    json!({"stores": config.stores.iter().map(of).collect::<Vec<_>>()})
}

pub(super) async fn ends(home: &Space, job: &Job, report: &Value) {
    leave(home, job, report).await;
    let failed = report.to_string().contains("failure").then_some("BackoffLimitExceeded");
    finish(home, &job.name_any(), failed).await;
}

/// The first attempt finds everything as it should be.
pub async fn purged(home: &Space, id: &str) {
    let (job, config) = begun(home, id, 0).await;
    ends(home, &job, &report(&config, "")).await;
}

/// As if the last failure had been long ago.
async fn time_passes(home: &Space, id: &str) {
    let mut status = record(home, id).await.status.expect("a status");
    let proof = status.closure.as_mut().expect("a closure");
    for failure in proof.stores.iter_mut().filter_map(|store| store.last_failure.as_mut()) {
        failure.at.0 = "2020-01-01T00:00:00Z".parse().expect("a time");
    }
    let patch = Patch::Merge(json!({"status": {"closure": {"stores": proof.stores}}}));
    home.api::<ConnectionRecord>().patch_status(id, &PatchParams::default(), &patch).await.expect("a status");
}

#[tokio::test]
async fn a_closure_purges_both_stores_with_copies_of_the_credentials_and_the_proof_has_the_listings() {
    with_namespace(|space| async move {
        let home = Space::make(space.client.clone()).await;
        furnish_stores(&space).await;
        let _operator = operator(&home, &space).await;
        let id = backed_up(&space).await;
        let known = record(&home, &id).await.status.expect("a status").stores;
        assert_eq!(known.iter().map(|store| store.bucket.as_str()).collect::<Vec<_>>(), ["backups", "far"]);
        assert!(known.iter().all(|store| store.prefix.ends_with(&id)), "{known:?}");
        change::<Secret>(&space, "offsite-s3", "{stringData: {secretAccessKey: rotated}}").await;
        wait_for(&home, "the copy follows", async || {
            let copies = copies(&home, &id).await.expect("copies");
            (entry(&copies, &format!("{}.secretAccessKey", known[1].id)) == "rotated").then_some(())
        })
        .await;
        let (before, looks) = (audit::writes(&home).len(), audit::looks(&home));
        wait_for(&space, "looks", async || (audit::looks(&home) >= looks + 3).then_some(())).await;
        assert_eq!(audit::writes(&home).split_off(before), Vec::<String>::new());

        confirm(&space, "bol").await;
        let (job, config) = begun(&home, &id, 0).await;
        assert_eq!((config.connection_id.as_str(), config.stores.len()), (id.as_str(), 2));
        let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.clone()).expect("a pod");
        assert_eq!(pod.service_account_name.as_deref(), Some("marketrelay-purge"));
        assert_eq!(pod.automount_service_account_token, Some(false));
        assert_eq!(pod.containers[0].args.as_deref(), Some(&["purge".to_owned()][..]));
        assert!(!job.labels().contains_key(labels::CONNECTION), "it would be taken for the connection's");
        let policy = home.api::<NetworkPolicy>().get(&format!("{id}-purge")).await.expect("a policy");
        let policy = policy.spec.expect("a spec");
        assert_eq!((policy.ingress, policy.egress.map(|rules| rules.len())), (None, Some(2)));

        ends(&home, &job, &report(&config, "far")).await;
        says(&home, &space, &id, "StoreRefused: the credentials are wrong").await;
        let half = record(&home, &id).await;
        let done: Vec<_> = stores(&half).iter().map(PurgedStore::is_done).collect();
        assert_eq!((phase(&half), done), (RecordPhase::Closing, vec![true, false]));
        assert_eq!(jobs(&home, &id).await.len(), 1, "it isn't tried again at once");
        wait_for(&space, "nothing else is left", async || {
            tidy(&space).await;
            let message = record(&home, &id).await.status?.message?;
            (!message.contains("still there")).then_some(())
        })
        .await;
        time_passes(&home, &id).await;
        let (job, config) = begun(&home, &id, 1).await;
        assert_eq!(config.stores.iter().map(|store| &store.id).collect::<Vec<_>>(), [&known[1].id]);
        assert!(copies(&home, &id).await.is_some(), "the credentials stay as long as they are needed");
        ends(&home, &job, &report(&config, "")).await;
        let closed = reaches(&home, &space, &id, RecordPhase::Closed).await;
        for store in stores(&closed) {
            let listing = store.listing.expect("a listing");
            assert_eq!((store.deleted, listing.found, listing.foreign), (3, 0, 1));
            assert!(store.purged_at.is_some() && store.last_failure.is_none());
        }
        assert!(copies(&home, &id).await.is_none(), "the credentials went");
        assert!(home.api::<NetworkPolicy>().get_opt(&format!("{id}-purge")).await.expect("none").is_none());
        home.remove().await;
    })
    .await;
}

#[tokio::test]
async fn nothing_is_purged_while_a_pod_could_write_another_backup() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        let id = backed_up(&space).await;
        super::run_pod(&space, "bol").await;
        confirm(&space, "bol").await;
        let waits = "still there: PersistentVolumeClaim bol-data, Pod bol-relay-0; its backups are deleted once nothing can write";
        says(&space, &space, &id, waits).await;
        assert!(jobs(&space, &id).await.is_empty());
        delete::<Pod>(&space, "bol-relay-0").await;
        purged(&space, &id).await;
        reaches(&space, &space, &id, RecordPhase::Closed).await;
    })
    .await;
}

#[tokio::test]
async fn a_purge_whose_operator_dies_after_every_step_ends_as_if_none_had() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        let id = backed_up(&space).await;
        operator.stop().await;
        confirm(&space, "bol").await;
        let mut deaths = 0;
        while phase(&record(&space, &id).await) != RecordPhase::Closed {
            assert!(deaths < MOST, "no end after {deaths} operators");
            let life = Life::of(1, deaths % 2 == 0);
            let operator = Operator::start_through(&space, CONFIG, |client| life.given_to(&client)).await;
            wait_for(&space, "the operator dies, or has nothing left to do", async || {
                tidy(&space).await;
                serve(&space, &id).await;
                let over = life.is_over.load(Ordering::SeqCst);
                (over || phase(&record(&space, &id).await) == RecordPhase::Closed).then_some(())
            })
            .await;
            operator.stop().await;
            deaths += 1;
            let record = record(&space, &id).await;
            let is_open = stores(&record).iter().any(|store| !store.is_done());
            assert!(!is_open || copies(&space, &id).await.is_some(), "the credentials went too soon");
        }
        assert!(deaths > 15, "only {deaths} operators died: nothing was interrupted");
        let names: BTreeSet<_> = jobs(&space, &id).await.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, [format!("{id}-purge-0")].into(), "one attempt was enough");
        assert!(copies(&space, &id).await.is_none());
        assert!(stores(&record(&space, &id).await).iter().all(|store| store.purged_at.is_some()));
    })
    .await;
}

/// As the Job's pod does, once.
async fn serve(space: &Space, id: &str) {
    for job in jobs(space, id).await {
        let is_new = job.status.as_ref().is_none_or(|status| status.start_time.is_none());
        if is_new && let Some(copies) = copies(space, id).await {
            let config = serde_yaml::from_str(&entry(&copies, "job.yaml")).expect("a configuration");
            ends(space, &job, &report(&config, "")).await;
        }
    }
}

#[tokio::test]
async fn the_stores_of_a_namespace_that_is_gone_are_purged() {
    with_namespace(|space| async move {
        let home = Space::make(space.client.clone()).await;
        furnish_stores(&space).await;
        let operator = operator(&home, &space).await;
        let id = backed_up(&space).await;
        operator.stop().await;
        condemn(&space).await;
        space.api::<MarketplaceConnection>().delete("bol", &DeleteParams::default()).await.expect("deleted");
        let kinds = "statefulsets,cronjobs,secrets,configmaps,services,serviceaccounts,networkpolicies,pvc";
        let gone = space.kubectl(&["delete", kinds, "--all", "--wait=false"]);
        assert!(gone.status.success(), "{}", text(&gone));
        let _operator = self::operator(&home, &space).await;
        purged(&home, &id).await;
        let closed = reaches(&home, &space, &id, RecordPhase::Closed).await;
        assert!(stores(&closed).iter().all(|store| store.purged_at.is_some()), "{closed:?}");
        assert!(space.api::<CronJob>().list(&ListParams::default()).await.expect("none").items.is_empty());
        home.remove().await;
    })
    .await;
}

#[tokio::test]
async fn a_store_that_was_left_is_purged_too_missing_credentials_are_named_and_stores_can_be_given_up() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        let id = backed_up(&space).await;
        let moved = "{spec: {backup: {offSite: {s3: {bucket: elsewhere}}}}}";
        change::<MarketplaceConnection>(&space, "bol", moved).await;
        let known = wait_for(&space, "three stores", async || {
            let stores = record(&space, &id).await.status?.stores;
            (stores.len() == 3).then_some(stores)
        })
        .await;
        let copied = wait_for(&space, "three copies", async || {
            let copies = copies(&space, &id).await?;
            let data = copies.data.as_ref().expect("entries");
            let ids = data.keys().filter(|name| name.ends_with(".accessKeyId"));
            (ids.count() == 3).then_some(copies)
        })
        .await;
        assert_eq!(entry(&copied, &format!("{}.accessKeyId", known[1].id)), "a", "the one that was left");
        delete::<MarketplaceConnection>(&space, "bol").await;
        reaches(&space, &space, &id, RecordPhase::Retained).await;
        delete::<Secret>(&space, &format!("{id}-stores")).await;
        super::confirm_record(&space, &id).await;
        says(&space, &space, &id, "CredentialsMissing").await;
        says(&space, &space, &id, &format!("lacks {}.accessKeyId", known[1].id)).await;
        assert!(jobs(&space, &id).await.is_empty());

        let literal = |entry: &str| format!("--from-literal={}.{entry}=x", known[1].id);
        let (access, secret, name) =
            (literal("accessKeyId"), literal("secretAccessKey"), format!("{id}-stores"));
        let made = space.kubectl(&["create", "secret", "generic", &name, &access, &secret]);
        assert!(made.status.success(), "{}", text(&made));
        let (job, config) = begun(&space, &id, 0).await;
        assert_eq!(
            config.stores.iter().map(|store| store.store.bucket.as_str()).collect::<Vec<_>>(),
            ["far"]
        );
        ends(&space, &job, &report(&config, "")).await;
        wait_for(&space, "one is purged", async || {
            let stores = stores(&record(&space, &id).await);
            stores.iter().any(|store| store.purged_at.is_some()).then_some(())
        })
        .await;
        assert_eq!(phase(&record(&space, &id).await), RecordPhase::Closing);
        let abandon = format!("{{spec: {{closure: {{confirm: {id}, abandonStores: true}}}}}}");
        change::<ConnectionRecord>(&space, &id, &abandon).await;
        let closed = reaches(&space, &space, &id, RecordPhase::Closed).await;
        let ends: Vec<_> =
            stores(&closed).iter().map(|one| (one.purged_at.is_some(), one.abandoned_at.is_some())).collect();
        assert_eq!(ends, [(false, true), (true, false), (false, true)]);
        let message = closed.status.and_then(|status| status.message).unwrap_or_default();
        let escrowed = "given up, and what was escrowed of the keys there: ";
        assert!(message.contains(escrowed) && message.contains("/elsewhere/"), "{message}");
    })
    .await;
}

#[tokio::test]
async fn a_record_gives_stores_up_only_with_its_own_name() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        let id = backed_up(&space).await;
        let patch = Patch::Merge(json!({"spec": {"closure": {"abandonStores": true}}}));
        let records = space.api::<ConnectionRecord>();
        let refused = records.patch(&id, &PatchParams::default(), &patch).await;
        assert!(refused.expect_err("refused").to_string().contains("spec.closure.confirm"));
    })
    .await;
}
