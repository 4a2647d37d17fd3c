//! A database that is missing is restored from a backup, and so is one that a person wants back.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret},
    events::v1::Event,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use marketrelay_api::{
    MarketplaceConnection,
    backup::{Choice, RestoreConfig},
    connection::RestoreStatus,
    labels,
};
use marketrelay_audit::Signer;
use marketrelay_escrow::erasures::unpack;
use serde_json::{Value, json};

use super::{
    Operator, apply,
    backups::{
        BOTH, CONFIG, CRON_JOBS, condition, connect, cron_jobs, finish, furnish_stores, is_finished, leave,
        run_ended,
    },
    change, connection, reason,
};
use crate::support::{Space, wait_for, with_namespace};

const CHAIN: &str = "5c1f0000-1111-4222-8333-444455556666";
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn labels_of_relay() -> Value {
    json!({labels::MANAGED_BY: labels::OPERATOR, labels::COMPONENT: labels::RELAY, labels::CONNECTION: "bol",
           labels::INSTANCE: "bol", labels::NAME: labels::APP})
}

/// A connection with a backup, and with the head of an audit log that was seen before.
async fn backed_up(space: &Space) -> Operator {
    furnish_stores(space).await;
    let operator = Operator::start(space, CONFIG).await;
    connect(space, "bol", BOTH).await;
    cron_jobs(space, "bol", &CRON_JOBS).await;
    reason(space, "bol", "RelayStarting").await;
    run_ended(space, "bol-on-site", "now-1").await;
    condition(space, "bol", "BackedUpOnSite", "BackedUp").await;
    let audit = json!({"chain": CHAIN, "sequence": 90, "hash": "ab".repeat(32), "publicKey": KEY,
                       "checkedAt": "2026-11-29T01:00:00Z"});
    let patch = Patch::Merge(json!({"status": {"audit": audit}}));
    let connections = space.api::<MarketplaceConnection>();
    connections.patch_status("bol", &PatchParams::default(), &patch).await.expect("a head");
    operator
}

/// As the kubelet tells of a relay that finds no database.
async fn misses_database(space: &Space) {
    let pod = json!({"metadata": {"name": "bol-relay-0", "labels": labels_of_relay()},
        "spec": {"serviceAccountName": "bol-relay", "automountServiceAccountToken": false,
                 "containers": [{"name": "relay", "image": "registry.example/relay:1"}]}});
    apply::<Pod>(space.api(), pod).await;
    let ended = json!({"terminated": {"exitCode": 66, "reason": "Error"}});
    let status = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "relay", "image": "",
        "imageID": "", "ready": false, "restartCount": 1, "lastState": ended,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}});
    let (pods, patch) = (space.api::<Pod>(), Patch::Merge(status));
    pods.patch_status("bol-relay-0", &PatchParams::default(), &patch).await.expect("a status");
}

async fn replicas(space: &Space, wanted: i32) -> StatefulSet {
    wait_for(space, &format!("{wanted} replicas"), async || {
        let set = space.api::<StatefulSet>().get("bol-relay").await.expect("a StatefulSet");
        (set.spec.as_ref().and_then(|spec| spec.replicas) == Some(wanted)).then_some(set)
    })
    .await
}

/// As the StatefulSets' controller does.
async fn comes_to_rest(space: &Space) {
    let set = replicas(space, 0).await;
    drop(space.api::<Pod>().delete("bol-relay-0", &DeleteParams::default().grace_period(0)).await);
    let seen = json!({"status": {"observedGeneration": set.metadata.generation, "replicas": 0}});
    let sets = space.api::<StatefulSet>();
    sets.patch_status("bol-relay", &PatchParams::default(), &Patch::Merge(seen)).await.expect("a status");
}

async fn restore_jobs(space: &Space) -> Vec<Job> {
    let only = ListParams::default().labels(&format!("{}=restore", labels::TASK));
    space.api::<Job>().list(&only).await.expect("Jobs").items
}

/// Waits for the one Job that hasn't ended, and its configuration.
async fn begun(space: &Space) -> (Job, RestoreConfig) {
    let newest = wait_for(space, "a restore", async || {
        let jobs = restore_jobs(space).await;
        let at_work: Vec<_> = jobs.into_iter().filter(|job| !is_finished(job)).collect();
        assert!(at_work.len() <= 1, "{at_work:?}");
        at_work.into_iter().next()
    })
    .await;
    let config = wait_for(space, "its configuration", async || {
        space.api::<ConfigMap>().get_opt(&newest.name_any()).await.expect("an answer")
    })
    .await;
    assert_eq!(config.owner_references()[0].uid, newest.uid().expect("a uid"), "it goes with its Job");
    let text = config.data.expect("entries").remove("job.yaml").expect("a file");
    (newest, serde_yaml::from_str(&text).expect("a configuration"))
}

async fn told(
    space: &Space,
    what: &str,
    is: impl Fn(&Option<RestoreStatus>) -> bool,
) -> MarketplaceConnection {
    wait_for(space, what, async || {
        let found = connection(space, "bol").await;
        let restore = found.status.as_ref().and_then(|status| status.restore.clone());
        is(&restore).then_some(found)
    })
    .await
}

/// Waits until a Job is deleted; its pods go with it.
async fn gone(space: &Space, job: &Job) {
    wait_for(space, &format!("{} is deleted", job.name_any()), async || {
        space.api::<Job>().get_opt(&job.name_any()).await.expect("an answer").is_none().then_some(())
    })
    .await;
}

async fn fail(space: &Space, job: &Job, reason: &str, message: &str) {
    leave(space, job, &json!({"failure": {"reason": reason, "message": message}})).await;
    finish(space, &job.name_any(), Some("BackoffLimitExceeded")).await;
}

/// Waits for an event of this reason whose note has this part.
async fn told_of(space: &Space, reason: &str, part: &str) {
    wait_for(space, &format!("{reason}: {part}"), async || {
        let events = space.api::<Event>().list(&ListParams::default()).await.expect("events").items;
        let is_it = |event: &Event| {
            let note = event.note.as_deref().unwrap_or_default();
            event.reason.as_deref() == Some(reason) && note.contains(part)
        };
        events.iter().any(is_it).then_some(())
    })
    .await;
}

fn report() -> Value {
    json!({"restored": {"backup": "20261129T003250Z-5f0c1a2b", "site": "onSite", "createdAt": "2026-11-29T00:32:50Z",
        "sequence": 7, "orders": 3, "anonymised": 1, "erased": 0, "held": 0,
        "audit": {"chain": CHAIN, "sequence": 70, "hash": "cd".repeat(32)}, "passedOver": ["off-site: no answer"]}})
}

#[tokio::test]
async fn a_missing_database_is_restored_also_by_an_operator_that_is_killed_between_any_two_steps() {
    with_namespace(|space| async move {
        let mut operator = backed_up(&space).await;
        let known = wait_for(&space, "the relay is told of its database", async || {
            let config = space.api::<ConfigMap>().get("bol-relay").await.expect("a ConfigMap");
            config.data.expect("entries").remove("database.yaml")
        })
        .await;
        assert!(known.contains(CHAIN), "{known}");
        misses_database(&space).await;
        told(&space, "a restore begins", Option::is_some).await;
        drop(operator);
        operator = Operator::start(&space, CONFIG).await;
        reason(&space, "bol", "Restoring").await;
        replicas(&space, 0).await;
        assert!(restore_jobs(&space).await.is_empty(), "the relay is still on the volume");
        drop(operator);
        comes_to_rest(&space).await;
        operator = Operator::start(&space, CONFIG).await;
        let (job, config) = begun(&space).await;
        assert_eq!((config.choice, config.replace, config.sites.len()), (Choice::Newest, false, 2));
        assert_eq!(config.public_key, KEY);
        drop(operator);
        // As if it had ended before it made this one.
        let config_maps = space.api::<ConfigMap>();
        config_maps.delete(&job.name_any(), &DeleteParams::default()).await.expect("deleted");
        operator = Operator::start(&space, CONFIG).await;
        assert_eq!(begun(&space).await.0.uid(), job.uid());
        drop(operator);
        leave(&space, &job, &report()).await;
        finish(&space, &job.name_any(), None).await;
        let _operator = Operator::start(&space, CONFIG).await;
        let found = told(&space, "the end", |restore| {
            restore.as_ref().is_some_and(|restore| restore.finished_at.is_some())
        })
        .await;
        let status = found.status.expect("a status");
        assert_eq!(status.audit.map(|audit| (audit.sequence, audit.public_key)), Some((70, KEY.to_owned())));
        replicas(&space, 1).await;
        gone(&space, &job).await;
        assert!(restore_jobs(&space).await.is_empty(), "it isn't begun again");
        told_of(&space, "Restored", "3 orders").await;
        told_of(&space, "Restored", "off-site: no answer").await;
    })
    .await;
}

#[tokio::test]
async fn a_restore_on_purpose_that_fails_keeps_the_volume_and_can_be_corrected_or_withdrawn() {
    with_namespace(|space| async move {
        let _operator = backed_up(&space).await;
        let id =
            connection(&space, "bol").await.status.and_then(|status| status.connection_id).expect("an id");
        let ask = |backup: &str| format!("spec: {{restore: {{backup: {backup}, confirm: {id}}}}}");
        let wrong = json!({"spec": {"restore": {"backup": "20261129T003250Z-5f0c1a2b", "confirm": "x"}}});
        let connections = space.api::<MarketplaceConnection>();
        let refusal = connections.patch("bol", &PatchParams::default(), &Patch::Merge(wrong)).await;
        assert!(refusal.expect_err("refused").to_string().contains("spec.restore.confirm must be the id"));
        change::<MarketplaceConnection>(&space, "bol", &ask("20261129T003250Z-00000000")).await;
        comes_to_rest(&space).await;
        let (job, config) = begun(&space).await;
        assert_eq!(config.choice, Choice::Backup("20261129T003250Z-00000000".to_owned()));
        assert!(config.replace);
        fail(&space, &job, "BackupDamaged", "it isn't what was signed").await;
        let (message, _) = condition(&space, "bol", "Ready", "RestoreFailed").await;
        assert!(message.contains("BackupDamaged: it isn't what was signed"), "{message}");
        replicas(&space, 0).await;
        change::<MarketplaceConnection>(&space, "bol", &ask("20261129T003250Z-5f0c1a2b")).await;
        gone(&space, &job).await;
        let (job, config) = begun(&space).await;
        assert_eq!(config.choice, Choice::Backup("20261129T003250Z-5f0c1a2b".to_owned()));
        fail(&space, &job, "IdentityMissing", "nobody has what opens it").await;
        condition(&space, "bol", "Ready", "RestoreFailed").await;
        told_of(&space, "RestoreFailed", "it isn't what was signed").await;
        told_of(&space, "RestoreFailed", "nobody has what opens it").await;
        change::<MarketplaceConnection>(&space, "bol", "spec: {restore: null}").await;
        told(&space, "nothing is restored any more", Option::is_none).await;
        replicas(&space, 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_relay_goes_on_with_its_database_when_what_is_asked_for_is_in_no_store() {
    with_namespace(|space| async move {
        let _operator = backed_up(&space).await;
        let id =
            connection(&space, "bol").await.status.and_then(|status| status.connection_id).expect("an id");
        let typo = format!("spec: {{restore: {{before: '2020-01-01', confirm: {id}}}}}");
        change::<MarketplaceConnection>(&space, "bol", &typo).await;
        comes_to_rest(&space).await;
        let (job, _) = begun(&space).await;
        fail(&space, &job, "BackupNotFound", "there is none that old").await;
        let (message, _) = condition(&space, "bol", "Ready", "RestoreFailed").await;
        assert!(message.contains("BackupNotFound: there is none that old"), "{message}");
        assert!(message.contains(&format!("kubectl -n {} logs job/{}", space.name, job.name_any())));
        replicas(&space, 1).await;
        let (_, status) = condition(&space, "bol", "Ready", "RestoreFailed").await;
        let refused = status.restore.expect("it is told");
        assert_eq!((refused.failures, refused.finished_at.is_some()), (1, true));
        assert_eq!(restore_jobs(&space).await.len(), 1, "it isn't tried again, and its log is there");
        // As soon as it is asked for anew, which it is by another value, or by the same after it was withdrawn.
        change::<MarketplaceConnection>(&space, "bol", "spec: {restore: null}").await;
        told(&space, "it is withdrawn", Option::is_none).await;
        reason(&space, "bol", "RelayStarting").await;
        change::<MarketplaceConnection>(&space, "bol", &typo).await;
        comes_to_rest(&space).await;
        begun(&space).await;
        gone(&space, &job).await;
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_is_deleted_does_not_wait_for_a_restore_that_has_ended() {
    with_namespace(|space| async move {
        let _operator = backed_up(&space).await;
        misses_database(&space).await;
        comes_to_rest(&space).await;
        let (job, _) = begun(&space).await;
        fail(&space, &job, "StoreUnreachable", "no answer").await;
        condition(&space, "bol", "Ready", "RestoreFailed").await;
        assert_eq!(restore_jobs(&space).await.len(), 1, "its log stays");
        let claims = space.api::<PersistentVolumeClaim>();
        let claim = claims.delete("bol-data", &DeleteParams::default()).await.expect("deleted");
        let claim = claim.left().expect("it waits for whoever uses it");
        assert!(claim.finalizers().iter().any(|name| name == "kubernetes.io/pvc-protection"));
        gone(&space, &job).await;
        // As its controller does once nobody uses it.
        let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        claims.patch("bol-data", &PatchParams::default(), &none).await.expect("without finalizers");
        wait_for(&space, "another claim", async || {
            let found = claims.get_opt("bol-data").await.expect("an answer")?;
            (found.uid() != claim.uid()).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_is_applied_again_is_restored_if_its_volume_was_lost_meanwhile() {
    with_namespace(|space| async move {
        let _operator = backed_up(&space).await;
        let keyring = wait_for(&space, "its keyring knows the database", async || {
            let keyring = space.api::<Secret>().get("bol-keyring").await.expect("a keyring");
            keyring.annotations().get(labels::DATABASE).is_some_and(|chain| chain == CHAIN).then_some(keyring)
        })
        .await;
        let seed: [u8; 32] = keyring.data.expect("entries")["audit"].0[..].try_into().expect("a seed");
        let public_key = Signer::new(&seed).expect("a key").public_key();
        let connections = space.api::<MarketplaceConnection>();
        connections.delete("bol", &DeleteParams::default()).await.expect("deleted");
        wait_for(&space, "it is gone", async || {
            connections.get_opt("bol").await.expect("an answer").is_none().then_some(())
        })
        .await;
        // As the garbage collector does.
        space.api::<ConfigMap>().delete("bol-relay", &DeleteParams::default()).await.expect("deleted");
        connect(&space, "bol", BOTH).await;
        wait_for(&space, "the relay is told of its database", async || {
            let config = space.api::<ConfigMap>().get_opt("bol-relay").await.expect("an answer")?;
            config.data?.remove("database.yaml").filter(|known| known.contains(CHAIN))
        })
        .await;
        misses_database(&space).await;
        reason(&space, "bol", "Restoring").await;
        comes_to_rest(&space).await;
        assert_eq!(begun(&space).await.1.public_key, public_key);
    })
    .await;
}

#[tokio::test]
async fn a_connection_of_a_lost_cluster_restores_no_backup_from_before_its_erasures_are_known() {
    with_namespace(|space| async move {
        let _operator = backed_up(&space).await;
        let since = Timestamp::now() - SignedDuration::from_hours(48);
        let known = json!({"metadata": {"annotations": {labels::ERASURES_KNOWN_SINCE: since.to_string()}}});
        let keyrings = space.api::<Secret>();
        keyrings.patch("bol-keyring", &PatchParams::default(), &Patch::Merge(known)).await.expect("known");
        let message = reason(&space, "bol", "TooManyErasures").await;
        let part = format!("not all that was erased before {since} was escrowed");
        assert!(message.contains(&part), "{message}");
        misses_database(&space).await;
        comes_to_rest(&space).await;
        let (job, _) = begun(&space).await;
        let config = space.api::<ConfigMap>().get(&job.name_any()).await.expect("a ConfigMap");
        let packed = &config.binary_data.expect("entries")["erasures.json.zst"];
        assert_eq!(unpack(&packed.0).expect("erasures").since, Some(since));
    })
    .await;
}
