//! What is accepted at the very edges, and which defaults a person sees.

use crate::{
    samples::{Differences, Kind, create, try_create, yaml},
    support::with_namespace,
};

async fn all_are_accepted(kind: Kind, cases: &'static [(&'static str, &'static str)]) {
    with_namespace(move |space| async move {
        let mut differences = Differences::default();
        for (promise, change) in cases {
            differences.note(promise, None, try_create(&space, kind, change).await);
        }
        differences.none();
    })
    .await;
}

#[tokio::test]
async fn connections_at_the_edges_are_accepted() {
    all_are_accepted(
        Kind::Connection,
        &[
            ("the shortest", "{}"),
            ("eBay", "spec: {bol: null, ebay: {}}"),
            (
                "Amazon",
                "spec: {bol: null, amazon: {region: fe, marketplaceIds: [A1VC38T7YXB528, A19VAU5U5O7RUS]}}",
            ),
            ("a name of one letter", "metadata: {name: a}"),
            ("a name of 40 characters", "metadata: {name: a234567890123456789012345678901234567890}"),
            ("a name with digits and -", "metadata: {name: bol-2-nl}"),
            (
                "a port",
                "spec: {destination: {webhook: {url: 'https://erp.acme.example:8443/orders?tenant=7'}}}",
            ),
            ("the highest port", "spec: {destination: {webhook: {url: 'https://erp.acme.example:65535'}}}"),
            ("the lowest port", "spec: {destination: {webhook: {url: 'https://erp.acme.example:1'}}}"),
            (
                "an address of IPv6",
                "spec: {destination: {webhook: {url: 'https://[2001:db8::1]:8443/orders'}}}",
            ),
            (
                "@ and : after the host",
                "spec: {destination: {webhook: {url: 'https://erp.acme.example/a:b@c?d=@'}}}",
            ),
            (
                "the smallest batch",
                "spec: {destination: {webhook: {batch: {maxEvents: 1, maxBytes: 16384}}}}",
            ),
            (
                "the largest batch",
                "spec: {destination: {webhook: {batch: {maxEvents: 1000, maxBytes: 10485760}}}}",
            ),
            ("the smallest volume", "spec: {storage: {size: 64Mi}}"),
            ("a decimal unit", "spec: {storage: {size: 68M}}"),
            ("a class", "spec: {storage: {size: 2Ti, storageClassName: gp3-encrypted.eu}}"),
            ("the shortest poll interval", "spec: {pollInterval: 5s}"),
            ("the longest poll interval", "spec: {pollInterval: 24h}"),
            ("the longest look back", "spec: {lookback: 720h}"),
            ("a policy", "spec: {retentionPolicyRef: {name: standard.v2}}"),
            ("suspended", "spec: {suspend: true}"),
            ("backups on-site", "spec: {backup: {onSite: {s3: {credentialsSecretRef: {name: a}}}}}"),
            (
                "backups with everything",
                "spec: {backup: {schedule: '0,30 1-5/2 1-15,31 jan,JUN-dec mon-Fri', timeZone: America/Argentina/Buenos_Aires, suspend: true,
                  offSite: {s3: {credentialsSecretRef: {name: a}, endpoint: 'https://[2001:db8::1]:9000/', bucket: a.b-c, region: us-east-1, prefix: a/b_c/D.e-f}}}}",
            ),
            ("an offset as a zone", "spec: {backup: {timeZone: Etc/GMT+5, onSite: {s3: {credentialsSecretRef: {name: a}}}}}"),
        ],
    )
    .await;
}

#[tokio::test]
async fn policies_at_the_edges_are_accepted() {
    all_are_accepted(Kind::Policy, &[
        ("the shortest", "{}"),
        ("the longest for Amazon", "spec: {amazon: {anonymizeAfter: 720h}}"),
        ("the longest after shipment", "spec: {deleteAfterShipment: 30d}"),
        ("two epochs", "spec: {anonymizeAfter: 48h, amazon: {anonymizeAfter: 2d}, deleteAfterShipment: 2880m}"),
        ("a thousand epochs", "spec: {anonymizeAfter: 1000d}"),
        ("backups as long as personal data", "spec: {deleteAfterShipment: 10d, backupRetention: 240h}"),
        ("backups for two epochs", "spec: {backupRetention: 2d}"),
        ("audit records of a year", "spec: {auditRetention: 365d}"),
        ("a thousand epochs of minutes", "spec: {keyEpoch: 1m, anonymizeAfter: 1000m, amazon: {anonymizeAfter: 60000s}, deleteAfterShipment: 16h}"),
        ("longer for Amazon than for all", "spec: {anonymizeAfter: 10d, amazon: {anonymizeAfter: 20d}}"),
    ])
    .await;
}

#[tokio::test]
async fn holds_at_the_edges_are_accepted() {
    all_are_accepted(Kind::Policy, &[
        (
            "a range of days",
            "spec: {holds: [{name: tax-2026, reason: AO 147, placed: {from: 2026-01-01, to: 2027-01-01}, until: 2037-01-01}]}",
        ),
        (
            "times with offsets, of which the later one is written as the earlier",
            "spec: {holds: [{name: a, reason: x, placed: {from: '2026-01-01T12:00:00+01:00', to: '2026-01-01T11:00:01Z'}, until: '2026-01-01T00:00:00-10:30'}]}",
        ),
        (
            "an order and a buyer, until a leap day",
            "spec: {holds: [{name: court, reason: 4 O 7/26, digests: ['order:0000000000000000000000000000000000000000000000000000000000000000', 'buyer:0000000000000000000000000000000000000000000000000000000000000000'], until: 2028-02-29}]}",
        ),
        (
            "two that overlap, and one that may end",
            "spec: {holds: [{name: a, reason: x, placed: {from: 2026-01-01, to: 2027-01-01}, until: 2037-01-01}, {name: b, reason: y, placed: {from: 2026-06-01, to: 2028-01-01}, until: 2030-01-01}], endHolds: [b, c]}",
        ),
    ])
    .await;
}

#[tokio::test]
async fn erasures_at_the_edges_are_accepted() {
    all_are_accepted(Kind::Erasure, &[
        ("the shortest", "{}"),
        (
            "both kinds of digests",
            "spec: {subject: {secretRef: null, digests: ['order:0000000000000000000000000000000000000000000000000000000000000000', 'buyer:0000000000000000000000000000000000000000000000000000000000000000']}}",
        ),
        ("some connections", "spec: {connections: [bol, ebay-2]}"),
        ("a second", "spec: {ttlAfterCompletion: 1s}"),
        ("years", "spec: {ttlAfterCompletion: 3650d}"),
    ])
    .await;
}

#[tokio::test]
async fn defaults_are_visible() {
    with_namespace(|space| async move {
        let policy = create(&space, Kind::Policy, "{}").await;
        let defaults =
            "{anonymizeAfter: 90d, amazon: {anonymizeAfter: 30d}, deleteAfterShipment: 30d, keyEpoch: 1d, auditRetention: 400d, \
             holds: [], endHolds: []}";
        assert_eq!(policy.data["spec"], yaml(defaults));

        let erasure = create(&space, Kind::Erasure, "{}").await;
        let defaults = "{subject: {secretRef: {name: case-4711}}, connections: [], ttlAfterCompletion: 30d}";
        assert_eq!(erasure.data["spec"], yaml(defaults));

        let connection = create(&space, Kind::Connection, "{}").await;
        let defaults = "
            bol: {}
            credentialsSecretRef: {name: bol-credentials}
            destination:
              webhook:
                url: https://erp.acme.example/orders
                signingSecretRef: {name: erp-signing}
                batch: {maxEvents: 100, maxBytes: 1048576}
            storage: {size: 1Gi}
            pollInterval: 1m
            lookback: 7d
            suspend: false";
        assert_eq!(connection.data["spec"], yaml(defaults));
    })
    .await;
}

#[tokio::test]
async fn half_given_groups_are_completed() {
    with_namespace(|space| async move {
        let change =
            "spec: {storage: {storageClassName: fast}, destination: {webhook: {batch: {maxEvents: 5}}}}";
        let connection = create(&space, Kind::Connection, change).await;
        assert_eq!(connection.data["spec"]["storage"], yaml("{size: 1Gi, storageClassName: fast}"));
        let batch = &connection.data["spec"]["destination"]["webhook"]["batch"];
        assert_eq!(*batch, yaml("{maxEvents: 5, maxBytes: 1048576}"));
        let policy = create(&space, Kind::Policy, "spec: {amazon: {}}").await;
        assert_eq!(policy.data["spec"]["amazon"], yaml("{anonymizeAfter: 30d}"));
    })
    .await;
}
