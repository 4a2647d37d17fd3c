//! What a platform engineer sees with kubectl.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use marketrelay_api::crds;

use crate::{
    samples::{Kind, create, set_status},
    support::{Space, kubectl, text, wait_for, with_namespace},
};

/// What `kubectl explain` says, in one line; the API server publishes descriptions a little after the definitions.
async fn explained(space: &Space, path: &str) -> String {
    let ask = async || {
        let answer = kubectl(&["explain", path]);
        answer.status.success().then(|| text(&answer).split_whitespace().collect::<Vec<_>>().join(" "))
    };
    wait_for(space, &format!("kubectl explain {path}"), ask).await
}

#[tokio::test]
async fn explain_says_what_a_field_means() {
    with_namespace(|space| async move {
        for (path, part) in [
            ("mconn", "Relays the orders of one marketplace account to the customer's own system"),
            ("mconn.spec", "How often the marketplace is asked for new and changed orders"),
            ("mconn.spec.ebay", "Write `ebay: {}`"),
            ("mconn.spec.destination.webhook.url", "https only. Redirects aren't followed"),
            ("mconn.spec.amazon.marketplaceIds", "such as A1805IZSGTT6HS for amazon.nl"),
            ("mconn.status.conditions", "each with a reason and a message that says"),
            ("retpol.spec", "from the data and from every backup"),
            ("retpol.spec.keyEpoch", "How finely keys are destroyed"),
            ("erasure.spec.subject.secretRef", "turns into digests and deletes at once"),
            ("mconn.spec.backup.schedule", "`H` stands for a value of the connection's own"),
            ("mconn.spec.backup.offSite.s3.credentialsSecretRef", "`accessKeyId`, `secretAccessKey`"),
            ("mconn.status.backups", "at the site where that is longer ago"),
            ("retpol.spec.backupRetention", "at most deleteAfterShipment"),
            ("mconn.spec.closure", "Deleting the connection only retains them"),
            ("connrec", "the proof of what was destroyed"),
            ("connrec.spec.closure", "this can't be undone"),
            ("erasure.status", "Until when a copy of a volume could still hold what was erased"),
        ] {
            let explained = explained(&space, path).await;
            assert!(explained.contains(part), "{path}: {explained}");
        }
    })
    .await;
}

#[test]
fn every_field_is_explained() {
    fn check(schema: &JSONSchemaProps, path: &str) {
        let described = schema.description.as_ref().is_some_and(|text| text.ends_with(['.', ')']));
        assert!(described, "{path}: {:?}", schema.description);
        for (name, field) in schema.properties.iter().flatten() {
            // Kubernetes' own type.
            if name != "conditions" {
                check(field, &format!("{path}.{name}"));
            }
        }
    }
    for definition in crds::all() {
        for version in definition.spec.versions {
            let schema = version.schema.and_then(|schema| schema.open_api_v3_schema).expect("a schema");
            check(&schema, &definition.spec.names.kind);
        }
    }
}

#[tokio::test]
async fn columns_answer_what_is_asked_first() {
    with_namespace(|space| async move {
        let made = create(&space, Kind::Connection, "{}").await;
        let status = "
            marketplace: bol
            relay: {orders: 1204, withPii: 310, backlog: 17}
            backups: {newest: 2020-01-01T00:00:00Z}
            conditions:
            - {type: Collecting, status: 'True', reason: Collecting, message: '', lastTransitionTime: 2026-01-01T00:00:00Z}
            - {type: Ready, status: 'False', reason: SecretNotFound, message: make it, lastTransitionTime: 2026-01-01T00:00:00Z}";
        set_status(&space, Kind::Connection, &made, status).await.expect("a status");
        let policy = create(&space, Kind::Policy, "{}").await;
        let status = "
            connections: 3
            pending: {connections: 2, affected: 41, effectiveAt: 2026-01-02T00:00:00Z}
            conditions: [{type: Ready, status: 'True', reason: Ready, message: good, lastTransitionTime: 2026-01-01T00:00:00Z}]";
        set_status(&space, Kind::Policy, &policy, status).await.expect("a status");
        let request = create(&space, Kind::Erasure, "{}").await;
        let status = "
            matched: 3
            erased: 3
            held: 1
            conditions: [{type: Complete, status: 'True', reason: Erased, message: done, lastTransitionTime: 2026-01-01T00:00:00Z}]";
        set_status(&space, Kind::Erasure, &request, status).await.expect("a status");
        let words = |what: &[&str]| {
            let table = text(&space.kubectl(what));
            let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
            rows.collect::<Vec<_>>()
        };
        let rows = words(&["get", "mconn"]);
        assert_eq!(rows[0], "NAME MARKETPLACE READY REASON ORDERS BACKLOG BACKUP DRILL AGE");
        assert!(rows[1].starts_with("sample bol False SecretNotFound 1204 17 6y"), "{rows:?}");
        let rows = words(&["get", "mconn", "--output=wide"]);
        assert!(rows[0].ends_with("AGE MESSAGE") && rows[1].ends_with(" make it"), "{rows:?}");
        let rows = words(&["get", "retpol"]);
        assert_eq!(rows[0], "NAME ANONYMIZE AMAZON SHIPPED BACKUPS CONNECTIONS WAITING AFFECTED UNTIL READY REASON AGE");
        assert!(rows[1].starts_with("sample 90d 30d 30d 3 2 41 2026-01-02T00:00:00Z True Ready "), "{rows:?}");
        let rows = words(&["get", "erasure"]);
        assert_eq!(rows[0], "NAME COMPLETE REASON MATCHED ERASED HELD AGE");
        assert!(rows[1].starts_with("sample True Erased 3 3 1 "), "{rows:?}");
    })
    .await;
}

#[tokio::test]
async fn all_of_ours_is_listed_by_one_word() {
    with_namespace(|space| async move {
        create(&space, Kind::Connection, "{}").await;
        create(&space, Kind::Policy, "{}").await;
        create(&space, Kind::Erasure, "{}").await;
        create(&space, Kind::Record, "{}").await;
        let listed = text(&space.kubectl(&["get", "marketrelay", "--output=name"]));
        let expected = "connectionrecord.marketrelay.dev/sample\nerasurerequest.marketrelay.dev/sample\n\
            marketplaceconnection.marketrelay.dev/sample\nretentionpolicy.marketrelay.dev/sample\n";
        assert_eq!(listed, expected);
    })
    .await;
}
