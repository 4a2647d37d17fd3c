//! Record keys as backups have them: under the epoch key alone, or the hold's, since the volume key is gone by the time
//! that a backup is restored.

use snafu::OptionExt;
use zeroize::Zeroizing;

use crate::{
    HeldRef, Keyring, OpenError, RecordRef,
    envelope::{Bound, HoldKeyGoneSnafu, InvalidSnafu, KeyGoneSnafu, decrypt, derived, encrypt},
};

const HKDF_INFO: &[u8] = b"marketrelay backup record key wrap v1";
/// Bound into a wrap in the place of a volume key's generation.
const NO_GENERATION: u32 = 0;

impl Keyring {
    /// A record's key as a backup has it. `wrapped_key` and `generation` are those of its [`Sealed`](crate::Sealed); the
    /// body is in the backup as it is.
    pub fn wrap_for_backup(
        &self,
        record: RecordRef,
        wrapped_key: &[u8],
        generation: u32,
    ) -> Result<Vec<u8>, OpenError> {
        let bound = self.record(record).context(KeyGoneSnafu { name: record.destroy_at })?;
        self.for_backup(&bound, wrapped_key, generation)
    }

    /// What [`wrap_for_backup`](Self::wrap_for_backup) made, under the newest volume key.
    pub fn wrap_from_backup(&self, record: RecordRef, wrapped_key: &[u8]) -> Result<Vec<u8>, OpenError> {
        let bound = self.record(record).context(KeyGoneSnafu { name: record.destroy_at })?;
        self.wrapped_anew(&bound, wrapped_key)
    }

    /// [`wrap_for_backup`](Self::wrap_for_backup) of a held order: under its hold's key.
    pub fn wrap_held_for_backup(
        &self,
        record: HeldRef,
        wrapped_key: &[u8],
        generation: u32,
    ) -> Result<Vec<u8>, OpenError> {
        self.for_backup(&self.held(record).context(HoldKeyGoneSnafu)?, wrapped_key, generation)
    }

    /// [`wrap_from_backup`](Self::wrap_from_backup) of a held order.
    pub fn wrap_held_from_backup(&self, record: HeldRef, wrapped_key: &[u8]) -> Result<Vec<u8>, OpenError> {
        self.wrapped_anew(&self.held(record).context(HoldKeyGoneSnafu)?, wrapped_key)
    }

    fn for_backup(
        &self,
        bound: &Bound<'_>,
        wrapped_key: &[u8],
        generation: u32,
    ) -> Result<Vec<u8>, OpenError> {
        let wrapping = self.wrapping(bound, generation)?;
        let record_key = decrypt(wrapping.as_ref(), &bound.aad(generation), wrapped_key)?;
        encrypt(backup_key(bound)?.as_ref(), &bound.aad(NO_GENERATION), &record_key)
            .ok()
            .context(InvalidSnafu)
    }

    fn wrapped_anew(&self, bound: &Bound<'_>, wrapped_key: &[u8]) -> Result<Vec<u8>, OpenError> {
        let newest = self.volume_generation();
        let record_key = decrypt(backup_key(bound)?.as_ref(), &bound.aad(NO_GENERATION), wrapped_key)?;
        let wrapping = self.wrapping(bound, newest)?;
        encrypt(wrapping.as_ref(), &bound.aad(newest), &record_key).ok().context(InvalidSnafu)
    }
}

fn backup_key(bound: &Bound<'_>) -> Result<Zeroizing<[u8; 32]>, OpenError> {
    derived(bound.key, &[], HKDF_INFO).context(InvalidSnafu)
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::{ConnectionId, DestroyAt, Grid, HoldKey, RecordKind, Sealed};

    fn keyring() -> Keyring {
        let id: ConnectionId = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34".parse().expect("a UUID");
        let grid = Grid::new(&id, SignedDuration::from_hours(24));
        let mut keyring = Keyring::generate(id).expect("random bytes");
        let horizon = Timestamp::from_second(10 * 86_400).expect("in range");
        keyring.extend(grid, Timestamp::UNIX_EPOCH, horizon).expect("random bytes");
        keyring
    }

    fn record(keyring: &Keyring) -> RecordRef {
        let destroy_at = keyring.live(Timestamp::UNIX_EPOCH).nth(3).expect("a key");
        RecordRef { kind: RecordKind::Order, revision: 7, destroy_at }
    }

    /// As years later: the volume key is another one.
    fn later(keyring: &Keyring) -> Keyring {
        let mut later = keyring.clone();
        later.add_volume_key().expect("random bytes");
        later.drop_volume_keys_below(2);
        later
    }

    #[test]
    fn a_record_in_a_backup_opens_without_the_volume_key_that_it_was_sealed_with() {
        let keyring = keyring();
        let record = record(&keyring);
        let sealed = keyring.seal(record, b"Jane Doe").expect("sealed");
        let backup = keyring.wrap_for_backup(record, &sealed.wrapped_key, 1).expect("wrapped");
        let later = later(&keyring);
        let wrapped_key = later.wrap_from_backup(record, &backup).expect("wrapped");
        let restored = Sealed { wrapped_key, volume_generation: 2, ..sealed.clone() };
        assert_eq!(&*later.open(record, &restored).expect("opens"), b"Jane Doe");
        assert_eq!(
            later.wrap_for_backup(record, &sealed.wrapped_key, 1),
            Err(OpenError::VolumeKeyGone { generation: 1 })
        );
    }

    #[test]
    fn a_wrap_of_a_backup_and_one_of_the_database_are_never_taken_for_each_other() {
        let keyring = keyring();
        let record = record(&keyring);
        let sealed = keyring.seal(record, b"Jane Doe").expect("sealed");
        let backup = keyring.wrap_for_backup(record, &sealed.wrapped_key, 1).expect("wrapped");
        assert_eq!(keyring.wrap_from_backup(record, &sealed.wrapped_key), Err(OpenError::Invalid));
        let mixed = Sealed { wrapped_key: backup, ..sealed };
        assert_eq!(keyring.open(record, &mixed), Err(OpenError::Invalid));
    }

    #[test]
    fn a_record_in_a_backup_dies_with_its_epoch_key_and_belongs_to_it_alone() {
        let mut keyring = keyring();
        let good = record(&keyring);
        let sealed = keyring.seal(good, b"Jane Doe").expect("sealed");
        let backup = keyring.wrap_for_backup(good, &sealed.wrapped_key, 1).expect("wrapped");
        let other_key = keyring.live(Timestamp::UNIX_EPOCH).nth(4).expect("a key");
        for wrong in [
            RecordRef { revision: 8, ..good },
            RecordRef { destroy_at: other_key, ..good },
            RecordRef { kind: RecordKind::ErasedOrder, ..good },
        ] {
            assert_eq!(keyring.wrap_from_backup(wrong, &backup), Err(OpenError::Invalid));
        }
        keyring.drop_due(Timestamp::from_second(good.destroy_at.as_second()).expect("in range"));
        let gone = Err(OpenError::KeyGone { name: good.destroy_at });
        assert_eq!(keyring.wrap_from_backup(good, &backup), gone);
    }

    #[test]
    fn a_held_order_in_a_backup_needs_its_holds_key_alone() {
        let mut keyring = keyring();
        let hold = HoldKey::new("tax", DestroyAt::from_second(100)).expect("a name");
        keyring.add_hold(hold.clone()).expect("random bytes");
        let reference = HeldRef { hold: keyring.holds().next().expect("a hold").1, revision: 7 };
        let sealed = keyring.seal_held(reference, b"Jane Doe").expect("sealed");
        let backup = keyring.wrap_held_for_backup(reference, &sealed.wrapped_key, 1).expect("wrapped");
        let mut later = later(&keyring);
        later.epochs.clear();
        let wrapped_key = later.wrap_held_from_backup(reference, &backup).expect("wrapped");
        let restored = Sealed { wrapped_key, volume_generation: 2, ..sealed };
        assert_eq!(&*later.open_held(reference, &restored).expect("opens"), b"Jane Doe");
        later.remove_hold(&hold);
        assert_eq!(later.wrap_held_from_backup(reference, &backup), Err(OpenError::HoldKeyGone));
    }

    proptest! {
        #[test]
        fn an_altered_or_cut_wrap_is_refused(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let keyring = keyring();
            let record = record(&keyring);
            let sealed = keyring.seal(record, b"Jane Doe").expect("sealed");
            let backup = keyring.wrap_for_backup(record, &sealed.wrapped_key, 1).expect("wrapped");
            let at = at.index(backup.len());
            let mut altered = backup.clone();
            altered[at] ^= 1 << bit;
            prop_assert!(keyring.wrap_from_backup(record, &altered).is_err());
            prop_assert!(keyring.wrap_from_backup(record, &backup[..at]).is_err());
        }
    }
}
