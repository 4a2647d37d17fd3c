//! The mounted keys.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use marketrelay_audit::Signer;
use marketrelay_keyring::{ConnectionId, DIGEST_KEY_ENTRY, DigestKey, Keyring, SecretKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    mounts::{Entries, Mounted},
};

/// How often the keys are looked at whose time has come.
const INTERVAL: Duration = Duration::from_secs(1);

/// The keyring of this connection, from its Secret's entries.
pub fn keyring(entries: &Entries, id: &ConnectionId) -> Result<Keyring, String> {
    let named = entries.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    let keyring = Keyring::from_entries(named).map_err(|error| error.to_string())?;
    if keyring.connection_id() != id {
        return Err(format!("the keyring belongs to connection {}, this is {id}", keyring.connection_id()));
    }
    Ok(keyring)
}

/// A keyring as it is mounted.
pub struct KeyringMount {
    /// The newest volume key's generation.
    pub generation: u32,
    /// When the first epoch or hold key dies, whatever our own clock says.
    pub first: Option<Timestamp>,
    /// How many recipients of backups there are.
    pub recipients: u32,
    /// Signs the audit log; absent from keyrings that are older than it.
    pub signer: Option<Arc<Signer>>,
    /// Until [`alive`] takes them, so that a key whose time has come is nowhere else.
    keys: Mutex<Option<Keyring>>,
}

impl KeyringMount {
    /// Of this connection, from its Secret's entries.
    pub fn read(entries: &Entries, id: &ConnectionId) -> Result<Self, String> {
        let keyring = keyring(entries, id)?;
        let first = keyring.first_destruction();
        let seed = keyring.audit_key();
        let signer = seed.map(|seed| Signer::new(seed.expose()).map_err(|error| error.to_string()));
        Ok(Self {
            generation: keyring.volume_generation(),
            recipients: u32::try_from(keyring.recipients().len()).unwrap_or(u32::MAX),
            first: first.and_then(|at| Timestamp::from_second(at.as_second()).ok()),
            signer: signer.transpose()?.map(Arc::new),
            keys: Mutex::new(Some(keyring)),
        })
    }

    fn take(&self) -> Result<Arc<Keyring>, String> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner).take();
        keys.map(Arc::new).ok_or_else(|| "the keyring is in use elsewhere".to_owned())
    }
}

/// A Secret's entry of 32 bytes.
pub fn secret_key(entries: &Entries, name: &str) -> Result<SecretKey, String> {
    let bytes = entries.get(name).ok_or_else(|| format!("the Secret has no entry {name:?}"))?;
    let bytes: [u8; 32] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| format!("entry {name:?} must be 32 bytes, it has {}", bytes.len()))?;
    Ok(bytes.into())
}

/// The customer's digest key.
pub fn digest_key(entries: &Entries) -> Result<DigestKey, String> {
    secret_key(entries, DIGEST_KEY_ENTRY).map(|key| DigestKey::new(&key))
}

/// The mounted keyring without the keys whose time has come by our own clock, even if they are still mounted.
pub fn alive(
    mut mounted: watch::Receiver<Mounted<KeyringMount>>,
    clock: Clock,
    stop: CancellationToken,
) -> watch::Receiver<Mounted<Keyring>> {
    let (sender, receiver) = watch::channel(taken(&mut mounted, &clock));
    let task = async move {
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                changed = mounted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    drop(sender.send_replace(taken(&mut mounted, &clock)));
                }
                _ = ticks.tick() => { sender.send_if_modified(|mounted| forget_due(mounted, &clock)); }
            }
        }
    };
    tokio::spawn(async move { stop.run_until_cancelled(task).await });
    receiver
}

fn taken(mounted: &mut watch::Receiver<Mounted<KeyringMount>>, clock: &Clock) -> Mounted<Keyring> {
    let newest = mounted.borrow_and_update().clone();
    let mut keyring = newest.and_then(|mount| mount.take());
    forget_due(&mut keyring, clock);
    keyring
}

fn forget_due(mounted: &mut Mounted<Keyring>, clock: &Clock) -> bool {
    let Ok(keyring) = mounted else { return false };
    let now = clock.now();
    keyring.has_due(now) && Arc::make_mut(keyring).drop_due(now) > 0
}
