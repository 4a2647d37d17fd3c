//! The mounted keys.

use std::{sync::Arc, time::Duration};

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
    mut mounted: watch::Receiver<Mounted<Keyring>>,
    clock: Clock,
    stop: CancellationToken,
) -> watch::Receiver<Mounted<Keyring>> {
    let mut first = mounted.borrow_and_update().clone();
    forget_due(&mut first, &clock);
    let (sender, receiver) = watch::channel(first);
    let task = async move {
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                changed = mounted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let mut newest = mounted.borrow_and_update().clone();
                    forget_due(&mut newest, &clock);
                    drop(sender.send_replace(newest));
                }
                _ = ticks.tick() => { sender.send_if_modified(|mounted| forget_due(mounted, &clock)); }
            }
        }
    };
    tokio::spawn(async move { stop.run_until_cancelled(task).await });
    receiver
}

fn forget_due(mounted: &mut Mounted<Keyring>, clock: &Clock) -> bool {
    let Ok(keyring) = mounted else { return false };
    let now = clock.now();
    keyring.has_due(now) && Arc::make_mut(keyring).drop_due(now) > 0
}
