//! The keys that are mounted.

use std::path::Path;

use jiff::Timestamp;
use marketrelay_api::{
    backup::paths::IDENTITIES,
    relay::paths::{DATABASE_KEY, DIGEST, KEYRING},
};
use marketrelay_audit::Signer;
use marketrelay_keyring::{BackupIdentities, ConnectionId, DigestKey, HoldId, Keyring, SecretKey};
use marketrelay_pod::mounts::Entries;
use marketrelay_relay::{keys, store::import::Keys};

use super::RestoreError;
use crate::settings;

/// Of the connection, without those whose time has come.
pub(crate) struct Mounted {
    keyring: Keyring,
    digest: DigestKey,
    database: SecretKey,
    identities: BackupIdentities,
}

impl Mounted {
    /// Keys that come from elsewhere than a mount.
    pub(crate) fn new(
        keyring: Keyring,
        digest: DigestKey,
        database: SecretKey,
        identities: BackupIdentities,
    ) -> Self {
        Self { keyring, digest, database, identities }
    }

    /// `database`: the key of the new database.
    pub(super) fn read(
        root: &Path,
        connection_id: &str,
        public_key: &str,
        database: SecretKey,
        now: Timestamp,
    ) -> Result<Self, RestoreError> {
        let mut keyring = entries(root, KEYRING)
            .and_then(|entries| keyring(&entries, connection_id, public_key))
            .map_err(|problem| RestoreError::Keyring { problem })?;
        keyring.drop_due(now);
        let mut identities = entries(root, IDENTITIES)
            .and_then(|entries| identities(&entries, keyring.connection_id()))
            .map_err(|problem| RestoreError::Identities { problem })?;
        identities.drop_due(now);
        let digest = entries(root, DIGEST).and_then(|entries| keys::digest_key(&entries));
        Ok(Self {
            keyring,
            digest: digest.map_err(|problem| RestoreError::DigestKey { problem })?,
            database,
            identities,
        })
    }

    /// For an import.
    pub(super) fn keys(&self) -> Keys<'_> {
        Keys { keyring: &self.keyring, digest: &self.digest, database: &self.database }
    }

    /// The holds whose keys there are.
    pub(super) fn holds(&self) -> impl Iterator<Item = HoldId> {
        self.keyring.holds().map(|(_, id)| id)
    }

    /// Of the database.
    pub(super) fn database(&self) -> &SecretKey {
        &self.database
    }

    /// Whose keys they are.
    pub(super) fn id(&self) -> &ConnectionId {
        self.keyring.connection_id()
    }

    /// What opens the backups that name it.
    pub(super) fn identity(&self, name: &str) -> Option<&age::x25519::Identity> {
        self.identities.identity(name.parse().ok()?)
    }
}

/// The key of the volume's database.
pub(super) fn database_key(root: &Path) -> Result<SecretKey, RestoreError> {
    let key = entries(root, DATABASE_KEY).and_then(|entries| keys::secret_key(&entries, "database-key"));
    key.map_err(|problem| RestoreError::DatabaseKey { problem })
}

fn entries(root: &Path, path: &str) -> Result<Entries, String> {
    settings::entries(root, path).map_err(|error| error.to_string())
}

/// The one whose relay has signed the backups.
fn keyring(entries: &Entries, connection_id: &str, public_key: &str) -> Result<Keyring, String> {
    let id: ConnectionId = connection_id.parse().map_err(|error| format!("{error}"))?;
    let keyring = keys::keyring(entries, &id)?;
    let seed = keyring.audit_key().ok_or("it has no audit key to check signatures with")?;
    let signer = Signer::new(seed.expose()).map_err(|error| error.to_string())?;
    if signer.public_key() != public_key {
        return Err(format!(
            "its audit key is {}, the relay's is known to be {public_key}",
            signer.public_key()
        ));
    }
    Ok(keyring)
}

fn identities(entries: &Entries, id: &ConnectionId) -> Result<BackupIdentities, String> {
    let named = entries.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    let identities = BackupIdentities::from_entries(named).map_err(|error| error.to_string())?;
    if identities.connection_id() != id {
        return Err(format!("they belong to connection {}, this is {id}", identities.connection_id()));
    }
    Ok(identities)
}
