//! Snapshots, and the identities that open them.

use std::{
    io::{BufReader, Read},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::backup::Site;
use marketrelay_keyring::{BackupIdentities, ConnectionId, Grid, Keyring};
use marketrelay_relay::store::snapshot::{About, Request, Scope, Snapshot, SnapshotError};
use marketrelay_snapshot::{Manifest, SignedManifest, Unpacker, decompress};
use tokio::io::AsyncReadExt;

use super::{Delivery, ID, audit_signer};

const DAY: SignedDuration = SignedDuration::from_hours(24);
const RETENTION: SignedDuration = SignedDuration::from_hours(24 * 30);

/// As the operator makes them, for a month ahead.
pub fn identities(now: Timestamp) -> BackupIdentities {
    let id: ConnectionId = ID.parse().expect("an id");
    let mut identities = BackupIdentities::new(id.clone());
    identities.extend(Grid::new(&id, DAY), now, now + RETENTION);
    identities
}

/// A keyring that knows their recipients.
pub fn with_recipients(keyring: &Keyring, identities: &BackupIdentities) -> Keyring {
    let mut keyring = keyring.clone();
    keyring.set_recipients(identities.recipients());
    keyring
}

/// A backup as a store has it.
#[derive(Clone)]
pub struct Taken {
    pub data: Vec<u8>,
    pub signed: SignedManifest,
    pub manifest: Manifest,
}

/// A container's data and manifest.
pub fn take_apart(mut container: &[u8]) -> Taken {
    let (mut unpacker, mut data) = (Unpacker::default(), Vec::new());
    while !container.is_empty() {
        data.extend_from_slice(unpacker.take(&mut container).expect("a container"));
    }
    let manifest = unpacker.finish().expect("a whole container");
    let signed = SignedManifest::parse(&manifest).expect("a manifest");
    Taken { data, manifest: signed.manifest(None).expect("a manifest"), signed }
}

impl Taken {
    /// Everything that whoever has the identity can read.
    pub fn decrypted(&self, identities: &BackupIdentities) -> Vec<u8> {
        let name = self.manifest.identity.parse().expect("a name");
        let identity: &dyn age::Identity = identities.identity(name).expect("alive");
        let decryptor = age::Decryptor::new_buffered(&self.data[..]).expect("age");
        let decrypted = decryptor.decrypt(std::iter::once(identity)).expect("its identity");
        let mut plain = Vec::new();
        decompress(BufReader::new(decrypted)).expect("zstd").read_to_end(&mut plain).expect("whole");
        plain
    }
}

impl Delivery {
    /// Mounts a keyring that knows the recipients of new identities.
    pub fn begin_backups(&self) -> BackupIdentities {
        let identities = identities(self.now());
        let keyring = self.keyring.borrow().clone().expect("a keyring");
        drop(self.keyring.send_replace(Ok(Arc::new(with_recipients(&keyring, &identities)))));
        identities
    }

    /// As the admin API asks for one.
    pub fn snapshot_request(&self, backup: &str) -> Request {
        let (keyring, now) = (self.keyring.borrow().clone().expect("a keyring"), self.now());
        let (key, recipient) = keyring.recipient_for(now + RETENTION, now).expect("a recipient");
        let connection = About {
            connection_id: ID.to_owned(),
            namespace: "acme".to_owned(),
            name: "shop".to_owned(),
            marketplace: "bol",
        };
        Request {
            backup: backup.to_owned(),
            site: Site::OnSite,
            connection,
            scope: Scope::Everything(key),
            recipient: recipient.clone(),
            keyring: self.keyring.subscribe(),
            signer: Arc::new(audit_signer(&keyring)),
            clock: self.clock(),
            longest: Duration::from_mins(1),
        }
    }

    /// Takes one to its end.
    pub async fn snapshot(&self) -> Result<Taken, SnapshotError> {
        self.take(self.snapshot_request("20261129T003250Z-5f0c1a2b")).await
    }

    pub async fn take(&self, request: Request) -> Result<Taken, SnapshotError> {
        let Snapshot { mut bytes, outcome } = self.store.snapshot(request).await?;
        let mut container = Vec::new();
        bytes.read_to_end(&mut container).await.expect("bytes");
        outcome.await.expect("an outcome")?;
        Ok(take_apart(&container))
    }
}
