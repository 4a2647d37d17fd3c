//! What is refused at creation, and with which sentence.

use kube::api::PostParams;

use crate::{
    samples::{Differences, Kind, try_create, with},
    support::with_namespace,
};

/// Promise, change, telling part of the answer.
type Case = (&'static str, &'static str, &'static str);

async fn all_are_refused(kind: Kind, cases: &'static [Case]) {
    with_namespace(move |space| async move {
        let mut differences = Differences::default();
        for (promise, change, part) in cases {
            differences.note(promise, Some(part), try_create(&space, kind, change).await);
        }
        differences.none();
    })
    .await;
}

const MARKETPLACES: &str = "spec: Invalid value: name exactly one marketplace: amazon, ebay or bol; one without settings is written `bol: {}`, since `bol:` alone is nothing; make a connection for each further one";
const NAMES: &str = "metadata.name must have at most 40 characters, lowercase letters, digits and '-', and begin with a letter: Services and Pods are named after it; choose a shorter or simpler name";
const IDS: &str = "marketplaceIds must be ids as Amazon writes them, such as A1805IZSGTT6HS for amazon.nl";
const DURATION: &str = "must be a whole number from 1 to 999999 and d, h, m or s, such as 90d or 36h";

#[tokio::test]
async fn a_connection_has_exactly_one_marketplace() {
    all_are_refused(
        Kind::Connection,
        &[
            ("none", "spec: {bol: null}", MARKETPLACES),
            ("two", "spec: {ebay: {}}", MARKETPLACES),
            (
                "three",
                "spec: {ebay: {}, amazon: {region: eu, marketplaceIds: [A1805IZSGTT6HS]}}",
                MARKETPLACES,
            ),
            (
                "an unknown region",
                "spec: {bol: null, amazon: {region: us, marketplaceIds: [A1805IZSGTT6HS]}}",
                r#"spec.amazon.region: Unsupported value: "us": supported values: "eu", "na", "fe""#,
            ),
            (
                "no site",
                "spec: {bol: null, amazon: {region: eu, marketplaceIds: []}}",
                "spec.amazon.marketplaceIds in body should have at least 1 items",
            ),
            (
                "sites that aren't named",
                "spec: {bol: null, amazon: {region: eu}}",
                "spec.amazon.marketplaceIds: Required value",
            ),
            ("a country", "spec: {bol: null, amazon: {region: eu, marketplaceIds: [NL]}}", IDS),
            ("a host name", "spec: {bol: null, amazon: {region: eu, marketplaceIds: [www.amazon.nl]}}", IDS),
            (
                "a small letter",
                "spec: {bol: null, amazon: {region: eu, marketplaceIds: [a1805izsgtt6hs]}}",
                IDS,
            ),
            (
                "a site twice",
                "spec: {bol: null, amazon: {region: eu, marketplaceIds: [A1805IZSGTT6HS, A1805IZSGTT6HS]}}",
                r#"spec.amazon.marketplaceIds[1]: Duplicate value: "A1805IZSGTT6HS""#,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_marketplace_that_is_left_empty_is_told_how_it_is_written() {
    with_namespace(|space| async move {
        let mut empty = with(Kind::Connection, "{}");
        empty.data["spec"]["bol"] = serde_json::Value::Null;
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let mut differences = Differences::default();
        let answer = Kind::Connection.api(&space).create(&dry, &empty).await;
        differences.note("bol: without braces", Some(MARKETPLACES), answer);
        differences.none();
    })
    .await;
}

#[tokio::test]
async fn amazon_takes_at_most_fifty_sites() {
    with_namespace(|space| async move {
        let ids: Vec<_> = (0..51).map(|n| format!("A1805IZSGTT{n:02}")).collect();
        let change = |ids: &[String]| {
            format!("spec: {{bol: null, amazon: {{region: eu, marketplaceIds: [{}]}}}}", ids.join(", "))
        };
        let mut differences = Differences::default();
        let answer = try_create(&space, Kind::Connection, &change(&ids)).await;
        let part = "spec.amazon.marketplaceIds: Too many: 51: must have at most 50 items";
        differences.note("51 sites", Some(part), answer);
        differences.note("50 sites", None, try_create(&space, Kind::Connection, &change(&ids[..50])).await);
        differences.none();
    })
    .await;
}

#[tokio::test]
async fn a_connections_name_fits_its_children() {
    all_are_refused(
        Kind::Connection,
        &[
            ("41 characters", "metadata: {name: a2345678901234567890123456789012345678901}", NAMES),
            ("a digit first", "metadata: {name: 1bol}", NAMES),
            ("a dot", "metadata: {name: bol.nl}", NAMES),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_a_connection_refers_to_is_named() {
    all_are_refused(Kind::Connection, &[
        ("no credentials", "spec: {credentialsSecretRef: null}", "spec.credentialsSecretRef: Required value"),
        ("no name", "spec: {credentialsSecretRef: {name: null}}", "spec.credentialsSecretRef.name: Required value"),
        ("no destination", "spec: {destination: null}", "spec.destination: Required value"),
        ("no webhook", "spec: {destination: {webhook: null}}", "spec.destination.webhook: Required value"),
        (
            "no signing Secret",
            "spec: {destination: {webhook: {signingSecretRef: null}}}",
            "spec.destination.webhook.signingSecretRef: Required value",
        ),
        (
            "an empty name",
            "spec: {credentialsSecretRef: {name: ''}}",
            "spec.credentialsSecretRef.name: Invalid value: must be the name of a Secret in the same namespace: at most 253 lowercase letters, digits, '-' and '.'",
        ),
        (
            "another namespace's",
            "spec: {credentialsSecretRef: {name: other/bol}}",
            "must be the name of a Secret in the same namespace",
        ),
        (
            "no name of a Secret",
            "spec: {destination: {webhook: {signingSecretRef: {name: ERP_signing}}}}",
            "spec.destination.webhook.signingSecretRef.name: Invalid value: must be the name of a Secret in the same namespace",
        ),
        (
            "no name of a policy",
            "spec: {retentionPolicyRef: {name: Standard}}",
            "spec.retentionPolicyRef.name: Invalid value: must be the name of a RetentionPolicy in the same namespace",
        ),
        (
            "no name of a class",
            "spec: {storage: {storageClassName: ''}}",
            "spec.storage.storageClassName: Invalid value: must be the name of a StorageClass (kubectl get storageclasses)",
        ),
    ])
    .await;
}

const HTTPS: &str = "spec.destination.webhook.url: Invalid value: url must be an https address such as https://erp.acme.example/orders: personal data never travels unencrypted";
const BARE: &str = "spec.destination.webhook.url: Invalid value: url must not hold a user name, a password or a fragment: the receiver recognises us by the signature (signingSecretRef)";
const PORT: &str = "spec.destination.webhook.url: Invalid value: url's port must be between 1 and 65535; without one it is 443";

#[tokio::test]
async fn personal_data_leaves_over_https_only() {
    all_are_refused(
        Kind::Connection,
        &[
            ("http", "spec: {destination: {webhook: {url: 'http://erp.acme.example/orders'}}}", HTTPS),
            ("no scheme", "spec: {destination: {webhook: {url: erp.acme.example/orders}}}", HTTPS),
            ("a path", "spec: {destination: {webhook: {url: /orders}}}", HTTPS),
            ("nothing", "spec: {destination: {webhook: {url: ''}}}", HTTPS),
            ("another scheme", "spec: {destination: {webhook: {url: 'ftp://erp.acme.example'}}}", HTTPS),
            ("no host", "spec: {destination: {webhook: {url: 'https:///orders'}}}", HTTPS),
            ("a port without a host", "spec: {destination: {webhook: {url: 'https://:443/orders'}}}", HTTPS),
            (
                "a space in the host",
                "spec: {destination: {webhook: {url: 'https://erp acme/orders'}}}",
                HTTPS,
            ),
            ("a user", "spec: {destination: {webhook: {url: 'https://user@erp.acme.example/'}}}", BARE),
            (
                "a password",
                "spec: {destination: {webhook: {url: 'https://user:pw@erp.acme.example/'}}}",
                BARE,
            ),
            (
                "a capital scheme with a user",
                "spec: {destination: {webhook: {url: 'HTTPS://user@erp.acme.example/'}}}",
                BARE,
            ),
            ("a fragment", "spec: {destination: {webhook: {url: 'https://erp.acme.example/#top'}}}", BARE),
            ("port 0", "spec: {destination: {webhook: {url: 'https://erp.acme.example:0/'}}}", PORT),
            ("port 65536", "spec: {destination: {webhook: {url: 'https://erp.acme.example:65536/'}}}", PORT),
            (
                "a long port",
                "spec: {destination: {webhook: {url: 'https://erp.acme.example:4430000000000000000000/'}}}",
                PORT,
            ),
            (
                "no events in a batch",
                "spec: {destination: {webhook: {batch: {maxEvents: 0}}}}",
                "spec.destination.webhook.batch.maxEvents in body should be greater than or equal to 1",
            ),
            (
                "1001 events in a batch",
                "spec: {destination: {webhook: {batch: {maxEvents: 1001}}}}",
                "spec.destination.webhook.batch.maxEvents in body should be less than or equal to 1000",
            ),
            (
                "a batch below 16 KiB",
                "spec: {destination: {webhook: {batch: {maxBytes: 16383}}}}",
                "spec.destination.webhook.batch.maxBytes in body should be greater than or equal to 16384",
            ),
            (
                "a batch above 10 MiB",
                "spec: {destination: {webhook: {batch: {maxBytes: 10485761}}}}",
                "spec.destination.webhook.batch.maxBytes in body should be less than or equal to 10485760",
            ),
        ],
    )
    .await;
}

const SIZE: &str =
    "spec.storage.size: Invalid value: size must be a whole number and Mi, Gi or Ti, such as 1Gi";

#[tokio::test]
async fn a_volumes_size_is_a_size() {
    all_are_refused(Kind::Connection, &[
        ("a word", "spec: {storage: {size: big}}", SIZE),
        ("no unit", "spec: {storage: {size: '1073741824'}}", SIZE),
        ("a unit as people write it", "spec: {storage: {size: 1GB}}", SIZE),
        ("a fraction", "spec: {storage: {size: 1.5Gi}}", SIZE),
        ("negative", "spec: {storage: {size: -1Gi}}", SIZE),
        ("nothing", "spec: {storage: {size: ''}}", SIZE),
        (
            "below 64Mi",
            "spec: {storage: {size: 63Mi}}",
            "spec.storage.size: Invalid value: size must be at least 64Mi; 1Gi holds about a million orders",
        ),
        ("64M is below 64Mi", "spec: {storage: {size: 64M}}", "size must be at least 64Mi"),
    ])
    .await;
}

#[tokio::test]
async fn a_connections_durations_are_durations_within_bounds() {
    all_are_refused(Kind::Connection, &[
        ("polling every second", "spec: {pollInterval: 1s}", "spec.pollInterval: Invalid value: pollInterval must be at least 5s; 1m is right for most accounts"),
        ("polling every other day", "spec: {pollInterval: 2d}", "spec.pollInterval: Invalid value: pollInterval must be at most 1d"),
        ("words", "spec: {pollInterval: 1 minute}", "spec.pollInterval: Invalid value: must be a whole number from 1 to 999999 and d, h, m or s, such as 90d or 36h"),
        ("as Go writes it", "spec: {pollInterval: 1m30s}", DURATION),
        ("zero", "spec: {lookback: 0d}", DURATION),
        ("negative", "spec: {lookback: -1d}", DURATION),
        ("a number", "spec: {lookback: 7}", "spec.lookback in body must be of type string"),
        (
            "sixty days back",
            "spec: {lookback: 60d}",
            "spec.lookback: Invalid value: lookback must be at most 30d, older orders are shipped and their data is due for deletion: write 30d or less",
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_policy_keeps_within_the_law_and_amazons_rules() {
    all_are_refused(Kind::Policy, &[
        (
            "Amazon's data for 31 days",
            "spec: {amazon: {anonymizeAfter: 31d}}",
            "spec.amazon.anonymizeAfter: Invalid value: amazon.anonymizeAfter must be at most 30d, Amazon's Data Protection Policy allows no more: write 30d or less",
        ),
        ("the same in hours", "spec: {amazon: {anonymizeAfter: 721h}}", "amazon.anonymizeAfter must be at most 30d"),
        ("the same in minutes", "spec: {amazon: {anonymizeAfter: 43201m}}", "amazon.anonymizeAfter must be at most 30d"),
        (
            "31 days after shipment",
            "spec: {deleteAfterShipment: 31d}",
            "spec.deleteAfterShipment: Invalid value: deleteAfterShipment must be at most 30d, personal data leaves data and backups by then: write 30d or less",
        ),
        ("days in words", "spec: {anonymizeAfter: 90 days}", "spec.anonymizeAfter: Invalid value: must be a whole number from 1 to 999999 and d, h, m or s, such as 90d or 36h"),
        ("zero days", "spec: {anonymizeAfter: 0d}", DURATION),
        ("negative", "spec: {deleteAfterShipment: -30d}", DURATION),
        ("a fraction", "spec: {amazon: {anonymizeAfter: 1.5d}}", DURATION),
        ("weeks", "spec: {keyEpoch: 1w}", DURATION),
        ("a long number", "spec: {keyEpoch: '1000000s'}", DURATION),
        ("nothing", "spec: {keyEpoch: ''}", DURATION),
        (
            "audit records of less than a year",
            "spec: {auditRetention: 364d}",
            "spec.auditRetention: Invalid value: auditRetention must be at least 365d, so that a year's deeds can be shown: write 365d or more",
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_policys_durations_are_a_manageable_number_of_keys() {
    all_are_refused(Kind::Policy, &[
        (
            "anonymizeAfter below two epochs",
            "spec: {anonymizeAfter: 47h}",
            "spec.anonymizeAfter: Invalid value: anonymizeAfter must be between 2 and 1000 times keyEpoch (one key per epoch is kept in a Secret): change keyEpoch or anonymizeAfter",
        ),
        (
            "anonymizeAfter above a thousand epochs",
            "spec: {anonymizeAfter: 1001d}",
            "spec.anonymizeAfter: Invalid value: anonymizeAfter must be between 2 and 1000 times keyEpoch",
        ),
        (
            "Amazon's below two epochs",
            "spec: {amazon: {anonymizeAfter: 1d}}",
            "spec.amazon.anonymizeAfter: Invalid value: amazon.anonymizeAfter must be between 2 and 1000 times keyEpoch",
        ),
        (
            "Amazon's above a thousand epochs",
            "spec: {keyEpoch: 43m, anonymizeAfter: 29d, deleteAfterShipment: 29d}",
            "spec.amazon.anonymizeAfter: Invalid value: amazon.anonymizeAfter must be between 2 and 1000 times keyEpoch",
        ),
        (
            "deleteAfterShipment below two epochs",
            "spec: {keyEpoch: 14d, deleteAfterShipment: 27d}",
            "spec.deleteAfterShipment: Invalid value: deleteAfterShipment must be between 2 and 1000 times keyEpoch",
        ),
        (
            "deleteAfterShipment above a thousand epochs",
            "spec: {keyEpoch: 43m, anonymizeAfter: 29d, amazon: {anonymizeAfter: 29d}}",
            "spec.deleteAfterShipment: Invalid value: deleteAfterShipment must be between 2 and 1000 times keyEpoch",
        ),
    ])
    .await;
}

const ONE_WAY: &str = "spec.subject: Invalid value: name the subject in exactly one way: digests or secretRef; a name, an address or an order number never belongs into this object";
const DIGEST: &str = "Invalid value: must be order: or buyer: and 64 lowercase hex digits; to name an erasure's subject in plain text, put it into a Secret and write subject.secretRef";

#[tokio::test]
async fn an_erasure_names_its_subject_in_one_way_and_never_in_plain_text() {
    all_are_refused(Kind::Erasure, &[
        ("no subject", "spec: {subject: null}", "spec.subject: Required value"),
        ("an empty one", "spec: {subject: {secretRef: null}}", ONE_WAY),
        (
            "both",
            "spec: {subject: {digests: ['order:0000000000000000000000000000000000000000000000000000000000000000']}}",
            ONE_WAY,
        ),
        ("no digest", "spec: {subject: {secretRef: null, digests: []}}", "spec.subject.digests in body should have at least 1 items"),
        ("an address", "spec: {subject: {secretRef: null, digests: [zoe@buyer.example]}}", DIGEST),
        (
            "a digest without a kind",
            "spec: {subject: {secretRef: null, digests: ['0000000000000000000000000000000000000000000000000000000000000000']}}",
            DIGEST,
        ),
        (
            "capital digits",
            "spec: {subject: {secretRef: null, digests: ['buyer:ABCD000000000000000000000000000000000000000000000000000000000000']}}",
            DIGEST,
        ),
        (
            "a digest twice",
            "spec: {subject: {secretRef: null, digests: ['order:0000000000000000000000000000000000000000000000000000000000000000', 'order:0000000000000000000000000000000000000000000000000000000000000000']}}",
            "spec.subject.digests[1]: Duplicate value",
        ),
        (
            "another namespace's Secret",
            "spec: {subject: {secretRef: {name: other/case}}}",
            "spec.subject.secretRef.name: Invalid value: must be the name of a Secret in the same namespace",
        ),
        (
            "no name of a connection",
            "spec: {connections: [acme/bol]}",
            "spec.connections: Invalid value: connections must be names of MarketplaceConnections in the same namespace (kubectl get mconn); leave the list empty for all of them",
        ),
        ("a connection twice", "spec: {connections: [bol, bol]}", "spec.connections[1]: Duplicate value"),
        ("no time at all", "spec: {ttlAfterCompletion: 0d}", DURATION),
    ])
    .await;
}

#[tokio::test]
async fn an_erasure_has_at_most_a_hundred_digests() {
    with_namespace(|space| async move {
        let digests: Vec<_> = (0..101).map(|n| format!("'buyer:{n:064}'")).collect();
        let change = |list: &[String]| {
            format!("spec: {{subject: {{secretRef: null, digests: [{}]}}}}", list.join(", "))
        };
        let mut differences = Differences::default();
        let part = "spec.subject.digests: Too many: 101: must have at most 100 items";
        differences.note("101", Some(part), try_create(&space, Kind::Erasure, &change(&digests)).await);
        differences.note("100", None, try_create(&space, Kind::Erasure, &change(&digests[1..])).await);
        differences.none();
    })
    .await;
}

const MOMENT: &str = "Invalid value: must be a date such as 2027-01-31 (its first second in UTC), or a time such as 2027-01-31T12:00:00Z";
const WHAT_IS_HELD: &str = "Invalid value: say what the hold keeps in exactly one way: digests (of orders or buyers) or placed (a range of time)";
const RANGE: &str =
    "Invalid value: placed.from must be before placed.to, which isn't part of the range any more";
const HOLD_NAME: &str = "Invalid value: a hold's name must be at most 40 lowercase letters, digits and '-', such as tax-audit-2026";

#[tokio::test]
async fn a_hold_says_what_why_and_until_when() {
    all_are_refused(Kind::Policy, &[
        ("neither digests nor a range", "spec: {holds: [{name: a, reason: x, until: 2037-01-01}]}", WHAT_IS_HELD),
        (
            "both",
            "spec: {holds: [{name: a, reason: x, until: 2037-01-01, placed: {from: 2026-01-01, to: 2027-01-01}, digests: ['order:0000000000000000000000000000000000000000000000000000000000000000']}]}",
            WHAT_IS_HELD,
        ),
        (
            "an order's number",
            "spec: {holds: [{name: a, reason: x, until: 2037-01-01, digests: [A4711]}]}",
            "must be order: or buyer: and 64 lowercase hex digits",
        ),
        (
            "no digest",
            "spec: {holds: [{name: a, reason: x, until: 2037-01-01, digests: []}]}",
            "spec.holds[0].digests in body should have at least 1 items",
        ),
        ("no end", "spec: {holds: [{name: a, reason: x, placed: {from: 2026-01-01, to: 2027-01-01}}]}", "spec.holds[0].until: Required value"),
        ("no reason", "spec: {holds: [{name: a, until: 2037-01-01, placed: {from: 2026-01-01, to: 2027-01-01}}]}", "spec.holds[0].reason: Required value"),
        (
            "an empty reason",
            "spec: {holds: [{name: a, reason: ' ', until: 2037-01-01, placed: {from: 2026-01-01, to: 2027-01-01}}]}",
            "spec.holds[0].reason: Invalid value: reason must say why these orders are kept: the law, and who decided it",
        ),
        ("an empty range", "spec: {holds: [{name: a, reason: x, until: 2037-01-01, placed: {from: 2026-01-01, to: 2026-01-01}}]}", RANGE),
        (
            "a range the wrong way round, though its texts aren't",
            "spec: {holds: [{name: a, reason: x, until: 2037-01-01, placed: {from: '2026-01-01T11:00:00Z', to: '2026-01-01T12:00:00+01:00'}}]}",
            RANGE,
        ),
        ("half a range", "spec: {holds: [{name: a, reason: x, until: 2037-01-01, placed: {from: 2026-01-01}}]}", "spec.holds[0].placed.to: Required value"),
        ("an end in words", "spec: {holds: [{name: a, reason: x, until: tomorrow, placed: {from: 2026-01-01, to: 2027-01-01}}]}", MOMENT),
        ("a duration", "spec: {holds: [{name: a, reason: x, until: 10d, placed: {from: 2026-01-01, to: 2027-01-01}}]}", MOMENT),
        ("a time without an offset", "spec: {holds: [{name: a, reason: x, until: '2037-01-01T00:00:00', placed: {from: 2026-01-01, to: 2027-01-01}}]}", MOMENT),
        ("the 13th month", "spec: {holds: [{name: a, reason: x, until: 2037-13-01, placed: {from: 2026-01-01, to: 2027-01-01}}]}", MOMENT),
        ("a day that there isn't", "spec: {holds: [{name: a, reason: x, until: 2037-02-29, placed: {from: 2026-01-01, to: 2027-01-01}}]}", "spec.holds[0].until: Invalid value"),
        ("a name with a dot", "spec: {holds: [{name: a.b, reason: x, until: 2037-01-01, placed: {from: 2026-01-01, to: 2027-01-01}}]}", HOLD_NAME),
        ("a long name", "spec: {holds: [{name: a2345678901234567890123456789012345678901, reason: x, until: 2037-01-01, placed: {from: 2026-01-01, to: 2027-01-01}}]}", HOLD_NAME),
        (
            "a name twice",
            "spec: {holds: [{name: a, reason: x, until: 2037-01-01, placed: {from: 2026-01-01, to: 2027-01-01}}, {name: a, reason: x, until: 2037-01-01, placed: {from: 2026-01-01, to: 2027-01-01}}]}",
            "spec.holds[1]: Duplicate value",
        ),
        ("no hold's name to end", "spec: {endHolds: [A.B]}", "spec.endHolds: Invalid value: endHolds must be names of holds"),
    ])
    .await;
}

const SITES: &str = "spec.backup: Invalid value: name at least one site: onSite (near the cluster), offSite (far from it), or better both; to have no backups, leave out spec.backup";
const SCHEDULE: &str =
    "spec.backup.schedule: Invalid value: schedule must be five fields with one space between";
const ZONE: &str = "spec.backup.timeZone: Invalid value: timeZone must be the name of a time zone, such as Europe/Amsterdam or Etc/UTC";
const STORE: &str =
    "endpoint must be an https address such as https://s3.acme.example: backups never travel unencrypted";
const ADDRESS: &str = "endpoint must be the store's address alone, without user name, path or query";
const BUCKET: &str = "bucket must be a bucket's name: 3 to 63 lowercase letters, digits, '-' and '.'";
const PREFIX: &str = "prefix must be words between slashes such as backups/acme, without a slash at its ends";

#[tokio::test]
async fn backups_have_a_site_a_schedule_and_a_store_that_can_be() {
    all_are_refused(Kind::Connection, &[
        ("no site", "spec: {backup: {}}", SITES),
        ("no store", "spec: {backup: {onSite: {}}}", "spec.backup.onSite.s3: Required value"),
        ("no credentials", "spec: {backup: {onSite: {s3: {}}}}", "spec.backup.onSite.s3.credentialsSecretRef: Required value"),
        ("another namespace's", "spec: {backup: {onSite: {s3: {credentialsSecretRef: {name: a/b}}}}}", "must be the name of a Secret in the same namespace"),
        ("four fields", "spec: {backup: {schedule: '0 3 * *', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", SCHEDULE),
        ("seconds", "spec: {backup: {schedule: '0 0 3 * * *', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", SCHEDULE),
        ("a word for it", "spec: {backup: {schedule: '@daily', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", SCHEDULE),
        ("a time zone in it", "spec: {backup: {schedule: 'TZ=UTC 0 3 * * *', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", SCHEDULE),
        ("minute 60", "spec: {backup: {schedule: '60 3 * * *', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", SCHEDULE),
        ("hour 24", "spec: {backup: {schedule: '0 24 * * *', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", SCHEDULE),
        ("day 0", "spec: {backup: {schedule: '0 3 0 * *', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", SCHEDULE),
        ("month 13", "spec: {backup: {schedule: '0 3 * 13 *', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", SCHEDULE),
        ("weekday 7", "spec: {backup: {schedule: '0 3 * * 7', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", SCHEDULE),
        ("until Sunday", "spec: {backup: {schedule: '0 3 * * fri-sun', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", SCHEDULE),
        ("a question", "spec: {backup: {schedule: '0 3 ? * *', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", SCHEDULE),
        ("the last day", "spec: {backup: {schedule: '0 3 L * *', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", SCHEDULE),
        ("a step of nothing", "spec: {backup: {schedule: '0 */0 * * *', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", SCHEDULE),
        ("a step from a number", "spec: {backup: {schedule: '3/5 * * * *', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", SCHEDULE),
        ("a part of H", "spec: {backup: {schedule: 'H/5 * * * *', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", "seconds, H/N, H(a-b), '?'"),
        ("a list with a hole", "spec: {backup: {schedule: '1,,2 * * * *', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", SCHEDULE),
        ("two spaces", "spec: {backup: {schedule: 'H  H * * *', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", SCHEDULE),
        ("an offset", "spec: {backup: {timeZone: '+01:00', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", ZONE),
        ("here", "spec: {backup: {timeZone: Local, onSite: {s3: {credentialsSecretRef: {name: a}}}}}", ZONE),
        ("none", "spec: {backup: {timeZone: '', onSite: {s3: {credentialsSecretRef: {name: a}}}}}", ZONE),
        ("no encryption", "spec: {backup: {onSite: {s3: {credentialsSecretRef: {name: a}, endpoint: 'http://s3.acme.example'}}}}", STORE),
        ("no address", "spec: {backup: {onSite: {s3: {credentialsSecretRef: {name: a}, endpoint: s3.acme.example}}}}", STORE),
        ("a password", "spec: {backup: {onSite: {s3: {credentialsSecretRef: {name: a}, endpoint: 'https://a:b@s3.acme.example'}}}}", ADDRESS),
        ("a bucket in the address", "spec: {backup: {onSite: {s3: {credentialsSecretRef: {name: a}, endpoint: 'https://s3.acme.example/backups'}}}}", ADDRESS),
        ("a query", "spec: {backup: {onSite: {s3: {credentialsSecretRef: {name: a}, endpoint: 'https://s3.acme.example?a=b'}}}}", ADDRESS),
        ("a capital letter", "spec: {backup: {onSite: {s3: {credentialsSecretRef: {name: a}, bucket: Backups}}}}", BUCKET),
        ("a folder", "spec: {backup: {onSite: {s3: {credentialsSecretRef: {name: a}, bucket: backups/acme}}}}", BUCKET),
        ("two letters", "spec: {backup: {onSite: {s3: {credentialsSecretRef: {name: a}, bucket: ab}}}}", BUCKET),
        ("a place", "spec: {backup: {onSite: {s3: {credentialsSecretRef: {name: a}, region: Frankfurt am Main}}}}", "region must be a region's name such as eu-central-1; stores that know no regions take us-east-1"),
        ("a slash before", "spec: {backup: {onSite: {s3: {credentialsSecretRef: {name: a}, prefix: /acme}}}}", PREFIX),
        ("a slash behind", "spec: {backup: {onSite: {s3: {credentialsSecretRef: {name: a}, prefix: acme/}}}}", PREFIX),
        ("an empty word", "spec: {backup: {onSite: {s3: {credentialsSecretRef: {name: a}, prefix: a//b}}}}", PREFIX),
        ("what isn't signed as it is", "spec: {backup: {onSite: {s3: {credentialsSecretRef: {name: a}, prefix: a(b)}}}}", PREFIX),
        ("the folder above", "spec: {backup: {onSite: {s3: {credentialsSecretRef: {name: a}, prefix: a/../b}}}}", PREFIX),
    ])
    .await;
}

const KEPT: &str = "spec.backupRetention: Invalid value: backupRetention must be at most deleteAfterShipment, since personal data leaves backups by then: write a shorter one, or leave it out";

#[tokio::test]
async fn no_backup_is_kept_longer_than_the_personal_data_in_it() {
    all_are_refused(
        Kind::Policy,
        &[
            ("longer than the limit", "spec: {backupRetention: 31d}", KEPT),
            ("longer by an hour", "spec: {deleteAfterShipment: 10d, backupRetention: 241h}", KEPT),
            (
                "less than two epochs",
                "spec: {backupRetention: 1d}",
                "backupRetention must be between 2 and 1000 times keyEpoch",
            ),
            ("no duration", "spec: {backupRetention: a month}", DURATION),
        ],
    )
    .await;
}
