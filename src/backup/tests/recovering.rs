//! A lost cluster's connections come back from the off-site store and the escrow identity.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path};

use age::secrecy::ExposeSecret;
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use marketrelay_api::{
    ErasureRequest,
    backup::{PastErasure, PastErasures, Site},
    labels,
};
use marketrelay_audit::hex;
use marketrelay_escrow::{Entries, Escrow, Identity, VERSION};
use marketrelay_keyring::{BackupIdentities, DestroyAt, Keyring};
use serde::Deserialize;
use serde_yaml::Value;

use crate::{
    relay::CONNECTION,
    tenant::{Tenant, id, signer},
    world::DAY,
};

/// The operator's prefix at the off-site store.
pub const PREFIX: &str = "off-site";
const UID: &str = "0b5f2c1e-8a43-4f0b-9c55-0d8c7a6e4f21";

pub fn entries(of: BTreeMap<String, Vec<u8>>) -> Entries {
    of.into_iter().collect()
}

/// As the operator writes it.
pub fn escrow(tenant: &Tenant) -> Escrow {
    let mut keyring = tenant.keyring.clone();
    keyring.set_recipients(BTreeMap::new());
    let mut keyring = keyring.entries();
    keyring.retain(|name, _| !name.starts_with("volume."));
    Escrow {
        version: VERSION,
        connection_id: CONNECTION.to_owned(),
        namespace: "acme".to_owned(),
        name: "bol".to_owned(),
        marketplace: "bol".to_owned(),
        chain: Some("chain-1".to_owned()),
        keyring: entries(keyring),
        identities: entries(tenant.identities.entries()),
        digest_key: entries([("digest-key".to_owned(), tenant.digest.to_vec())].into()),
        erasures: PastErasures::default(),
    }
}

/// A file that holds it.
pub fn identity_file(tenant: &Tenant, name: &str, identity: &Identity) -> String {
    let path = tenant.world.path(name);
    fs::write(&path, format!("# of a test\n{}\n", identity.to_string().expose_secret())).expect("a file");
    path.display().to_string()
}

impl Tenant {
    pub async fn put_escrowed(&self, escrow: &Escrow, identity: &Identity) {
        let sealed = escrow.seal(&[identity.to_public()]).expect("sealed");
        let key = format!("{PREFIX}/{}/escrow/keyring.age", escrow.connection_id);
        self.world.s3.put(&key, &sealed).await;
    }

    /// The program: nothing that it says has a key in it, and nothing is left of what it needed for a while.
    pub async fn recover(&self, words: &[&str]) -> (bool, String) {
        let (success, said) = self.world.by_hand_below(PREFIX, &[&["recover"], words].concat()).await;
        assert!(!said.replace("AGE-SECRET-KEY-1…", "").contains("SECRET"), "{said}");
        let seed = self.keyring.audit_key().expect("a seed").expose();
        for secret in [BASE64_STANDARD.encode(seed), BASE64_STANDARD.encode(self.digest)] {
            assert!(!said.contains(&secret), "{said}");
        }
        let left: Vec<_> = fs::read_dir(self.world.temporary()).expect("a folder").collect();
        assert!(left.is_empty(), "{left:?}");
        (success, said)
    }
}

pub fn objects(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let documents = serde_yaml::Deserializer::from_str(&text);
    documents.map(|document| Value::deserialize(document).expect("YAML")).collect()
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("a name")
}

fn data(secret: &Value) -> BTreeMap<String, Vec<u8>> {
    let map = secret["data"].as_mapping().expect("data");
    let entry = |(name, text): (&Value, &Value)| {
        let bytes = BASE64_STANDARD.decode(text.as_str().expect("text")).expect("base64");
        (name.as_str().expect("a name").to_owned(), bytes)
    };
    map.iter().map(entry).collect()
}

fn named(entries: &BTreeMap<String, Vec<u8>>) -> impl Iterator<Item = (&str, &[u8])> {
    entries.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
}

fn labels_of(secret: &Value) -> BTreeMap<String, String> {
    serde_yaml::from_value(secret["metadata"]["labels"].clone()).expect("labels")
}

#[tokio::test]
async fn a_new_cluster_gets_the_keys_without_those_whose_time_has_come_and_restores_the_newest_backup() {
    let mut tenant = Tenant::start().await;
    tenant.collect(&["A1", "A2"]).await;
    let taken = tenant.back_up(Site::OffSite).await;
    let identity = Identity::generate();
    let mut document = escrow(&tenant);
    let gone = DestroyAt::from_second(Timestamp::now().as_second() - 1).to_string();
    let mut with_gone = tenant.keyring.entries();
    with_gone.insert(gone.clone(), vec![7; 32]);
    document.keyring = entries(with_gone);
    tenant.put_escrowed(&document, &identity).await;
    let file = identity_file(&tenant, "escrow.txt", &identity);
    let to = tenant.world.path("recovered");
    let (success, said) = tenant.recover(&["--identity", &file, "--to", &to.display().to_string()]).await;
    assert!(success, "{said}");
    let row = said.lines().nth(1).expect("a row").split_whitespace().collect::<Vec<_>>();
    let keys = tenant.keyring.live(Timestamp::now()).count().to_string();
    let time = taken.manifest.created_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    assert_eq!(row, ["acme", "bol", "bol", &keys, &time], "{said}");
    assert!(said.contains("kubectl create -f") && said.contains("namespaces"), "{said}");

    let path = to.join("keys/acme.yaml");
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    let secrets = objects(&path);
    let names: Vec<_> = secrets.iter().map(name).collect();
    assert_eq!(names, ["marketrelay-digest-key", "bol-keyring", "bol-backup-identities"]);
    assert!(secrets.iter().all(|secret| secret["metadata"]["namespace"] == "acme"));
    assert!(!to.join("erasures/acme.yaml").exists());
    let of_keyring = labels_of(&secrets[1]);
    for (label, value) in [
        ("app.kubernetes.io/name", "marketrelay"),
        ("app.kubernetes.io/managed-by", "marketrelay-operator"),
        ("app.kubernetes.io/component", "keys"),
        ("app.kubernetes.io/instance", "bol"),
        ("marketrelay.dev/connection", "bol"),
        ("marketrelay.dev/connection-id", CONNECTION),
        ("velero.io/exclude-from-backup", "true"),
    ] {
        assert_eq!(of_keyring[label], value);
    }
    assert_eq!(labels_of(&secrets[2]), of_keyring);
    assert!(!labels_of(&secrets[0]).contains_key("marketrelay.dev/connection"));
    assert_eq!(secrets[1]["metadata"]["annotations"]["marketrelay.dev/database"], "chain-1");

    let [digest, keyring, identities] = [0, 1, 2].map(|at: usize| data(&secrets[at]));
    assert_eq!(digest["digest-key"], tenant.digest);
    assert!(!keyring.contains_key(&gone), "its time has come");
    let read = Keyring::from_entries(named(&keyring)).expect("a keyring");
    assert!(read.recipients().is_empty() && read.volume_generation() == 1);
    assert_ne!(keyring["volume.1"], tenant.keyring.entries()["volume.1"], "that of the lost cluster");
    let epochs = |keyring: &BTreeMap<String, Vec<u8>>| {
        let mut keyring = keyring.clone();
        keyring.retain(|name, _| !name.starts_with("volume.") && !name.starts_with("backup."));
        keyring
    };
    assert_eq!(epochs(&keyring), epochs(&tenant.keyring.entries()));
    assert_eq!(identities, tenant.identities.entries());

    // What a restore in the new cluster has.
    tenant.lose_volume();
    tenant.keyring = read;
    tenant.identities = BackupIdentities::from_entries(named(&identities)).expect("identities");
    let restored = tenant.restore().await;
    assert_eq!((restored.backup.as_str(), restored.orders), (taken.id(), 2));
    assert!(tenant.has("A1").await && tenant.has("A2").await);
}

#[tokio::test]
async fn what_was_erased_becomes_requests_of_all_connections_that_know_it() {
    let tenant = Tenant::start().await;
    let identity = Identity::generate();
    let subject: Vec<_> = (0..150).map(|number| tenant.subject(&format!("A{number}"))).collect();
    let erasures = PastErasures {
        requests: vec![PastErasure { uid: UID.to_owned(), subject: subject.clone() }],
        since: None,
    };
    let one = Escrow { erasures, chain: None, ..escrow(&tenant) };
    let id: marketrelay_keyring::ConnectionId =
        "11111111-5d1e-4c57-9a0b-6d2f8e1c7b34".parse().expect("an id");
    let keyring = Keyring::generate(id.clone()).expect("a keyring");
    let other = Escrow {
        connection_id: id.to_string(),
        name: "ebay".to_owned(),
        keyring: entries(keyring.entries()),
        identities: entries(BackupIdentities::new(id).entries()),
        ..one.clone()
    };
    tenant.put_escrowed(&one, &identity).await;
    tenant.put_escrowed(&other, &identity).await;
    let file = identity_file(&tenant, "escrow.txt", &identity);
    let to = tenant.world.path("recovered");
    let (success, said) = tenant.recover(&["--identity", &file, "--to", &to.display().to_string()]).await;
    assert!(success, "a connection without backups is no problem: {said}");
    let secrets = objects(&to.join("keys/acme.yaml"));
    assert_eq!(secrets.iter().filter(|secret| name(secret) == "marketrelay-digest-key").count(), 1);
    assert_eq!(secrets.len(), 5);
    assert_eq!(secrets[1]["metadata"]["annotations"]["marketrelay.dev/database"], "unknown");
    let requests: Vec<ErasureRequest> = objects(&to.join("erasures/acme.yaml"))
        .into_iter()
        .map(|object| serde_yaml::from_value(object).expect("a request"))
        .collect();
    let names: Vec<_> = requests.iter().map(|request| request.metadata.name.as_deref()).collect();
    let of_both = hex(&digest(&SHA256, b"bol ebay").as_ref()[..4]);
    let parts = [0, 1].map(|part| Some(format!("recovered-{UID}-{of_both}-{part}")));
    assert_eq!(names, parts.each_ref().map(Option::as_deref), "another folder's connections have others");
    assert!(requests.iter().all(|request| request.spec.connections == ["bol", "ebay"]));
    let source = |request: &ErasureRequest| request.metadata.labels.clone()?.remove(labels::SOURCE);
    assert!(
        requests.iter().all(|request| source(request).as_deref() == Some(labels::RECOVERED)),
        "restores repeat them"
    );
    let digests = requests.iter().flat_map(|request| request.spec.subject.digests.clone().expect("digests"));
    let mut digests: Vec<_> = digests.collect();
    let mut expected = subject;
    digests.sort();
    expected.sort();
    assert_eq!(digests, expected);
}

#[tokio::test]
async fn the_newest_backup_is_drilled_with_the_escrowed_copy_alone() {
    let tenant = Tenant::start().await;
    tenant.collect(&["A1", "A2"]).await;
    tenant.back_up(Site::OffSite).await;
    let identity = Identity::generate();
    let subject = vec![tenant.subject("A1")];
    let erasures = PastErasures { requests: vec![PastErasure { uid: UID.to_owned(), subject }], since: None };
    tenant.put_escrowed(&Escrow { erasures, ..escrow(&tenant) }, &identity).await;
    tenant.lose_volume();
    let other = Identity::generate();
    let file = identity_file(&tenant, "escrow.txt", &identity);
    let both = tenant.world.path("both.txt");
    let texts = [&other, &identity].map(|one| one.to_string().expose_secret().to_owned());
    fs::write(&both, texts.join("\n")).expect("a file");
    for file in [file.as_str(), &both.display().to_string()] {
        let (success, said) = tenant.recover(&["--identity", file, "--check"]).await;
        assert!(success, "{said}");
        let row = said.lines().nth(1).expect("a row");
        assert!(said.contains("TOOK") && row.starts_with("acme") && row.ends_with('s'), "{said}");
    }
    assert!(tenant.files().is_empty(), "nothing is restored");
}

#[tokio::test]
async fn a_newest_backup_that_can_not_be_restored_fails_the_check_though_an_older_one_is_good() {
    let tenant = Tenant::start().await;
    tenant.collect(&["A1"]).await;
    tenant.back_up(Site::OffSite).await;
    let identity = Identity::generate();
    let good = escrow(&tenant);
    tenant.put_escrowed(&good, &identity).await;
    let file = identity_file(&tenant, "escrow.txt", &identity);
    let check = ["--identity", file.as_str(), "--check"];
    assert!(tenant.recover(&check).await.0);
    let second = Timestamp::now().as_second();
    let later = || async { (Timestamp::now().as_second() > second).then_some(()) };
    crate::world::eventually("the ids of backups tell which is newer", later).await;
    let mut newest = tenant.take().await;
    let middle = newest.data.len() / 2;
    newest.data[middle] ^= 4;
    tenant.put(Site::OffSite, &newest).await;
    let (success, said) = tenant.recover(&check).await;
    assert!(!success && said.contains("1 of 1 connections"), "{said}");
    // Without its identity not even the listing is good.
    let mut identities = tenant.identities.entries();
    identities.remove(&newest.manifest.identity);
    tenant.put_escrowed(&Escrow { identities: entries(identities), ..good }, &identity).await;
    let to = tenant.world.path("recovered").display().to_string();
    for words in [&check[..], &["--identity", &file, "--to", &to]] {
        let (success, said) = tenant.recover(words).await;
        assert!(!success && said.contains(&newest.manifest.identity), "{said}");
    }
    assert!(Path::new(&to).join("keys/acme.yaml").exists(), "the keys are good all the same");
}

#[tokio::test]
async fn a_backup_that_another_key_has_signed_or_none_at_all_fails_the_check() {
    let mut tenant = Tenant::start().await;
    let identity = Identity::generate();
    let file = identity_file(&tenant, "escrow.txt", &identity);
    let check = ["--identity", file.as_str(), "--check"];
    tenant.put_escrowed(&escrow(&tenant), &identity).await;
    let (success, said) = tenant.recover(&check).await;
    assert!(!success && said.contains("there is no backup"), "{said}");
    tenant.collect(&["A1"]).await;
    tenant.back_up(Site::OffSite).await;
    assert!(tenant.recover(&check).await.0);
    let before = signer(&tenant.keyring).public_key();
    let now = Timestamp::now();
    tenant.keyring = Keyring::generate(id()).expect("a keyring");
    let grid = marketrelay_keyring::Grid::new(&id(), DAY);
    tenant.keyring.extend(grid, now, now + SignedDuration::from_hours(24 * 91)).expect("keys");
    assert_ne!(signer(&tenant.keyring).public_key(), before);
    tenant.put_escrowed(&escrow(&tenant), &identity).await;
    let (success, said) = tenant.recover(&check).await;
    assert!(!success && said.contains("signature"), "{said}");
}

#[tokio::test]
async fn it_is_told_if_not_all_that_was_erased_is_escrowed_and_which_backups_that_forbids() {
    let tenant = Tenant::start().await;
    tenant.collect(&["A1"]).await;
    tenant.back_up(Site::OffSite).await;
    let identity = Identity::generate();
    let file = identity_file(&tenant, "escrow.txt", &identity);
    let to = tenant.world.path("recovered").display().to_string();
    let escrowed = |since| {
        let erasures = PastErasures { requests: Vec::new(), since: Some(since) };
        Escrow { erasures, ..escrow(&tenant) }
    };
    let since = Timestamp::now() - crate::world::DAY;
    tenant.put_escrowed(&escrowed(since), &identity).await;
    let (success, said) = tenant.recover(&["--identity", &file, "--to", &to]).await;
    assert!(success && said.contains("acme/bol: not all that was erased before"), "{said}");
    let secrets = objects(&Path::new(&to).join("keys/acme.yaml"));
    let keyring = secrets.iter().find(|secret| name(secret) == "bol-keyring").expect("a keyring");
    let known = keyring["metadata"]["annotations"][labels::ERASURES_KNOWN_SINCE].as_str();
    assert_eq!(known, Some(&*since.to_string()), "the new cluster's restores know it, too");
    tenant.put_escrowed(&escrowed(Timestamp::now() + crate::world::DAY), &identity).await;
    for words in [&["--check"][..], &["--to", &format!("{to}-2")]] {
        let (success, said) = tenant.recover(&[&["--identity", &file], words].concat()).await;
        assert!(!success && said.contains("bring"), "{said}");
    }
}
