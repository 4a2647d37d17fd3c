//! Keyrings as the operator changes them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use marketrelay_keyring::{DestroyAt, HoldKey, Keyring, SecretKey};

fn read(entries: &BTreeMap<String, Vec<u8>>) -> Keyring {
    let entries = entries.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    Keyring::from_entries(entries).expect("a keyring")
}

/// With a new volume key of this generation.
pub fn with_volume(keyring: &Keyring, generation: u32) -> Keyring {
    let mut entries = keyring.entries();
    let key = SecretKey::generate().expect("a key");
    assert!(entries.insert(format!("volume.{generation}"), key.expose().to_vec()).is_none());
    read(&entries)
}

/// With an epoch key that dies an hour after the last.
pub fn with_later_epoch(keyring: &Keyring) -> Keyring {
    let mut entries = keyring.entries();
    let last = keyring.last_epoch().expect("an epoch key").as_second();
    let key = SecretKey::generate().expect("a key");
    entries.insert(DestroyAt::from_second(last + 3_600).to_string(), key.expose().to_vec());
    read(&entries)
}

/// With the key of a hold.
pub fn with_hold(keyring: &Keyring, name: &str, until: Timestamp) -> Keyring {
    let mut keyring = keyring.clone();
    let hold = HoldKey::new(name, DestroyAt::from_second(until.as_second())).expect("a name");
    keyring.add_hold(hold).expect("a key");
    keyring
}

/// Without the keys of a hold.
pub fn without_hold(keyring: &Keyring, name: &str) -> Keyring {
    let mut keyring = keyring.clone();
    let keys: Vec<_> = keyring.holds().map(|(key, _)| key.clone()).filter(|key| key.name() == name).collect();
    for key in &keys {
        keyring.remove_hold(key);
    }
    keyring
}

/// Without the volume key of this generation.
pub fn without_volume(keyring: &Keyring, generation: u32) -> Keyring {
    let mut entries = keyring.entries();
    assert!(entries.remove(&format!("volume.{generation}")).is_some());
    read(&entries)
}
