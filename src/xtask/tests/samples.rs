//! The samples and the sandbox fit each other.

use std::path::PathBuf;

use marketrelay_api::{Duration, ErasureRequest, MarketplaceConnection, RetentionPolicySpec};
use serde_yaml::Value;
use xtask::paths;

fn documents(path: &str) -> Vec<Value> {
    let path: PathBuf = paths::checkout().join("manifests").join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let documents = serde_yaml::Deserializer::from_str(&text);
    documents.map(|document| serde::Deserialize::deserialize(document).expect("YAML")).collect()
}

fn sandbox() -> Value {
    documents("sandbox/config.yaml").remove(0)
}

fn secret(name: &str) -> Value {
    let found =
        documents("samples/secrets.yaml").into_iter().find(|secret| secret["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no Secret {name}"))["stringData"].clone()
}

#[test]
fn each_sample_connection_has_an_account_in_the_sandbox() {
    let sandbox = sandbox();
    let accounts = sandbox["accounts"].as_sequence().expect("accounts");
    assert_eq!(accounts.len(), 3);
    for account in accounts {
        let marketplace = account["marketplace"].as_str().expect("a name");
        let sample = documents(&format!("samples/{marketplace}.yaml")).remove(0);
        let connection: MarketplaceConnection = serde_yaml::from_value(sample).expect("a connection");
        assert_eq!(connection.spec.marketplace().expect("one").to_string(), marketplace);
        let credentials = secret(&connection.spec.credentials_secret_ref.name);
        for entry in ["clientId", "clientSecret", "refreshToken"] {
            assert_eq!(credentials[entry], account[entry], "{marketplace}: {entry}");
        }
    }
}

#[test]
fn the_sandbox_accepts_the_samples_signatures() {
    let customer = &sandbox()["customers"][0];
    for marketplace in ["amazon", "ebay", "bol"] {
        let sample = documents(&format!("samples/{marketplace}.yaml")).remove(0);
        let connection: MarketplaceConnection = serde_yaml::from_value(sample).expect("a connection");
        let webhook = connection.spec.destination.webhook;
        let path = format!("/customers/{}/orders", customer["name"].as_str().expect("a name"));
        assert!(webhook.url.ends_with(&path), "{}", webhook.url);
        assert_eq!(secret(&webhook.signing_secret_ref.name)["signingSecret"], customer["secrets"][0]);
    }
}

#[test]
fn the_sample_of_backups_is_the_sample_of_bol_with_two_sites_and_their_credentials() {
    let documents = documents("samples/backup.yaml");
    let [onsite, offsite, connection]: [Value; 3] = documents.try_into().expect("three documents");
    let parse = |value| -> MarketplaceConnection { serde_yaml::from_value(value).expect("a connection") };
    let mut connection = parse(connection);
    let backup = connection.spec.backup.take().expect("backups");
    assert_eq!(connection, parse(self::documents("samples/bol.yaml").remove(0)));
    assert_eq!(backup.sites().count(), 2);
    for (secret, (_, s3)) in [onsite, offsite].iter().zip(backup.sites()) {
        assert_eq!(secret["metadata"]["name"], s3.credentials_secret_ref.name.as_str());
        for entry in ["accessKeyId", "secretAccessKey"] {
            assert!(secret["stringData"][entry].is_string(), "{entry}");
        }
    }
}

#[test]
fn the_sample_policy_shows_the_defaults() {
    let policy = documents("samples/policy.yaml").remove(0);
    let spec: RetentionPolicySpec = serde_yaml::from_value(policy["spec"].clone()).expect("a policy");
    assert_eq!(spec, RetentionPolicySpec::default());
}

#[test]
fn the_sample_erasure_names_its_secret_and_shows_the_defaults() {
    let [secret, request]: [Value; 2] = documents("samples/erasure.yaml").try_into().expect("two documents");
    let request: ErasureRequest = serde_yaml::from_value(request).expect("a request");
    let named = request.spec.subject.secret_ref.expect("a Secret").name;
    assert_eq!(secret["metadata"]["name"], named.as_str());
    assert_eq!((request.spec.connections.len(), request.spec.ttl_after_completion), (0, Duration::days(30)));
}

#[test]
fn the_sample_of_an_ebay_application_is_known_to_the_sandbox() {
    let secret = documents("samples/ebay-application.yaml").remove(0);
    let entries = &secret["stringData"];
    let known = sandbox()["accounts"].as_sequence().expect("accounts").iter().any(|account| {
        account["marketplace"] == "ebay"
            && account["clientId"] == entries["clientId"]
            && account["clientSecret"] == entries["clientSecret"]
    });
    assert!(known);
    assert!((32..=80).contains(&entries["verificationToken"].as_str().expect("a token").len()));
}
