//! Keyrings as the operator changes them.

use std::collections::BTreeMap;

use marketrelay_keyring::{Keyring, SecretKey};

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

/// Without the volume key of this generation.
pub fn without_volume(keyring: &Keyring, generation: u32) -> Keyring {
    let mut entries = keyring.entries();
    assert!(entries.remove(&format!("volume.{generation}")).is_some());
    read(&entries)
}
