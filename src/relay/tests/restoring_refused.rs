//! A backup that isn't what it should be is refused with what is wrong, and leaves nothing.

use std::fs;

use jiff::SignedDuration;
use marketrelay_audit::Signer;
use marketrelay_keyring::{BackupIdentities, DigestKey, Keyring, SecretKey};
use marketrelay_marketplace::Marketplace;
use marketrelay_relay::store::{
    StoreError,
    import::{Backup, ImportError, Imported, Keys, import},
};
use marketrelay_snapshot::{FrameError, Manifest, ManifestError, SignedManifest};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::{
    common::{DATABASE_KEY, Delivery, Destination, Taken, audit_signer, order, with_hold},
    restoring::{NOTHING_SINCE, keyring, mount, taken, told},
};

const DAY: SignedDuration = SignedDuration::from_hours(24);

struct Case {
    delivery: Delivery,
    identities: BackupIdentities,
    taken: Taken,
    folder: TempDir,
}

async fn case() -> Case {
    let delivery = Delivery::to(&Destination::start().await);
    mount(&delivery, with_hold(&keyring(&delivery), "tax", delivery.now() + DAY * 60));
    delivery.ingest((0..40).map(|number| told(order(&format!("A{number}")))).collect()).await;
    let identities = delivery.begin_backups();
    let taken = taken(&delivery, Marketplace::Bol).await;
    Case { delivery, identities, taken, folder: TempDir::new().expect("a folder") }
}

impl Case {
    fn identity(&self) -> &age::x25519::Identity {
        self.identities.identity(self.taken.manifest.identity.parse().expect("a name")).expect("alive")
    }

    fn import_with(
        &self,
        manifest: &SignedManifest,
        data: &[u8],
        identity: &age::x25519::Identity,
        keyring: &Keyring,
    ) -> Result<Imported, ImportError> {
        let digest = &self.delivery.digest_key;
        let keys = Keys { keyring, digest, database: &SecretKey::from(DATABASE_KEY) };
        let path = self.folder.path().join("marketrelay.db");
        let (backup, now) = (Backup { manifest, data, identity }, self.delivery.now());
        import(&path, backup, keys, NOTHING_SINCE, now, &CancellationToken::new())
    }

    /// Refused, and nothing is left.
    fn refused(&self, manifest: &SignedManifest, data: &[u8]) -> ImportError {
        let keyring = keyring(&self.delivery);
        let error = self.import_with(manifest, data, self.identity(), &keyring).expect_err("refused");
        self.left_nothing();
        error
    }

    fn left_nothing(&self) {
        assert_eq!(fs::read_dir(self.folder.path()).expect("a folder").count(), 0);
    }

    /// The manifest as its own relay would have signed it, with something else in it.
    fn signed(&self, change: impl FnOnce(&mut Manifest)) -> SignedManifest {
        let mut manifest = self.taken.manifest.clone();
        change(&mut manifest);
        SignedManifest::sign(&manifest, &audit_signer(&keyring(&self.delivery))).expect("signed")
    }
}

#[tokio::test]
async fn data_that_was_cut_short_is_refused_wherever_it_ends() {
    let case = case().await;
    let data = &case.taken.data;
    for kept in [0, 10, 100, 300, data.len() / 2, data.len() - 1] {
        let error = case.refused(&case.taken.signed, &data[..kept]);
        assert!(
            matches!(error, ImportError::Encryption { .. } | ImportError::Data { .. }),
            "{kept}: {error}"
        );
    }
}

#[tokio::test]
async fn a_flipped_bit_is_refused_wherever_it_is() {
    let case = case().await;
    let length = case.taken.data.len();
    for at in (0..length).step_by(length / 40).chain([length - 1]) {
        let mut data = case.taken.data.clone();
        data[at] ^= 4;
        let error = case.refused(&case.taken.signed, &data);
        assert!(
            matches!(
                error,
                ImportError::Encryption { .. } | ImportError::Identity { .. } | ImportError::Data { .. }
            ),
            "{at}: {error}"
        );
    }
    let mut longer = case.taken.data.clone();
    longer.push(0);
    case.refused(&case.taken.signed, &longer);
}

#[tokio::test]
async fn a_backup_of_another_connection_is_refused() {
    let (one, other) = (case().await, case().await);
    let error = one.refused(&other.taken.signed, &other.taken.data);
    assert!(matches!(error, ImportError::Manifest { source: ManifestError::OtherKey { .. } }), "{error}");
    let error = one.refused(&one.taken.signed, &other.taken.data);
    assert!(matches!(error, ImportError::Identity { .. }), "{error}");
    let renamed = one.signed(|manifest| manifest.connection_id.replace_range(0..1, "0"));
    let error = one.refused(&renamed, &one.taken.data);
    assert!(matches!(error, ImportError::OtherConnection { .. }), "{error}");
}

#[tokio::test]
async fn the_data_of_another_backup_is_refused() {
    let case = case().await;
    let mut request = case.delivery.snapshot_request("20261130T003250Z-00000000");
    request.connection.marketplace = "bol";
    let other = case.delivery.take(request).await.expect("a snapshot");
    let error = case.refused(&case.taken.signed, &other.data);
    assert!(matches!(error, ImportError::Data { source: FrameError::Contradiction { .. } }), "{error}");
}

type Lie = fn(&mut Manifest);

#[tokio::test]
async fn a_manifest_that_somebody_else_has_signed_or_that_lies_is_refused() {
    let case = case().await;
    let stranger = Signer::new(&[9; 32]).expect("a key");
    let forged = SignedManifest::sign(&case.taken.manifest, &stranger).expect("signed");
    let error = case.refused(&forged, &case.taken.data);
    assert!(matches!(error, ImportError::Manifest { source: ManifestError::OtherKey { .. } }), "{error}");
    let lies: [(&str, Lie); 6] = [
        ("rows", |manifest| manifest.tables[2].rows += 1),
        ("a checksum", |manifest| manifest.tables[2].sha256 = "00".repeat(32)),
        ("a table less", |manifest| drop(manifest.tables.pop())),
        ("the data", |manifest| manifest.data.sha256 = "00".repeat(32)),
        ("the audit log", |manifest| manifest.audit.sequence += 1),
        ("a newer schema", |manifest| manifest.schema += 1),
    ];
    for (what, lie) in lies {
        let error = case.refused(&case.signed(lie), &case.taken.data);
        let fits = match what {
            "the data" => matches!(error, ImportError::OtherData { .. }),
            "the audit log" => matches!(error, ImportError::AuditLog),
            "a newer schema" => {
                matches!(error, ImportError::Store { source: StoreError::NewerSchema { .. } })
            }
            _ => matches!(error, ImportError::Data { source: FrameError::Contradiction { .. } }),
        };
        assert!(fits, "{what}: {error}");
    }
}

#[tokio::test]
async fn with_wrong_keys_a_backup_is_refused_by_the_name_of_what_is_wrong() {
    let mut case = case().await;
    let alive = keyring(&case.delivery);
    let (Taken { signed, data, .. }, wrong) = (case.taken.clone(), age::x25519::Identity::generate());
    let error = case.import_with(&signed, &data, &wrong, &alive).expect_err("refused");
    assert!(
        matches!(&error, ImportError::Identity { name } if *name == case.taken.manifest.identity),
        "{error}"
    );
    case.left_nothing();

    let entries = alive.entries();
    let kept = |prefix: &'static str| {
        let entries = entries.iter().filter(move |(name, _)| !name.starts_with(prefix));
        Keyring::from_entries(entries.map(|(name, bytes)| (name.as_str(), bytes.as_slice())))
            .expect("a keyring")
    };
    let error = case.import_with(&signed, &data, case.identity(), &kept("epoch.")).expect_err("refused");
    assert!(matches!(error, ImportError::KeyMissing { .. }), "{error}");
    let error = case.import_with(&signed, &data, case.identity(), &kept("audit")).expect_err("refused");
    assert!(matches!(error, ImportError::NoAuditKey), "{error}");
    case.left_nothing();

    let known = case.delivery.store.claim_digest_key(&case.delivery.digest_key).await;
    known.expect("the first one");
    let taken = taken(&case.delivery, Marketplace::Bol).await;
    case.delivery.digest_key = DigestKey::new(&SecretKey::from([7; 32])).into();
    let error = case.refused(&taken.signed, &taken.data);
    assert!(matches!(error, ImportError::Store { source: StoreError::OtherDigestKey }), "{error}");
}

#[tokio::test]
async fn a_database_that_is_there_is_left_alone_and_what_a_killed_import_left_is_not() {
    let case = case().await;
    let path = case.folder.path().join("marketrelay.db");
    fs::write(case.folder.path().join("marketrelay.db.restoring"), "half of it").expect("a file");
    fs::write(case.folder.path().join("marketrelay.db.restoring-wal"), "half of it").expect("a file");
    let alive = keyring(&case.delivery);
    let import = || case.import_with(&case.taken.signed, &case.taken.data, case.identity(), &alive);
    assert_eq!(import().expect("imported").orders, 40);
    let before = fs::read(&path).expect("a database");
    let error = import().expect_err("refused");
    assert!(matches!(error, ImportError::Exists { .. }), "{error}");
    assert_eq!(fs::read(&path).expect("a database"), before);
    assert_eq!(fs::read_dir(case.folder.path()).expect("a folder").count(), 1);
}

#[tokio::test]
async fn an_import_that_is_asked_to_end_leaves_nothing() {
    let case = case().await;
    let (keyring, stop) = (keyring(&case.delivery), CancellationToken::new());
    let (digest, database) = (&case.delivery.digest_key, SecretKey::from(DATABASE_KEY));
    let keys = Keys { keyring: &keyring, digest, database: &database };
    let (manifest, data, identity) = (&case.taken.signed, &case.taken.data[..], case.identity());
    let path = case.folder.path().join("marketrelay.db");
    stop.cancel();
    let backup = Backup { manifest, data, identity };
    let error = import(&path, backup, keys, NOTHING_SINCE, case.delivery.now(), &stop).expect_err("ended");
    assert!(matches!(error, ImportError::Stopped), "{error}");
    case.left_nothing();
}
