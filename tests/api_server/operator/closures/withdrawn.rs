//! What is escrowed of a connection's keys goes from every store that it has left, and from all once it is deleted.

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod, networking::v1::NetworkPolicy};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use marketrelay_api::{
    ConnectionRecord, ConnectionRecordStatus, MarketplaceConnection,
    backup::{Goes, PurgeConfig},
    record::{RecordPhase, RecordStore, Unused},
};
use serde_json::{Value, json};

use super::{
    Operator, confirm_record,
    expired::serve,
    phase, proof, reaches, record, says,
    stores::{backed_up, copies, ends, entry, purged, report},
};
use crate::{
    operator::{
        backups::{BOTH, CONFIG, connect, finish, furnish_stores, leave, now, released},
        change, connection, delete,
    },
    support::{Space, wait_for, with_namespace},
};

/// Waits for an attempt, and what it was told.
async fn begun(space: &Space, id: &str, attempt: usize) -> (Job, PurgeConfig) {
    let name = format!("{id}-withdraw-{attempt}");
    let job = wait_for(space, &name, async || {
        serve(space, id).await;
        space.api::<Job>().get_opt(&name).await.expect("an answer")
    })
    .await;
    let copies = copies(space, id).await.expect("copies");
    let config: PurgeConfig =
        serde_yaml::from_str(&entry(&copies, "withdraw.yaml")).expect("a configuration");
    assert_eq!(config.goes, Goes::Escrow, "backups stay");
    (job, config)
}

fn buckets(config: &PurgeConfig) -> Vec<&str> {
    config.stores.iter().map(|store| store.store.bucket.as_str()).collect()
}

async fn status(space: &Space, id: &str) -> ConnectionRecordStatus {
    record(space, id).await.status.unwrap_or_default()
}

/// Waits until this is so of a store; Jobs that prune it find nothing.
async fn store(space: &Space, id: &str, bucket: &str, is_so: fn(&RecordStore) -> bool) -> RecordStore {
    wait_for(space, bucket, async || {
        serve(space, id).await;
        let stores = status(space, id).await.stores;
        stores.into_iter().find(|store| store.bucket == bucket && is_so(store))
    })
    .await
}

async fn move_to(space: &Space, bucket: &str) {
    let moved = format!("{{spec: {{backup: {{offSite: {{s3: {{bucket: {bucket}}}}}}}}}}}");
    change::<MarketplaceConnection>(space, "bol", &moved).await;
}

/// As if the last failure had been long ago.
async fn time_passes(space: &Space, id: &str) {
    let mut stores = status(space, id).await.stores;
    for failure in stores.iter_mut().filter_map(|store| store.escrow_failure.as_mut()) {
        failure.at.0 = "2020-01-01T00:00:00Z".parse().expect("a time");
    }
    let patch = Patch::Merge(json!({"status": {"stores": stores}}));
    space
        .api::<ConnectionRecord>()
        .patch_status(id, &PatchParams::default(), &patch)
        .await
        .expect("a status");
}

#[tokio::test]
async fn a_store_that_was_left_is_rid_of_escrowed_keys_and_only_of_them_until_it_is_used_again() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        let id = backed_up(&space).await;
        assert!(status(&space, &id).await.stores.iter().all(|store| store.left_at.is_none()));
        move_to(&space, "elsewhere").await;
        let (job, config) = begun(&space, &id, 0).await;
        assert_eq!(buckets(&config), ["far"]);
        let policy = format!("{id}-withdraw");
        space.api::<NetworkPolicy>().get(&policy).await.expect("a policy");
        ends(&space, &job, &report(&config, "far")).await;
        store(&space, &id, "far", |store| store.escrow_failure.is_some()).await;
        says(&space, &space, &id, "what may be escrowed of its keys is not all deleted").await;
        time_passes(&space, &id).await;
        let (job, config) = begun(&space, &id, 1).await;
        ends(&space, &job, &report(&config, "")).await;
        let far = store(&space, &id, "far", |store| store.escrow_withdrawn_at.is_some()).await;
        assert!(far.escrow_failure.is_none() && far.left_at.is_some());
        wait_for(&space, "nothing to say of keys", async || {
            let message = status(&space, &id).await.message.unwrap_or_default();
            (!message.contains("escrowed")).then_some(())
        })
        .await;
        assert!(space.api::<NetworkPolicy>().get_opt(&policy).await.expect("an answer").is_none());
        assert_eq!(phase(&record(&space, &id).await), RecordPhase::Active);

        move_to(&space, "far").await;
        let far = store(&space, &id, "far", |store| store.left_at.is_none()).await;
        assert!(far.escrow_withdrawn_at.is_none(), "keys are escrowed there again");
        let (job, config) = begun(&space, &id, 2).await;
        assert_eq!(buckets(&config), ["elsewhere"]);
        move_to(&space, "elsewhere").await;
        wait_for(&space, "why it waits", async || {
            let conditions = connection(&space, "bol").await.status?.conditions;
            conditions.iter().any(|one| one.message.contains("a Job is removing")).then_some(())
        })
        .await;
        let stores = status(&space, &id).await.stores;
        let waits = stores.iter().find(|store| store.bucket == "elsewhere").expect("known");
        assert!(waits.left_at.is_some(), "its Job could delete keys that are escrowed anew");
        ends(&space, &job, &report(&config, "")).await;
        store(&space, &id, "elsewhere", |store| store.left_at.is_none()).await;
    })
    .await;
}

#[tokio::test]
async fn a_retained_connections_escrowed_keys_go_from_its_store_and_its_record_says_so_until_then() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        let id = backed_up(&space).await;
        delete::<MarketplaceConnection>(&space, "bol").await;
        reaches(&space, &space, &id, RecordPhase::Retained).await;
        let (job, config) = begun(&space, &id, 0).await;
        assert_eq!(buckets(&config), ["far"]);
        says(&space, &space, &id, "what may be escrowed of its keys is being deleted").await;
        ends(&space, &job, &report(&config, "")).await;
        store(&space, &id, "far", |store| store.escrow_withdrawn_at.is_some()).await;
        wait_for(&space, "the message", async || {
            let message = status(&space, &id).await.message?;
            (!message.contains("escrowed")).then_some(())
        })
        .await;
        let retained = status(&space, &id).await;
        assert!(retained.phase == RecordPhase::Retained && retained.closure.is_none());
        assert!(retained.stores.iter().all(|store| store.left_at.is_some()));
        assert!(copies(&space, &id).await.is_some(), "the closure will need them");
        connect(&space, "bol", BOTH).await;
        let far = store(&space, &id, "far", |store| store.left_at.is_none()).await;
        assert!(far.escrow_withdrawn_at.is_none());
        reaches(&space, &space, &id, RecordPhase::Active).await;
    })
    .await;
}

fn nowhere() -> Value {
    json!({"reason": "BucketNotFound", "message": "there is no such bucket"})
}

/// What a Job reports that finds no bucket anywhere.
fn none(config: &PurgeConfig) -> Value {
    let of = |store: &marketrelay_api::backup::PurgeStore| json!({"id": store.id, "deleted": 0, "failure": nowhere()});
    json!({"stores": config.stores.iter().map(of).collect::<Vec<_>>()})
}

/// The Jobs of the record that are about stores that were left.
async fn of_left(space: &Space, id: &str) -> Vec<String> {
    let jobs = space.api::<Job>().list(&ListParams::default()).await.expect("Jobs");
    let names = jobs.iter().map(ResourceExt::name_any);
    names
        .filter(|name| ["expire", "withdraw"].iter().any(|what| name.starts_with(&format!("{id}-{what}-"))))
        .collect()
}

fn jobs_of(store: &RecordStore) -> Option<&[String]> {
    store.unused.as_ref().map(|Unused { jobs, .. }| jobs.as_slice())
}

#[tokio::test]
async fn a_bucket_that_was_named_by_mistake_and_never_was_holds_nothing_up() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        let id = backed_up(&space).await;
        now(&space, "bol-off-site", "now-1");
        let job = released(&space, "now-1").await;
        let is_noted = |store: &RecordStore| jobs_of(store).is_some_and(|jobs| jobs.len() == 1);
        let far = store(&space, &id, "far", is_noted).await;
        assert_eq!(jobs_of(&far).map(<[String]>::to_vec), Some(vec![job.uid().expect("a uid")]));
        leave(&space, &job, &json!({"store": far.s3("").identity(), "failure": nowhere()})).await;
        finish(&space, "now-1", Some("BackoffLimitExceeded")).await;
        store(&space, &id, "far", |store| jobs_of(store).is_some_and(<[String]>::is_empty)).await;
        move_to(&space, "elsewhere").await;
        let (job, config) = begun(&space, &id, 0).await;
        assert_eq!(buckets(&config), ["far"]);
        ends(&space, &job, &none(&config)).await;
        let far = store(&space, &id, "far", |store| store.never_used_at.is_some()).await;
        assert!(far.escrow_failure.is_none() && far.prune_failure.is_none() && far.abandoned_at.is_none());
        wait_for(&space, "nothing to say", async || {
            status(&space, &id).await.message.is_none().then_some(())
        })
        .await;
        let before = of_left(&space, &id).await;

        // It goes with its Job, where there are controllers.
        delete::<Pod>(&space, "now-1-pod").await;
        confirm_record(&space, &id).await;
        purged(&space, &id).await;
        let closed = reaches(&space, &space, &id, RecordPhase::Closed).await;
        assert_eq!(of_left(&space, &id).await, before, "nothing is tried there any more");
        let stores = &proof(&closed).expect("a proof").stores;
        let ends: Vec<_> =
            stores.iter().map(|store| (store.purged_at.is_some(), store.never_used_at.is_some())).collect();
        assert_eq!(ends, [(true, false), (false, true), (true, false)], "{stores:?}");
        let message = closed.status.and_then(|status| status.message).unwrap_or_default();
        assert!(message.ends_with("is left"), "{message}");
    })
    .await;
}

#[tokio::test]
async fn a_bucket_that_may_have_been_used_is_given_up_by_its_id_alone() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        let id = backed_up(&space).await;
        now(&space, "bol-off-site", "now-1");
        released(&space, "now-1").await;
        store(&space, &id, "far", |store| jobs_of(store).is_some_and(|jobs| jobs.len() == 1)).await;
        let params = DeleteParams::background();
        space.api::<Job>().delete("now-1", &params).await.expect("it goes without a word");
        store(&space, &id, "far", |store| store.unused.is_none()).await;
        move_to(&space, "elsewhere").await;
        let (job, config) = begun(&space, &id, 0).await;
        ends(&space, &job, &none(&config)).await;
        let far = store(&space, &id, "far", |store| store.escrow_failure.is_some()).await;
        assert!(!far.is_settled());
        says(&space, &space, &id, "BucketNotFound").await;
        change::<ConnectionRecord>(&space, &id, &format!("{{spec: {{abandonStores: [{}]}}}}", far.id)).await;
        let far = store(&space, &id, "far", |store| store.abandoned_at.is_some()).await;
        assert!(far.never_used_at.is_none());
        wait_for(&space, "nothing to say", async || {
            status(&space, &id).await.message.is_none().then_some(())
        })
        .await;
        let before = of_left(&space, &id).await;
        time_passes(&space, &id).await;
        confirm_record(&space, &id).await;
        purged(&space, &id).await;
        let closed = reaches(&space, &space, &id, RecordPhase::Closed).await;
        assert_eq!(of_left(&space, &id).await, before, "nothing is tried there any more");
        let stores = &proof(&closed).expect("a proof").stores;
        let given_up: Vec<_> = stores.iter().map(|store| store.abandoned_at.is_some()).collect();
        assert_eq!(given_up, [false, true, false], "{stores:?}");
        assert_eq!(stores[1].abandoned_at, far.abandoned_at, "as it was noted");
        let message = closed.status.and_then(|status| status.message).unwrap_or_default();
        assert!(message.contains("/far/") && !message.contains("/elsewhere/"), "{message}");
    })
    .await;
}
