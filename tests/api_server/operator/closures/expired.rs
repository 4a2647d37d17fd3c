//! Backups expire in the stores that a connection has left, and in all once it is deleted, until their listings are empty.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{batch::v1::Job, core::v1::Secret, events::v1::Event, networking::v1::NetworkPolicy};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use marketrelay_api::{
    ConnectionRecord, ConnectionRecordStatus, MarketplaceConnection, RetentionPolicy,
    backup::{Expiry, Goes, PurgeConfig},
    record::{RecordPhase, RecordStore},
};
use serde_json::{Value, json};

use super::{
    Operator, confirm_record, connected, proof, reaches, record, says,
    stores::{backed_up, copies, ends, entry, purged},
};
use crate::{
    operator::{
        audit,
        backups::{BOTH, CONFIG, connect, furnish_stores},
        change, connection, delete,
        holds::{policy, refer},
    },
    support::{Space, wait_for, with_namespace},
};

/// Waits for an attempt, and what it was told.
async fn begun(space: &Space, id: &str, attempt: usize) -> (Job, PurgeConfig, Expiry) {
    let name = format!("{id}-expire-{attempt}");
    let job =
        wait_for(space, &name, async || space.api::<Job>().get_opt(&name).await.expect("an answer")).await;
    let copies = copies(space, id).await.expect("copies");
    let config: PurgeConfig = serde_yaml::from_str(&entry(&copies, "expire.yaml")).expect("a configuration");
    let Goes::Expired(expiry) = config.goes.clone() else { panic!("more than that goes: {config:?}") };
    (job, config, expiry)
}

fn buckets(config: &PurgeConfig) -> Vec<&str> {
    config.stores.iter().map(|store| store.store.bucket.as_str()).collect()
}

/// What a Job reports: of the store with `refused`, that it could not be pruned; of the others, that so many objects are left.
fn report(config: &PurgeConfig, left: u64, refused: &str) -> Value {
    let now = Timestamp::now();
    let of = |store: &marketrelay_api::backup::PurgeStore| {
        if store.store.bucket == refused {
            let failure = json!({"reason": "StoreRefused", "message": "the credentials are wrong"});
            return json!({"id": store.id, "deleted": 0, "failure": failure});
        }
        let taken = (left > 0).then(|| now - SignedDuration::from_hours(48));
        let expires = (left > 0).then(|| now + SignedDuration::from_hours(600));
        let backups = json!({"count": left / 2, "archives": 0, "newest": taken, "oldest": taken, "expires": expires, "overdue": 0});
        json!({"id": store.id, "deleted": 1, "listing": {"at": now, "found": left, "foreign": 0, "backups": backups}})
    };
    json!({"stores": config.stores.iter().map(of).collect::<Vec<_>>()})
}

/// As the Jobs' pods do that find nothing.
pub(super) async fn serve(space: &Space, id: &str) {
    for job in space.api::<Job>().list(&ListParams::default()).await.expect("Jobs") {
        let is_new = job.status.as_ref().is_none_or(|status| status.start_time.is_none());
        if is_new && job.name_any().starts_with(&format!("{id}-expire-")) {
            let copies = copies(space, id).await.expect("copies");
            let config = serde_yaml::from_str(&entry(&copies, "expire.yaml")).expect("a configuration");
            ends(space, &job, &report(&config, 0, "")).await;
        }
    }
}

async fn status(space: &Space, id: &str) -> ConnectionRecordStatus {
    record(space, id).await.status.unwrap_or_default()
}

/// Waits until this is so of a store.
async fn store(space: &Space, id: &str, bucket: &str, is_so: fn(&RecordStore) -> bool) -> RecordStore {
    wait_for(space, bucket, async || {
        let stores = status(space, id).await.stores;
        stores.into_iter().find(|store| store.bucket == bucket && is_so(store))
    })
    .await
}

/// As if everything had been long ago.
async fn time_passes(space: &Space, id: &str) {
    let long_ago: Timestamp = "2020-01-01T00:00:00Z".parse().expect("a time");
    let mut stores = status(space, id).await.stores;
    for store in &mut stores {
        let next = store.backups.as_mut().and_then(|backups| backups.next_at.as_mut());
        let failure = store.prune_failure.as_mut().map(|failure| &mut failure.at);
        next.into_iter().chain(failure).chain(store.left_at.as_mut()).for_each(|at| at.0 = long_ago);
    }
    let patch = Patch::Merge(json!({"status": {"stores": stores}}));
    let records = space.api::<ConnectionRecord>();
    records.patch_status(id, &PatchParams::default(), &patch).await.expect("a status");
}

async fn attempts(space: &Space, id: &str) -> usize {
    let jobs = space.api::<Job>().list(&ListParams::default()).await.expect("Jobs");
    jobs.iter().filter(|job| job.name_any().starts_with(&format!("{id}-expire-"))).count()
}

/// The operator has looked at everything a few times.
async fn looks(space: &Space) {
    let looks = audit::looks(space) + 3;
    wait_for(space, "looks", async || (audit::looks(space) >= looks).then_some(())).await;
}

#[tokio::test]
async fn a_retained_connections_stores_are_pruned_daily_until_a_listing_is_empty_and_then_never_again() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        // What is deleted isn't looked at any more.
        connected(&space, "other").await;
        policy(&space, "2100-01-31T00:00:00Z".parse().expect("a time")).await;
        change::<RetentionPolicy>(&space, "standard", "{spec: {backupRetention: 20d}}").await;
        let id = backed_up(&space).await;
        refer(&space, "bol").await;
        wait_for(&space, "the hold's key", async || {
            let keyring = space.api::<Secret>().get("bol-keyring").await.expect("a keyring");
            keyring.data?.keys().any(|name| name.starts_with("hold.")).then_some(())
        })
        .await;
        wait_for(&space, "what is in force", async || status(&space, &id).await.backup_retention).await;
        delete::<MarketplaceConnection>(&space, "bol").await;
        reaches(&space, &space, &id, RecordPhase::Retained).await;
        withdraws(&space, &id, 0).await;
        let (job, config, expiry) = begun(&space, &id, 0).await;
        assert_eq!(buckets(&config), ["backups", "far"]);
        let days = expiry.backup_retention_seconds / 86_400;
        assert!([20, 30].contains(&days), "as it was in force: {expiry:?}");
        assert_eq!(status(&space, &id).await.backup_retention.map(|one| one.as_secs() / 86_400), Some(days));
        let holds = expiry.holds.expect("they are known");
        assert_eq!(holds.iter().map(|hold| hold.name.as_str()).collect::<Vec<_>>(), ["tax"]);
        assert!(expiry.public_key.is_some());
        ends(&space, &job, &report(&config, 4, "far")).await;
        says(&space, &space, &id, "its expired backups are not all deleted").await;
        let near = store(&space, &id, "backups", |store| store.backups.is_some()).await;
        let seen = near.backups.expect("a listing");
        assert_eq!((seen.left, seen.count, seen.pruned, seen.overdue), (4, 2, 1, 0));
        let pause = seen.next_at.expect("the next one").0.duration_since(seen.at.0);
        assert_eq!(pause, SignedDuration::from_hours(24));
        let far = store(&space, &id, "far", |store| store.prune_failure.is_some()).await;
        assert_eq!(
            (far.prune_failure.map(|one| one.reason).as_deref(), far.backups),
            (Some("StoreRefused"), None)
        );
        says(&space, &space, &id, "2 backups and 0 archives, next at").await;
        let events = space.api::<Event>().list(&ListParams::default()).await.expect("events");
        assert!(events.iter().any(|event| event.reason.as_deref() == Some("LeftStoreNotPruned")));
        looks(&space).await;
        assert_eq!(attempts(&space, &id).await, 1, "it isn't tried again at once");

        time_passes(&space, &id).await;
        let (job, config, _) = begun(&space, &id, 1).await;
        assert_eq!(buckets(&config), ["backups", "far"]);
        ends(&space, &job, &report(&config, 0, "")).await;
        for bucket in ["backups", "far"] {
            let store = store(&space, &id, bucket, |store| {
                store.backups.as_ref().is_some_and(|backups| backups.next_at.is_none())
            });
            let store = store.await;
            assert_eq!((store.backups.expect("a listing").left, store.prune_failure), (0, None));
        }
        wait_for(&space, "the message", async || {
            let message = status(&space, &id).await.message?;
            (!message.contains("pruned") && !message.contains("expired")).then_some(())
        })
        .await;
        let policies = space.api::<NetworkPolicy>();
        assert!(policies.get_opt(&format!("{id}-expire")).await.expect("an answer").is_none());
        time_passes(&space, &id).await;
        looks(&space).await;
        assert_eq!(attempts(&space, &id).await, 2, "nothing runs any more");

        confirm_record(&space, &id).await;
        purged(&space, &id).await;
        let closed = reaches(&space, &space, &id, RecordPhase::Closed).await;
        let stores = &proof(&closed).expect("a proof").stores;
        assert!(stores.len() == 2 && stores.iter().all(|store| store.purged_at.is_some()), "{stores:?}");
    })
    .await;
}

async fn move_to(space: &Space, bucket: &str) {
    let moved = format!("{{spec: {{backup: {{offSite: {{s3: {{bucket: {bucket}}}}}}}}}}}");
    change::<MarketplaceConnection>(space, "bol", &moved).await;
}

/// As an attempt that has nothing to withdraw.
async fn withdraws(space: &Space, id: &str, attempt: usize) {
    let name = format!("{id}-withdraw-{attempt}");
    let job = wait_for(space, &name, async || space.api::<Job>().get_opt(&name).await.expect("an answer"));
    let job = job.await;
    let copies = copies(space, id).await.expect("copies");
    let config = serde_yaml::from_str(&entry(&copies, "withdraw.yaml")).expect("a configuration");
    ends(space, &job, &super::stores::report(&config, "")).await;
}

#[tokio::test]
async fn only_a_store_that_was_left_is_pruned_so_and_one_that_is_used_again_waits_for_the_job() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        let id = backed_up(&space).await;
        looks(&space).await;
        assert_eq!(attempts(&space, &id).await, 0, "its own CronJobs do it");
        move_to(&space, "elsewhere").await;
        withdraws(&space, &id, 0).await;
        let (job, config, _) = begun(&space, &id, 0).await;
        assert_eq!(buckets(&config), ["far"]);
        move_to(&space, "far").await;
        wait_for(&space, "why it waits", async || {
            let conditions = connection(&space, "bol").await.status?.conditions;
            conditions.iter().any(|one| one.message.contains("a Job is removing")).then_some(())
        })
        .await;
        store(&space, &id, "far", |store| store.left_at.is_some()).await;
        ends(&space, &job, &report(&config, 2, "")).await;
        let far = store(&space, &id, "far", |store| store.left_at.is_none()).await;
        assert_eq!((far.backups, far.prune_failure), (None, None), "its own CronJobs do it again");
        withdraws(&space, &id, 1).await;
        let (job, config, _) = begun(&space, &id, 1).await;
        assert_eq!(buckets(&config), ["elsewhere"]);
        ends(&space, &job, &report(&config, 0, "")).await;
        store(&space, &id, "elsewhere", |store| store.backups.is_some()).await;

        delete::<MarketplaceConnection>(&space, "bol").await;
        withdraws(&space, &id, 2).await;
        let (job, config, _) = begun(&space, &id, 2).await;
        assert_eq!(buckets(&config), ["backups", "far"]);
        ends(&space, &job, &report(&config, 2, "")).await;
        store(&space, &id, "backups", |store| store.backups.is_some()).await;
        connect(&space, "bol", BOTH).await;
        for bucket in ["backups", "far"] {
            let store = store(&space, &id, bucket, |store| store.left_at.is_none()).await;
            assert_eq!(store.backups, None);
        }
        looks(&space).await;
        assert_eq!(attempts(&space, &id).await, 3, "its own CronJobs do it again");
    })
    .await;
}

#[tokio::test]
async fn missing_credentials_of_a_retained_connection_are_named_and_used_once_they_are_there() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        let id = backed_up(&space).await;
        operator.stop().await;
        delete::<Secret>(&space, &format!("{id}-stores")).await;
        delete::<MarketplaceConnection>(&space, "bol").await;
        let _operator = Operator::start(&space, CONFIG).await;
        reaches(&space, &space, &id, RecordPhase::Retained).await;
        let near = store(&space, &id, "backups", |store| store.prune_failure.is_some()).await;
        assert_eq!(near.prune_failure.map(|failure| failure.reason).as_deref(), Some("CredentialsMissing"));
        assert_eq!(attempts(&space, &id).await, 0);
        let literal = |entry: &str| format!("--from-literal={}.{entry}=x", near.id);
        let (access, secret, name) =
            (literal("accessKeyId"), literal("secretAccessKey"), format!("{id}-stores"));
        let made = space.kubectl(&["create", "secret", "generic", &name, &access, &secret]);
        assert!(made.status.success());
        let (_, config, _) = begun(&space, &id, 0).await;
        assert_eq!(buckets(&config), ["backups"]);
    })
    .await;
}

#[tokio::test]
async fn while_the_keyring_of_its_connection_is_away_no_archive_of_a_hold_goes_from_a_left_store() {
    with_namespace(|space| async move {
        furnish_stores(&space).await;
        let _operator = Operator::start(&space, CONFIG).await;
        let id = backed_up(&space).await;
        move_to(&space, "elsewhere").await;
        store(&space, &id, "far", |store| store.left_at.is_some()).await;
        delete::<Secret>(&space, "bol-keyring").await;
        withdraws(&space, &id, 0).await;
        let (_, config, expiry) = begun(&space, &id, 0).await;
        assert_eq!((buckets(&config), expiry.holds), (vec!["far"], None));
    })
    .await;
}
