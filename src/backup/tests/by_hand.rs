//! Backups outside the cluster, as a person reads them.

use std::{fs, io::Write};

use age::secrecy::ExposeSecret;
use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use marketrelay_audit::hex;
use marketrelay_backup::BackupId;
use marketrelay_snapshot::{Begin, Data, Value, Writer, compress};
use serde_json::{Value as Json, json};

use crate::{
    relay::{CONNECTION, manifest, signed, signer},
    s3::Bucket,
    world::{DAY, World},
};

/// A backup with two orders, and the file of its identity.
async fn encrypted(world: &World) -> (String, String) {
    let id = BackupId::mint(Timestamp::now()).to_string();
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public();
    let encryptor = age::Encryptor::with_recipients([&recipient as &dyn age::Recipient].into_iter());
    let stream = encryptor.expect("one recipient").wrap_output(Vec::new()).expect("memory");
    let begin = Begin { backup: id.clone(), connection_id: CONNECTION.to_owned(), schema: 7 };
    let mut writer = Writer::new(compress(stream).expect("memory"), &begin).expect("memory");
    writer.table("orders", &["key", "status", "sealed"]).expect("a table");
    for number in 0..2 {
        let row = [Value::Integer(number), Value::Text("shipped"), Value::Blob(&[1, 2, 255])];
        writer.row(&row).expect("a row");
    }
    writer.table("deliveries", &["at"]).expect("a table");
    let (stream, tables) = writer.finish().expect("whole");
    let data = stream.finish().expect("memory").finish().expect("memory");
    let said = Data { bytes: data.len() as u64, sha256: hex(digest(&SHA256, &data).as_ref()) };
    let mut manifest = manifest(&id, Timestamp::now(), said);
    manifest.tables = tables;
    world.s3.put(&world.key(&format!("{id}/data")), &data).await;
    world.s3.put(&world.key(&format!("{id}/manifest.json")), &signed(&manifest)).await;
    let file = world.path("identity.txt");
    let mut out = fs::File::create(&file).expect("a file");
    writeln!(out, "# of a test\n{}", identity.to_string().expose_secret()).expect("written");
    (id, file.display().to_string())
}

async fn world() -> World {
    World::with(Bucket::Versions, 1000).await
}

#[tokio::test]
async fn backups_are_listed_and_shown() {
    let world = world().await;
    let old = world.backup_of(DAY * 3).await;
    let half = BackupId::mint(Timestamp::now() - DAY * 2).to_string();
    world.s3.put(&world.key(&format!("{half}/data")), b"half").await;
    let new = world.backup_of(DAY).await;
    world.s3.put(&world.key("notes.txt"), b"foreign").await;
    let (success, table) = world.by_hand(&["list"]).await;
    assert!(success, "{table}");
    let lines: Vec<_> = table.lines().collect();
    for (line, (id, state)) in
        lines[1..].iter().zip([(&old, "complete"), (&half, "incomplete"), (&new, "complete")])
    {
        assert!(line.starts_with(id.as_str()) && line.ends_with(state), "{table}");
    }
    assert!(table.contains("notes.txt"), "{table}");
    let (success, text) = world.by_hand(&["show"]).await;
    assert!(success && text.contains(&new) && text.contains("acme/bol (bol)"), "{text}");
    let (_, json) = world.by_hand(&["show", &old, "--json"]).await;
    let json: Json = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["backup"], old.as_str());
    let (success, said) = world.by_hand(&["show", "20200101T000000Z-00000000"]).await;
    assert!(!success && said.contains("list"), "{said}");
    let (success, said) = world.by_hand_below("elsewhere/id", &["list"]).await;
    assert!(success && said.contains("nothing is below elsewhere/id/"), "{said}");
}

#[tokio::test]
async fn a_whole_backup_verifies_with_and_without_its_identity() {
    let world = world().await;
    let (id, identity) = encrypted(&world).await;
    let key = signer().public_key();
    let (success, said) = world.by_hand(&["verify", &id, "--public-key", &key]).await;
    assert!(success && said.contains("the relay's key") && said.contains("not decrypted"), "{said}");
    let (success, said) = world.by_hand(&["verify", &id, "--identity", &identity]).await;
    assert!(success && said.contains("2 tables with 2 rows"), "{said}");
    let (success, said) = world.by_hand(&["verify", &id, "--public-key", &"0".repeat(64)]).await;
    assert!(!success && said.contains("signature is another key's"), "{said}");
    let newest = world.backup_of(DAY / -1440).await;
    fs::write(&world.s3.objects()[&world.key(&format!("{newest}/manifest.json"))], "{}").expect("damaged");
    let (success, said) = world.by_hand(&["verify"]).await;
    assert!(!success && said.contains(&newest) && said.contains(&format!("good one is {id}")), "{said}");
}

#[tokio::test]
async fn with_the_wrong_public_key_backups_that_are_there_are_not_told_as_missing() {
    let world = world().await;
    let (old, new) = (world.backup_of(DAY * 2).await, world.backup_of(DAY).await);
    let wrong = "0".repeat(64);
    let identity = world.path("identity.txt").display().to_string();
    fs::write(&identity, age::x25519::Identity::generate().to_string().expose_secret()).expect("a file");
    let to = world.path("rows.jsonl").display().to_string();
    let restore = ["restore", "--identity", &identity, "--to", &to, "--public-key", &wrong];
    for words in [&["verify", "--public-key", &wrong][..], &restore, &["show", &old, "--public-key", &wrong]]
    {
        let (success, said) = world.by_hand(words).await;
        assert!(!success && !said.contains("there is no"), "{said}");
        let id = if words[0] == "show" { &old } else { &new };
        for part in [id, "signature is another key's", "--public-key"] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(words[0] != "show", said.contains("none of the 2"), "{said}");
    }
}

#[tokio::test]
async fn a_flipped_bit_another_identity_and_a_lying_manifest_are_told_apart() {
    let world = world().await;
    let (id, identity) = encrypted(&world).await;
    let data = world.s3.objects()[&world.key(&format!("{id}/data"))].clone();
    let whole = fs::read(&data).expect("an object");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&data, &flipped).expect("on the store's disk");
    for words in [vec!["verify", &id], vec!["verify", &id, "--identity", &identity]] {
        let (success, said) = world.by_hand(&words).await;
        assert!(!success && said.contains("the data was altered"), "{said}");
    }
    let to = world.path("rows.jsonl").display().to_string();
    let (success, said) = world.by_hand(&["restore", &id, "--identity", &identity, "--to", &to]).await;
    assert!(!success && said.contains("altered") && !world.path("rows.jsonl").exists(), "{said}");
    fs::write(&data, &whole).expect("on the store's disk");
    let other = world.path("other.txt").display().to_string();
    let secret = age::x25519::Identity::generate().to_string();
    fs::write(&other, secret.expose_secret()).expect("a file");
    let (success, said) = world.by_hand(&["verify", &id, "--identity", &other]).await;
    assert!(!success && said.contains("backup.20261229T000000Z"), "{said}");
    let json = world.key(&format!("{id}/manifest.json"));
    let parsed = fs::read(&world.s3.objects()[&json]).expect("an object");
    let parsed = marketrelay_snapshot::SignedManifest::parse(&parsed).expect("signed");
    let mut lie = parsed.manifest(None).expect("a manifest");
    lie.tables[0].rows = 3;
    world.s3.put(&json, &signed(&lie)).await;
    let (success, said) = world.by_hand(&["verify", &id]).await;
    assert!(success, "without the identity nothing shows it: {said}");
    let (success, said) = world.by_hand(&["verify", &id, "--identity", &identity]).await;
    assert!(!success && said.contains("table orders has 2 rows, it says 3"), "{said}");
}

#[tokio::test]
async fn restored_rows_are_json_lines_and_no_file_is_overwritten() {
    let world = world().await;
    let (_, identity) = encrypted(&world).await;
    let to = world.path("rows.jsonl");
    let words = ["restore", "newest", "--identity", &identity, "--to", &to.display().to_string()];
    let (success, said) = world.by_hand(&words).await;
    assert!(success && said.contains("2 rows of 2 tables"), "{said}");
    let text = fs::read_to_string(&to).expect("rows");
    let lines: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let row = |key: i64| json!({"table": "orders", "row": {"key": key, "status": "shipped", "sealed": {"base64": "AQL/"}}});
    assert_eq!(lines, [row(0), row(1)]);
    let (success, said) = world.by_hand(&words).await;
    assert!(!success && said.contains("already"), "{said}");
    assert_eq!(fs::read_to_string(&to).expect("rows"), text);
}

#[tokio::test]
async fn what_is_missing_on_the_command_line_is_named() {
    let world = world().await;
    let (success, said) = world.by_hand(&["verify"]).await;
    assert!(!success && said.contains("there is no backup \"newest\""), "{said}");
    let words = ["verify", "--identity", "/nowhere"];
    let (success, said) = world.by_hand(&words).await;
    assert!(!success && said.contains("/nowhere"), "{said}");
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_marketrelay-backup"))
        .args(["list", "--bucket", "backups", "--prefix", CONNECTION])
        .env_remove("AWS_ACCESS_KEY_ID")
        .output()
        .expect("a process");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("AWS_ACCESS_KEY_ID"), "{said}");
}
