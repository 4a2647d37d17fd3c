//! What can't be recovered is named, and keeps nothing else back.

use std::{collections::BTreeMap, fs};

use marketrelay_escrow::{Escrow, Identity};
use marketrelay_keyring::{BackupIdentities, ConnectionId, Keyring};

use crate::{
    recovering::{PREFIX, entries, escrow, identity_file, name, objects},
    relay::CONNECTION,
    tenant::Tenant,
};

/// Another connection's, with keys of its own.
fn another(tenant: &Tenant, first: &str, namespace: &str, connection: &str) -> Escrow {
    let id: ConnectionId = format!("{first}-5d1e-4c57-9a0b-6d2f8e1c7b34").parse().expect("an id");
    let keyring = Keyring::generate(id.clone()).expect("a keyring");
    Escrow {
        connection_id: id.to_string(),
        namespace: namespace.to_owned(),
        name: connection.to_owned(),
        keyring: entries(keyring.entries()),
        identities: entries(BackupIdentities::new(id).entries()),
        ..escrow(tenant)
    }
}

struct World {
    tenant: Tenant,
    identity: Identity,
    file: String,
    folders: usize,
}

impl World {
    async fn start() -> Self {
        let tenant = Tenant::start().await;
        let identity = Identity::generate();
        let file = identity_file(&tenant, "escrow.txt", &identity);
        Self { tenant, identity, file, folders: 0 }
    }

    async fn put(&self, escrow: &Escrow) {
        self.tenant.put_escrowed(escrow, &self.identity).await;
    }

    /// Into a new folder: whether that succeeded, what it says, and the names of the Secrets by namespace.
    async fn recover(&mut self, words: &[&str]) -> (bool, String, BTreeMap<String, Vec<String>>) {
        self.folders += 1;
        let to = self.tenant.world.path(&format!("recovered-{}", self.folders));
        let shown = to.display().to_string();
        let all = [&["--identity", &self.file, "--to", &shown][..], words].concat();
        let (success, said) = self.tenant.recover(&all).await;
        let files = fs::read_dir(to.join("keys")).into_iter().flatten().flatten().map(|file| file.path());
        let written = files.map(|path| {
            let namespace = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (namespace, objects(&path).iter().map(|object| name(object).to_owned()).collect())
        });
        (success, said, written.collect())
    }
}

fn line<'a>(said: &'a str, word: &str) -> &'a str {
    said.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{word}: {said}"))
}

#[tokio::test]
async fn those_that_can_not_be_opened_stop_no_other() {
    let mut world = World::start().await;
    world.put(&escrow(&world.tenant)).await;
    let [truncated, strange, moved, outside, other_keys] =
        ["11111111", "22222222", "33333333", "44444444", "55555555"]
            .map(|first| another(&world.tenant, first, "acme", "ebay"));
    let sealed = truncated.seal(&[world.identity.to_public()]).expect("sealed");
    let key = |id: &str| format!("{PREFIX}/{id}/escrow/keyring.age");
    world.tenant.world.s3.put(&key(&truncated.connection_id), &sealed[..sealed.len() - 9]).await;
    world.tenant.put_escrowed(&strange, &Identity::generate()).await;
    let elsewhere = "66666666-5d1e-4c57-9a0b-6d2f8e1c7b34";
    let sealed = moved.seal(&[world.identity.to_public()]).expect("sealed");
    world.tenant.world.s3.put(&key(elsewhere), &sealed).await;
    world.put(&Escrow { namespace: "../../etc".to_owned(), ..outside.clone() }).await;
    world.put(&Escrow { keyring: escrow(&world.tenant).keyring, ..other_keys.clone() }).await;
    // No connections: a deleted document, another folder, a file.
    let deleted = "77777777-5d1e-4c57-9a0b-6d2f8e1c7b34";
    world.tenant.world.s3.put(&key(deleted), b"x").await;
    world.tenant.world.s3.delete(&key(deleted)).await;
    world.tenant.world.s3.put(&key("notes"), b"x").await;
    world.tenant.world.s3.put(&format!("{PREFIX}/readme.txt"), b"x").await;
    let (success, said, written) = world.recover(&[]).await;
    assert!(!success && said.contains("5 of 6 connections have a problem"), "{said}");
    let names = ["marketrelay-digest-key", "bol-keyring", "bol-backup-identities"].map(str::to_owned);
    assert_eq!(written, [("acme".to_owned(), names.to_vec())].into());
    for (id, problem) in [
        (truncated.connection_id.as_str(), "can't be"),
        (&strange.connection_id, "with this identity"),
        (elsewhere, "another connection"),
        (&outside.connection_id, "a namespace or a connection that can't be"),
        (&other_keys.connection_id, "another connection's"),
    ] {
        assert!(line(&said, id).contains(problem), "{said}");
    }
    assert!(!said.contains("etc") && !said.contains(deleted) && !said.contains("notes"), "{said}");
}

#[tokio::test]
async fn digest_keys_that_disagree_are_written_for_neither_and_both_are_named() {
    let mut world = World::start().await;
    world.put(&escrow(&world.tenant)).await;
    let digest_key = entries([("digest-key".to_owned(), vec![9; 32])].into());
    world.put(&Escrow { digest_key, ..another(&world.tenant, "11111111", "acme", "ebay") }).await;
    world.put(&another(&world.tenant, "22222222", "emca", "bol")).await;
    let (success, said, written) = world.recover(&[]).await;
    assert!(!success && said.contains("acme/bol and acme/ebay have different digest keys"), "{said}");
    assert_eq!(written.into_keys().collect::<Vec<_>>(), ["emca"]);
    let (success, said, written) = world.recover(&["--namespace", "acme", "--connection", "ebay"]).await;
    assert!(success, "one of them alone can be chosen: {said}");
    assert_eq!(written["acme"][1], "ebay-keyring");
}

#[tokio::test]
async fn two_ids_of_one_name_are_told_apart_by_who_recovers() {
    let mut world = World::start().await;
    world.put(&escrow(&world.tenant)).await;
    let other = another(&world.tenant, "11111111", "acme", "bol");
    world.put(&other).await;
    let (success, said, written) = world.recover(&[]).await;
    assert!(!success && written.is_empty(), "{said}");
    assert!(said.contains(CONNECTION) && said.contains(&other.connection_id), "{said}");
    let (success, said, written) = world.recover(&["--connection", CONNECTION]).await;
    assert!(success && written.len() == 1, "{said}");
}

#[tokio::test]
async fn the_prefix_is_the_operators_and_similar_ones_are_not_meant() {
    let mut world = World::start().await;
    let similar = another(&world.tenant, "11111111", "acme", "similar");
    let sealed = similar.seal(&[world.identity.to_public()]).expect("sealed");
    let store = &world.tenant.world.s3;
    store.put(&format!("{PREFIX}-2/{}/escrow/keyring.age", similar.connection_id), &sealed).await;
    let (success, said, _) = world.recover(&[]).await;
    assert!(!success && said.contains("no escrowed keys under this prefix"), "{said}");
    world.put(&escrow(&world.tenant)).await;
    let (success, said, written) = world.recover(&[]).await;
    assert!(success && written["acme"].len() == 3 && !said.contains("similar"), "{said}");
    let (_, said, written) = world.recover(&["--connection", "nobody"]).await;
    assert!(said.contains("of such a connection") && written.is_empty(), "{said}");
    let words = ["recover", "--check", "--identity", world.file.as_str()];
    let (success, said) = world.tenant.world.by_hand_below(&format!("{PREFIX}/{CONNECTION}"), &words).await;
    assert!(!success && said.contains("the prefix above it"), "{said}");
    let id = &similar.connection_id;
    world.tenant.world.s3.put(&format!("{id}/escrow/keyring.age"), &sealed).await;
    let to = world.tenant.world.path("all").display().to_string();
    let words = ["recover", "--to", &to, "--identity", &world.file];
    let (success, said) = world.tenant.world.by_hand_below("", &words).await;
    assert!(success && line(&said, "similar").contains("acme"), "{said}");
}

#[tokio::test]
async fn what_can_not_be_used_on_the_command_line_is_named_before_anything_is_written() {
    let world = World::start().await;
    world.put(&escrow(&world.tenant)).await;
    let full = world.tenant.world.path("full");
    fs::create_dir_all(&full).expect("a folder");
    fs::write(full.join("notes"), "mine").expect("a file");
    let (full, file) = (full.display().to_string(), world.file.as_str());
    let new = world.tenant.world.path("new").display().to_string();
    let bad = world.tenant.world.path("bad.txt");
    fs::write(&bad, "age1qqqq").expect("a file");
    let bad = bad.display().to_string();
    for (words, word) in [
        (vec!["--identity", file, "--to", &full], "isn't empty"),
        (vec!["--identity", "/nowhere", "--to", &new], "/nowhere"),
        (vec!["--identity", &bad, "--to", &new], "is no identity"),
        (vec!["--identity", file], "--to"),
        (vec!["--identity", file], "--check"),
        (vec!["--identity", file, "--check", "--to", &new], "--check"),
    ] {
        let (success, said) = world.tenant.recover(&words).await;
        assert!(!success && said.contains(word), "{said}");
    }
    assert!(!world.tenant.world.path("new").exists());
}
