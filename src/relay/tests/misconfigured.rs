//! Mounts that are missing or wrong, and configurations that can't be used: told, not crashed over.

use std::{fs, time::Duration};

use marketrelay_api::relay::{RelayConfig, RelayStatus, paths};
use marketrelay_keyring::{ConnectionId, Keyring};

use crate::common::{Authority, CLIENT, Control, Mounts, SECRET, bol, eventually, sandbox, write};

const SOON: Duration = Duration::from_secs(30);

/// A relay that lacks something, and who asks it.
struct Lacking {
    mounts: Mounts,
    process: crate::common::Process,
    url: String,
    operator: reqwest::Client,
    control: Control,
    _sandbox: marketrelay_sandbox::Sandbox,
}

async fn lacking(spoil: impl FnOnce(&Mounts)) -> Lacking {
    let sandbox = sandbox(3).await;
    let (authority, mounts) = (Authority::new(), Mounts::new(&sandbox, bol()));
    authority.mount(mounts.folder.path());
    spoil(&mounts);
    let process = mounts.spawn();
    let url = format!("https://{}/v1/status", process.address().await);
    let operator = authority.http(Some(&authority.client(paths::OPERATOR_ROLE)));
    Lacking { mounts, process, url, operator, control: Control::new(&sandbox), _sandbox: sandbox }
}

impl Lacking {
    async fn status(&self) -> Option<RelayStatus> {
        self.operator.get(&self.url).send().await.ok()?.json().await.ok()
    }

    /// The message beside the reason.
    async fn reason(&self, reason: &str) -> String {
        eventually(reason, SOON, || async {
            let status = self.status().await?;
            let activities = [status.collecting, status.delivering];
            let activity = activities.into_iter().find(|one| one.reason.as_deref() == Some(reason))?;
            activity.message
        })
        .await
    }

    async fn mended(self) {
        self.control.all_received(CLIENT, jiff::Timestamp::MAX).await;
        let works = || async {
            let status = self.status().await?;
            (status.collecting.reason.is_none() && status.delivering.reason.is_none()).then_some(())
        };
        eventually("everything works", SOON, works).await;
        assert!(self.process.terminate(SOON).await.success());
    }
}

fn remove(mounts: &Mounts, path: &str) {
    let path = mounts.folder.path().join(path.trim_start_matches('/'));
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
}

#[tokio::test]
async fn without_its_credentials_it_waits_and_names_the_entry() {
    let entry = format!("{}/clientSecret", paths::CREDENTIALS);
    let relay = lacking(|mounts| remove(mounts, &entry)).await;
    assert!(relay.reason("CredentialsIncomplete").await.contains("clientSecret"));
    relay.mounts.replace(&entry, "secret");
    relay.mended().await;
}

#[tokio::test]
async fn without_a_digest_key_it_waits_and_stores_nothing() {
    let entry = format!("{}/digest-key", paths::DIGEST);
    let key = [5; 32];
    let relay = lacking(|mounts| write(mounts.folder.path(), &entry, "short")).await;
    assert!(relay.reason("DigestKeyInvalid").await.contains("32 bytes"));
    assert_eq!(relay.status().await.map(|status| status.orders), Some(0));
    relay.mounts.replace(&entry, key);
    relay.mended().await;
}

#[tokio::test]
async fn without_a_signing_secret_it_collects_and_delivers_later() {
    let relay = lacking(|mounts| remove(mounts, paths::SIGNING)).await;
    assert!(relay.reason("SigningSecretInvalid").await.contains(paths::SIGNING));
    let stored = || async { (relay.status().await?.orders == 3).then_some(()) };
    eventually("three orders stored", SOON, stored).await;
    write(relay.mounts.folder.path(), &format!("{}/signingSecret", paths::SIGNING), SECRET);
    relay.mended().await;
}

#[tokio::test]
async fn with_the_keyring_of_another_connection_it_stores_nothing() {
    let entry = format!("{}/connection-id", paths::KEYRING);
    let other: ConnectionId = "00000000-1111-4222-8333-444455556666".parse().expect("an id");
    let bytes = Keyring::generate(other.clone()).expect("a keyring").entries().remove("connection-id");
    let relay = lacking(|mounts| write(mounts.folder.path(), &entry, bytes.expect("an entry"))).await;
    let message = relay.reason("KeyringInvalid").await;
    assert!(message.contains(other.as_str()) && message.contains(crate::common::ID), "{message}");
    relay.mounts.replace(&entry, crate::common::ID);
    relay.mended().await;
}

/// The last words of a relay that can't start.
async fn last_words(change: impl FnOnce(&mut RelayConfig), spoil: impl FnOnce(&Mounts)) -> String {
    let sandbox = sandbox(0).await;
    let mut mounts = Mounts::new(&sandbox, bol());
    change(&mut mounts.config);
    mounts.write_config();
    spoil(&mounts);
    let process = mounts.spawn();
    let log = mounts.folder.path().join("log");
    assert_eq!(process.ended(SOON).await.code(), Some(1));
    let log = fs::read_to_string(log).expect("a log");
    let last: serde_json::Value = serde_json::from_str(log.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["level"], "ERROR", "{log}");
    last["fields"]["error"].as_str().expect("an error").to_owned()
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_ends_it_with_the_field_s_name() {
    let told = |change: fn(&mut RelayConfig)| last_words(change, |_| {});
    for (field, error) in [
        ("pollIntervalSeconds", told(|config| config.poll_interval_seconds = 0).await),
        ("destination.batch.maxEvents", told(|config| config.destination.batch.max_events = 0).await),
        ("retention.keyEpochSeconds", told(|config| config.retention.key_epoch_seconds = -1).await),
        ("connection id", told(|config| config.connection_id = "shop".to_owned()).await),
        (
            "destination.url",
            told(|config| config.destination.url = "http://erp.example/".parse().expect("a URL")).await,
        ),
        (
            "allowedNetworks",
            told(|config| config.destination.url = "https://10.0.0.1/".parse().expect("a URL")).await,
        ),
        (
            "extraCaCertificates",
            told(|config| config.egress.extra_ca_certificates = "-----BEGIN CERTIFICATE-----\n".to_owned())
                .await,
        ),
    ] {
        assert!(error.contains(field), "{field}: {error}");
    }
}

#[tokio::test]
async fn a_configuration_that_is_missing_or_no_yaml_ends_it_with_the_file_s_name() {
    let missing = last_words(|_| {}, |mounts| remove(mounts, paths::CONFIG)).await;
    let broken =
        last_words(|_| {}, |mounts| write(mounts.folder.path(), paths::CONFIG, "suspend: maybe")).await;
    let unknown = |mounts: &Mounts| {
        let text = serde_yaml::to_string(&mounts.config).expect("YAML");
        write(mounts.folder.path(), paths::CONFIG, format!("{text}\nspeed: 3\n"));
    };
    let unknown = last_words(|_| {}, unknown).await;
    for error in [&missing, &broken, &unknown] {
        assert!(error.contains("relay.yaml"), "{error}");
    }
    assert!(unknown.contains("speed"), "{unknown}");
}

#[tokio::test]
async fn without_the_right_database_key_it_ends_and_says_which_secret_is_meant() {
    let entry = format!("{}/database-key", paths::DATABASE_KEY);
    let missing = last_words(|_| {}, |mounts| remove(mounts, &entry)).await;
    assert!(missing.contains("\"database-key\"") && missing.contains(paths::DATABASE_KEY), "{missing}");
    let short = last_words(|_| {}, |mounts| write(mounts.folder.path(), &entry, "short")).await;
    assert!(short.contains("32 bytes, it has 5"), "{short}");
    let sandbox = sandbox(0).await;
    let mounts = Mounts::new(&sandbox, bol());
    mounts.store().close().await.expect("a database");
    write(mounts.folder.path(), &entry, [3; 32]);
    let process = mounts.spawn();
    let log = mounts.folder.path().join("log");
    assert_eq!(process.ended(SOON).await.code(), Some(1));
    let log = fs::read_to_string(log).expect("a log");
    assert!(log.contains("is it the Secret that it was created with"), "{log}");
}
