//! What may change about an existing resource, and what may not.

use kube::api::{Patch, PatchParams};

use crate::{
    samples::{Differences, Kind, create, set_status, try_change, yaml},
    support::with_namespace,
};

/// Change and the telling part of the answer; `None`: accepted.
type Case = (&'static str, &'static str, Option<&'static str>);

/// From one state, each change on its own.
async fn changes(from: &'static str, cases: &'static [Case]) {
    with_namespace(move |space| async move {
        create(&space, Kind::Connection, from).await;
        let mut differences = Differences::default();
        for (promise, change, part) in cases {
            differences.note(promise, *part, try_change(&space, Kind::Connection, "sample", change).await);
        }
        differences.none();
    })
    .await;
}

const MARKETPLACE: &str =
    "spec: Invalid value: the marketplace can't be changed: make a new connection and delete this one";
const CLASS: &str = "spec.storage: Invalid value: storageClassName can't be changed, a volume stays in its class: make a new connection";
const SHRINKS: &str = "spec.storage.size: Invalid value: size can't shrink, volumes only grow: keep the old size or make a new connection";

#[tokio::test]
async fn a_connection_keeps_its_marketplace() {
    changes(
        "{}",
        &[
            ("to eBay", "spec: {bol: null, ebay: {}}", Some(MARKETPLACE)),
            (
                "to Amazon",
                "spec: {bol: null, amazon: {region: eu, marketplaceIds: [A1805IZSGTT6HS]}}",
                Some(MARKETPLACE),
            ),
            ("a second one", "spec: {ebay: {}}", Some("name exactly one marketplace")),
            ("none", "spec: {bol: null}", Some("name exactly one marketplace")),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_amazon_account_keeps_its_region_and_may_gain_and_lose_sites() {
    changes("spec: {bol: null, amazon: {region: eu, marketplaceIds: [A1805IZSGTT6HS]}}", &[
        (
            "another region",
            "spec: {amazon: {region: na}}",
            Some("spec.amazon.region: Invalid value: amazon.region can't be changed, an account belongs to a region: make a new connection"),
        ),
        ("another site", "spec: {amazon: {marketplaceIds: [A1PA6795UKMFR9]}}", None),
        ("more sites", "spec: {amazon: {marketplaceIds: [A1805IZSGTT6HS, A1PA6795UKMFR9]}}", None),
    ])
    .await;
}

#[tokio::test]
async fn a_volume_grows_and_stays_in_its_class() {
    changes(
        "spec: {storage: {size: 2Gi, storageClassName: fast}}",
        &[
            ("smaller", "spec: {storage: {size: 1Gi}}", Some(SHRINKS)),
            ("smaller by the unit alone", "spec: {storage: {size: 2G}}", Some(SHRINKS)),
            ("smaller by leaving the size out", "spec: {storage: {size: null}}", Some(SHRINKS)),
            ("no size", "spec: {storage: {size: big}}", Some("size must be a whole number and Mi, Gi or Ti")),
            ("another class", "spec: {storage: {storageClassName: slow}}", Some(CLASS)),
            ("no class", "spec: {storage: {storageClassName: null}}", Some(CLASS)),
            ("all of storage left out", "spec: {storage: null}", Some(CLASS)),
            ("the same size in another unit", "spec: {storage: {size: 2048Mi}}", None),
            ("larger", "spec: {storage: {size: 3Gi}}", None),
        ],
    )
    .await;
    changes(
        "{}",
        &[
            ("a class added", "spec: {storage: {storageClassName: fast}}", Some(CLASS)),
            ("storage left out as before", "spec: {storage: null}", None),
        ],
    )
    .await;
}

#[tokio::test]
async fn all_else_may_change() {
    changes(
        "{}",
        &[
            ("credentials", "spec: {credentialsSecretRef: {name: other}}", None),
            ("destination", "spec: {destination: {webhook: {url: 'https://new.acme.example/'}}}", None),
            ("policy", "spec: {retentionPolicyRef: {name: strict}}", None),
            ("interval", "spec: {pollInterval: 5m}", None),
            ("suspend", "spec: {suspend: true}", None),
            ("a rule holds for changes too", "spec: {lookback: 31d}", Some("lookback must be at most 30d")),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_erasure_stays_as_it_was_made() {
    with_namespace(|space| async move {
        create(&space, Kind::Erasure, "{}").await;
        let part =
            "spec: Invalid value: a request can't be changed once it is made: delete it and make a new one";
        let mut differences = Differences::default();
        for (promise, change, part) in [
            ("another Secret", "spec: {subject: {secretRef: {name: case-4712}}}", Some(part)),
            ("fewer connections", "spec: {connections: [bol]}", Some(part)),
            ("another end", "spec: {ttlAfterCompletion: 1d}", Some(part)),
            ("a label", "metadata: {labels: {case: '4711'}}", None),
        ] {
            differences.note(promise, part, try_change(&space, Kind::Erasure, "sample", change).await);
        }
        differences.none();
    })
    .await;
}

#[tokio::test]
async fn a_record_gives_up_stores_that_it_knows_and_the_operator_may_forget_them_afterwards() {
    const UNKNOWN: &str = "spec.abandonStores must name stores by their ids of status.stores";
    with_namespace(|space| async move {
        let record = create(&space, Kind::Record, "{}").await;
        let mut differences = Differences::default();
        let gives_up = |ids: &str| format!("spec: {{abandonStores: [{ids}]}}");
        let early = try_change(&space, Kind::Record, "sample", &gives_up("a1")).await;
        differences.note("one before there are any", Some(UNKNOWN), early);
        let store =
            "{id: a1, site: offSite, bucket: far, region: eu-central-1, prefix: relays/id, pathStyle: false}";
        set_status(&space, Kind::Record, &record, &format!("{{stores: [{store}]}}")).await.expect("a status");
        for (promise, ids, part) in [
            ("one that is known", "a1", None),
            ("another one", "b2", Some(UNKNOWN)),
            ("a known one beside another one", "a1, b2", Some(UNKNOWN)),
        ] {
            differences.note(promise, part, try_change(&space, Kind::Record, "sample", &gives_up(ids)).await);
        }
        let patch = Patch::Merge(yaml(&gives_up("a1")));
        let api = Kind::Record.api(&space);
        let record = api.patch("sample", &PatchParams::default(), &patch).await.expect("given up");
        let forgotten = set_status(&space, Kind::Record, &record, "{stores: []}").await;
        differences.note("a status without the store", None, forgotten);
        differences.none();
    })
    .await;
}
