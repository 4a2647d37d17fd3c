//! What opens the archive of a hold: an age identity that follows from the hold's key, and so dies with it.

use age::x25519::Identity;
use bech32::{Bech32, Hrp};
use zeroize::Zeroizing;

use crate::{HoldId, HoldKey, Keyring, Recipient, SecretKey, envelope::derived};

const HKDF_INFO: &[u8] = b"marketrelay hold archive identity v1";
/// As age writes identities, in capitals.
const HRP: Hrp = Hrp::parse_unchecked("age-secret-key-");

impl Keyring {
    /// The identity that opens the archives of this hold; `None`: its key isn't there.
    pub fn archive_identity(&self, hold: HoldId) -> Option<Identity> {
        let (_, key) = self.holds.values().find(|(id, _)| *id == hold)?;
        archive_identity(key)
    }

    /// The hold's key and what its archives are encrypted to; `None`: its key isn't there.
    pub fn archive_recipient(&self, hold: HoldId) -> Option<(&HoldKey, Recipient)> {
        let (key, _) = self.holds().find(|(_, id)| *id == hold)?;
        Some((key, self.archive_identity(hold)?.to_public()))
    }
}

/// The identity that opens the archives of the hold that has this key; `None`: cryptography failed.
pub fn archive_identity(key: &SecretKey) -> Option<Identity> {
    let secret = derived(key, &[], HKDF_INFO)?;
    let text = Zeroizing::new(bech32::encode_upper::<Bech32>(HRP, secret.as_ref()).ok()?);
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret;

    use super::*;
    use crate::{ConnectionId, DestroyAt};

    fn keyring(keys: &[(&str, [u8; 32])]) -> Keyring {
        let id: ConnectionId = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34".parse().expect("a UUID");
        let mut entries = Keyring::generate(id).expect("random bytes").entries();
        for (name, key) in keys {
            entries.insert(format!("hold.{name}.20270131T000000Z"), key.to_vec());
        }
        let named = entries.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        Keyring::from_entries(named).expect("a keyring")
    }

    #[test]
    fn the_identity_is_what_the_holds_key_makes_it_wherever_and_whenever_it_is_asked() {
        let id = HoldId::of(&SecretKey::from([7; 32]));
        let identity = keyring(&[("tax", [7; 32])]).archive_identity(id).expect("a key");
        // HKDF-SHA256 as another implementation computes it, in age's own writing.
        let expected = "AGE-SECRET-KEY-1XHPESED2R8Q6047YG525W39WLHZSMSTS597ZYJCLJPALQG9YNZRS87XF74";
        assert_eq!(identity.to_string().expose_secret(), expected);
        let mut moved = keyring(&[("tax", [7; 32])]);
        let key = moved.holds().next().expect("a hold").0.clone();
        moved.move_hold(&key, DestroyAt::from_second(2_000_000_000));
        let (moved_key, recipient) = moved.archive_recipient(id).expect("a key");
        assert_eq!(recipient.to_string(), identity.to_public().to_string());
        assert_eq!(moved_key.destroy_at(), DestroyAt::from_second(2_000_000_000));
    }

    #[test]
    fn holds_have_archives_of_their_own_which_die_with_their_keys() {
        let mut both = keyring(&[("court", [8; 32]), ("tax", [7; 32])]);
        let ids: Vec<_> = both.holds().map(|(_, id)| id).collect();
        let recipients = ids.iter().map(|id| both.archive_recipient(*id).expect("a key").1.to_string());
        let recipients: Vec<_> = recipients.collect();
        assert_ne!(recipients[0], recipients[1]);
        let key = both.holds().next().expect("a hold").0.clone();
        both.remove_hold(&key);
        assert!(both.archive_identity(ids[0]).is_none() && both.archive_recipient(ids[0]).is_none());
        assert!(both.archive_identity(ids[1]).is_some());
    }
}
