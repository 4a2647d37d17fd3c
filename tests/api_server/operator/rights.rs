//! The operator has exactly the rights that it uses.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    authorization::v1::SubjectAccessReview,
    core::v1::{PersistentVolumeClaim, Pod, Secret},
    rbac::v1::PolicyRule,
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, PostParams},
};
use marketrelay_api::{ErasureRequest, MarketplaceConnection, RetentionPolicy, record::RecordPhase};
use serde_json::json;

use super::{
    ACCOUNT, CONFIG, Operator, apply,
    audit::{self, Request},
    backups, change,
    children::api,
    closures::{bind, confirm, confirm_record, discard, reaches, stores},
    connect, connected, delete, grant,
    kubelet::Volume,
    reason, rights,
};
use crate::{
    samples::{Kind, create, set_status},
    support::{PLANE, Space, configuration, wait_for, with_namespace},
};

type Right = (String, String, String);

/// Checked by the admission of owner references, not by a request.
const FINALIZERS: &str = "marketplaceconnections/finalizers";

fn granted(rules: &[PolicyRule]) -> BTreeSet<Right> {
    let mut all = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten().filter(|resource| *resource != FINALIZERS) {
                all.extend(rule.verbs.iter().map(|verb| (group.clone(), resource.clone(), verb.clone())));
            }
        }
    }
    all
}

async fn keys(space: &Space) -> usize {
    let keyring = space.api::<Secret>().get("bol-keyring").await.expect("a keyring");
    keyring.data.map_or(0, |data| data.len())
}

/// An account's closure, which waits for its record twice, and for a volume.
async fn close(space: &Space, home: &Space) {
    connected(space, "closing").await;
    let sites = format!("{{spec: {{backup: {}}}}}", backups::BOTH);
    change::<MarketplaceConnection>(space, "closing", &sites).await;
    backups::cron_jobs(space, "closing", &backups::CRON_JOBS).await;
    backups::now(space, "closing-on-site", "closing-now");
    let volume = bind(space, "closing").await;
    let id = confirm(space, "closing").await;
    reaches(home, space, &id, RecordPhase::AwaitingConfirmation).await;
    change::<MarketplaceConnection>(space, "closing", "{spec: {closure: null}}").await;
    reaches(home, space, &id, RecordPhase::Active).await;
    confirm(space, "closing").await;
    reaches(home, space, &id, RecordPhase::AwaitingConfirmation).await;
    confirm_record(home, &id).await;
    wait_for(space, "the volume is all that is left", async || {
        let record = reaches(home, space, &id, RecordPhase::Closing).await;
        record.status?.message?.contains(&format!("still there: PersistentVolume {volume}")).then_some(())
    })
    .await;
    stores::purged(home, &id).await;
    discard(space, &volume).await;
    reaches(home, space, &id, RecordPhase::Closed).await;
}

/// A connection's life: policy, Secrets, keys, suspension twice, names that are taken, deletion.
async fn live(space: &Space, home: &Space) {
    let policy = json!({"metadata": {"name": "standard"}, "spec": {"deleteAfterShipment": "5d"}});
    apply::<RetentionPolicy>(space.api(), policy).await;
    let refer = format!(
        "{{metadata: {{name: bol}}, spec: {{storage: {{storageClassName: {}}}, retentionPolicyRef: {{name: standard}}}}}}",
        space.name
    );
    create(space, Kind::Connection, &refer).await;
    reason(space, "bol", "RelayStarting").await;
    let before = keys(space).await;
    change::<RetentionPolicy>(space, "standard", "{spec: {deleteAfterShipment: 30d}}").await;
    wait_for(space, "more keys", async || (keys(space).await > before).then_some(())).await;
    change::<Secret>(space, "bol-credentials", "{stringData: {clientSecret: c}}").await;
    for suspend in [true, false, true] {
        change::<MarketplaceConnection>(space, "bol", &format!("{{spec: {{suspend: {suspend}}}}}")).await;
        reason(space, "bol", if suspend { "Suspended" } else { "RelayStarting" }).await;
    }
    be_forgotten(space).await;
    back_up(space).await;
    close(space, home).await;
    take_names(space).await;
    delete::<MarketplaceConnection>(space, "bol").await;
    wait_for(space, "retained", async || {
        let claim = space.api::<PersistentVolumeClaim>().get("bol-data").await.expect("a claim");
        claim.labels().get("marketrelay.dev/retained").cloned()
    })
    .await;
}

/// A first backup, of a relay that answers; one site less; a CronJob's name that is taken.
async fn back_up(space: &Space) {
    let sites = format!("{{spec: {{suspend: false, backup: {}}}}}", backups::BOTH);
    change::<MarketplaceConnection>(space, "bol", &sites).await;
    backups::cron_jobs(space, "bol", &backups::CRON_JOBS).await;
    let volume = Volume::new();
    let pod = volume.start(space, "bol").await;
    backups::relay_runs(space).await;
    backups::has_recipients(space).await;
    pod.stop().await;
    let pod = volume.start(space, "bol").await;
    wait_for(space, "a first backup at work", async || {
        backups::jobs(space).await.iter().any(|job| !backups::is_suspended(job)).then_some(())
    })
    .await;
    pod.stop().await;
    delete::<Pod>(space, "bol-relay-0").await;
    change::<MarketplaceConnection>(space, "bol", "{spec: {suspend: true, backup: {offSite: null}}}").await;
    // Its relay has told its key by now, so there are drills.
    backups::cron_jobs(space, "bol", &["-on-drill", "-on-prune", "-on-site"]).await;
    backups::take_name(space, "conflicting").await;
}

/// Two requests: one whose Secret is consumed, one that was finished long ago.
async fn be_forgotten(space: &Space) {
    let case = json!({"metadata": {"name": "case-4711"}, "stringData": {"orderNumbers": "A1"}});
    apply::<Secret>(space.api(), case).await;
    create(space, Kind::Erasure, "{}").await;
    wait_for(space, "the subject's Secret goes", async || {
        space.api::<Secret>().get_opt("case-4711").await.expect("an answer").is_none().then_some(())
    })
    .await;
    let old = create(space, Kind::Erasure, "{metadata: {name: old}, spec: {ttlAfterCompletion: 1d}}").await;
    let done = "completedAt: 2020-01-01T00:00:00Z";
    set_status(space, Kind::Erasure, &old, done).await.expect("a status");
    wait_for(space, "the finished request goes", async || {
        space.api::<ErasureRequest>().get_opt("old").await.expect("an answer").is_none().then_some(())
    })
    .await;
}

async fn take_names(space: &Space) {
    for (number, (kind, version, suffix, mut object)) in
        super::conflicts::foreign(space).into_iter().enumerate()
    {
        let connection = format!("c{number}");
        object["metadata"] = json!({"name": format!("{connection}{suffix}")});
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        api(space, kind, version).create(&PostParams::default(), &object).await.expect(kind);
        connect(space, &connection).await;
        reason(space, &connection, "NameConflict").await;
    }
}

async fn may_finalize(home: &Space, space: &Space) -> bool {
    let review = json!({"spec": {"user": format!("system:serviceaccount:{}:{ACCOUNT}", home.name),
        "resourceAttributes": {"namespace": space.name, "verb": "update", "group": "marketrelay.dev",
                               "resource": "marketplaceconnections", "subresource": "finalizers"}}});
    let review: SubjectAccessReview = serde_json::from_value(review).expect("a review");
    let reviews = Api::<SubjectAccessReview>::all(space.client.clone());
    let reviewed = reviews.create(&PostParams::default(), &review).await.expect("an answer");
    reviewed.status.expect("a verdict").allowed
}

#[tokio::test]
async fn the_operator_has_exactly_the_rights_that_it_uses() {
    with_namespace(|space| async move {
        let home = Space::make(space.client.clone()).await;
        backups::furnish_stores(&space).await;
        grant(&home, &space, &rights()).await;
        let access = configuration(&PLANE).await;
        let config = backups::CONFIG.replacen('{', "{closure: {breaker: 0}, ", 1);
        let operator = Operator::replica(access.clone(), &home, &space, &config, "operator-0").await;
        live(&space, &home).await;
        operator.stop().await;
        let old = "{metadata: {annotations: {marketrelay.dev/renew-after: '2020-01-01T00:00:00Z'}}}";
        let client = change::<Secret>(&home, "marketrelay-metrics-client", old).await;
        let operator = Operator::replica(access, &home, &space, CONFIG, "operator-0").await;
        wait_for(&home, "a new certificate", async || {
            let now = home.api::<Secret>().get("marketrelay-metrics-client").await.expect("a certificate");
            (now.data != client.data).then_some(())
        })
        .await;
        let looks = audit::looks(&home);
        connected(&space, "last").await;
        super::notices::connect_ebay(&space).await;
        super::notices::hand_over(&home, operator.address, "n-1", "zoe").await.expect("taken");
        wait_for(&space, "a look at the last", async || (audit::looks(&home) > looks).then_some(())).await;

        let requests = audit::requests(&home);
        let (own, all): (Vec<Request>, Vec<Request>) =
            requests.into_iter().partition(|request| request.object_ref.namespace == home.name);
        assert_eq!(audit::used(&all), granted(&rights().cluster_role), "used and granted in the cluster");
        assert_eq!(audit::used(&own), granted(&rights().role), "used and granted in its own namespace");

        let mut less = rights();
        less.cluster_role
            .retain(|rule| rule.resources.iter().flatten().all(|resource| resource != FINALIZERS));
        assert!(less.cluster_role.len() < rights().cluster_role.len());
        grant(&home, &space, &less).await;
        wait_for(&space, "less rights", async || (!may_finalize(&home, &space).await).then_some(())).await;
        connect(&space, "refused").await;
        let message = reason(&space, "refused", "Forbidden").await;
        assert!(message.contains("blockOwnerDeletion"), "{message}");
        home.remove().await;
    })
    .await;
}
