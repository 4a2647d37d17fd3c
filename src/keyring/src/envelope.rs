use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf, rand,
};
use snafu::{OptionExt, Snafu, ensure};
use zeroize::Zeroizing;

use crate::{DestroyAt, HoldId, Keyring, SecretKey};

/// The version that the header of every envelope carries.
const VERSION: u8 = 1;
const HKDF_INFO: &[u8] = b"marketrelay record key wrap v1";

/// What an envelope holds; bound into it, so that one kind can't be taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// An order's PII.
    Order,
    /// An erased order's number, until the destination knows.
    ErasedOrder,
}

impl RecordKind {
    fn tag(self) -> u8 {
        match self {
            Self::Order => 1,
            Self::ErasedOrder => 2,
        }
    }
}

/// Which record an envelope belongs to; bound into it together with the connection id and the format version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef {
    /// What is sealed.
    pub kind: RecordKind,
    /// The record's revision.
    pub revision: u64,
    /// The epoch key that it is sealed under.
    pub destroy_at: DestroyAt,
}

/// Which held order an envelope belongs to. When its hold ends isn't bound into it: that may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldRef {
    /// The hold whose key it is sealed under.
    pub hold: HoldId,
    /// The order's revision.
    pub revision: u64,
}

/// A sealed record: what its row stores.
///
/// Both parts are `version (1 byte) || nonce (12) || ciphertext || tag (16)`, AES-256-GCM-SIV (RFC 8452).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The record under its own random key.
    pub body: Vec<u8>,
    /// The record's key under HKDF-SHA256(salt = volume key, ikm = epoch key).
    pub wrapped_key: Vec<u8>,
    /// The generation of the volume key in the wrap.
    pub volume_generation: u32,
}

/// Why a record can't be sealed.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SealError {
    #[snafu(display("the keyring has no key {name}"))]
    NoKey { name: DestroyAt },
    #[snafu(display("the keyring has no key of this hold"))]
    NoHoldKey,
    #[snafu(display("the keyring has no volume key"))]
    NoVolumeKey,
    #[snafu(display("the system's cryptography failed"))]
    Crypto,
}

/// Why a record can't be opened.
#[derive(Debug, PartialEq, Eq, Snafu)]
#[snafu(visibility(pub(crate)))]
#[expect(missing_docs, reason = "the messages say it")]
pub enum OpenError {
    #[snafu(display("the key {name} is gone"))]
    KeyGone { name: DestroyAt },
    #[snafu(display("the hold's key is gone"))]
    HoldKeyGone,
    #[snafu(display("the volume key of generation {generation} is gone"))]
    VolumeKeyGone { generation: u32 },
    #[snafu(display("the envelope has format version {version}, this program reads version 1"))]
    Version { version: u8 },
    #[snafu(display("the envelope was cut short or altered, or belongs to another record"))]
    Invalid,
}

impl Keyring {
    /// Seals `plaintext` under a fresh record key.
    pub fn seal(&self, record: RecordRef, plaintext: &[u8]) -> Result<Sealed, SealError> {
        let bound = self.record(record).context(NoKeySnafu { name: record.destroy_at })?;
        self.seal_bound(&bound, plaintext)
    }

    /// Opens what [`Keyring::seal`] made for the same record.
    pub fn open(&self, record: RecordRef, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let bound = self.record(record).context(KeyGoneSnafu { name: record.destroy_at })?;
        self.open_bound(&bound, sealed)
    }

    /// Wraps a record's key anew, under the newest volume key ([`Keyring::volume_generation`]). `wrapped_key` and
    /// `generation` are those of its [`Sealed`]; the body stays as it is.
    pub fn rewrap(
        &self,
        record: RecordRef,
        wrapped_key: &[u8],
        generation: u32,
    ) -> Result<Vec<u8>, OpenError> {
        let bound = self.record(record).context(KeyGoneSnafu { name: record.destroy_at })?;
        self.rewrap_bound(&bound, wrapped_key, generation)
    }

    /// Seals a held order under its hold's key.
    pub fn seal_held(&self, record: HeldRef, plaintext: &[u8]) -> Result<Sealed, SealError> {
        self.seal_bound(&self.held(record).context(NoHoldKeySnafu)?, plaintext)
    }

    /// Opens what [`Keyring::seal_held`] made for the same order.
    pub fn open_held(&self, record: HeldRef, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        self.open_bound(&self.held(record).context(HoldKeyGoneSnafu)?, sealed)
    }

    /// [`Keyring::rewrap`] of a held order.
    pub fn rewrap_held(
        &self,
        record: HeldRef,
        wrapped_key: &[u8],
        generation: u32,
    ) -> Result<Vec<u8>, OpenError> {
        self.rewrap_bound(&self.held(record).context(HoldKeyGoneSnafu)?, wrapped_key, generation)
    }

    pub(crate) fn record(&self, record: RecordRef) -> Option<Bound<'_>> {
        let key = self.epochs.get(&record.destroy_at)?;
        Some(self.bound(
            key,
            record.kind.tag(),
            record.revision,
            &record.destroy_at.as_second().to_be_bytes(),
        ))
    }

    pub(crate) fn held(&self, record: HeldRef) -> Option<Bound<'_>> {
        let (_, key) = self.holds.values().find(|(id, _)| *id == record.hold)?;
        Some(self.bound(key, HELD, record.revision, record.hold.as_bytes()))
    }

    /// Every kind has fields of a fixed length, so that no two records share their bytes.
    fn bound<'a>(&self, key: &'a SecretKey, kind: u8, revision: u64, whose: &[u8]) -> Bound<'a> {
        let mut prefix = Vec::with_capacity(86);
        prefix.extend_from_slice(self.id.as_str().as_bytes());
        prefix.extend_from_slice(&[VERSION, kind]);
        prefix.extend_from_slice(&revision.to_be_bytes());
        prefix.extend_from_slice(whose);
        Bound { key, prefix }
    }

    fn seal_bound(&self, bound: &Bound<'_>, plaintext: &[u8]) -> Result<Sealed, SealError> {
        let (generation, volume) = self.volumes.last_key_value().context(NoVolumeKeySnafu)?;
        let record_key = SecretKey::generate().ok().context(CryptoSnafu)?;
        let body = encrypt(record_key.expose(), &bound.aad(0), plaintext)?;
        let wrapping = wrapping_key(bound.key, volume).context(CryptoSnafu)?;
        let wrapped_key = encrypt(wrapping.as_ref(), &bound.aad(*generation), record_key.expose())?;
        Ok(Sealed { body, wrapped_key, volume_generation: *generation })
    }

    fn open_bound(&self, bound: &Bound<'_>, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let wrapping = self.wrapping(bound, sealed.volume_generation)?;
        let record_key =
            decrypt(wrapping.as_ref(), &bound.aad(sealed.volume_generation), &sealed.wrapped_key)?;
        decrypt(record_key.as_ref(), &bound.aad(0), &sealed.body)
    }

    fn rewrap_bound(
        &self,
        bound: &Bound<'_>,
        wrapped_key: &[u8],
        generation: u32,
    ) -> Result<Vec<u8>, OpenError> {
        let newest = self.volume_generation();
        let (old, new) = (self.wrapping(bound, generation)?, self.wrapping(bound, newest)?);
        let record_key = decrypt(old.as_ref(), &bound.aad(generation), wrapped_key)?;
        encrypt(new.as_ref(), &bound.aad(newest), &record_key).ok().context(InvalidSnafu)
    }

    pub(crate) fn wrapping(
        &self,
        bound: &Bound<'_>,
        generation: u32,
    ) -> Result<Zeroizing<[u8; 32]>, OpenError> {
        let volume = self.volumes.get(&generation).context(VolumeKeyGoneSnafu { generation })?;
        wrapping_key(bound.key, volume).context(InvalidSnafu)
    }
}

/// A held order's [`RecordKind::tag`].
const HELD: u8 = 3;

/// The key that an envelope lives as long as, and what is bound into it.
pub(crate) struct Bound<'a> {
    pub(crate) key: &'a SecretKey,
    prefix: Vec<u8>,
}

impl Bound<'_> {
    /// The body carries generation 0: the volume key's replacement rewrites the wrap alone.
    pub(crate) fn aad(&self, volume_generation: u32) -> Vec<u8> {
        [&self.prefix[..], &volume_generation.to_be_bytes()].concat()
    }
}

fn wrapping_key(epoch: &SecretKey, volume: &SecretKey) -> Option<Zeroizing<[u8; 32]>> {
    derived(epoch, volume.expose(), HKDF_INFO)
}

pub(crate) fn derived(key: &SecretKey, salt: &[u8], info: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut out = Zeroizing::new([0; 32]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(key.expose())
        .expand(&[info], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(out.as_mut()))
        .ok()?;
    Some(out)
}

fn cipher(key: &[u8]) -> Option<LessSafeKey> {
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key).ok()?))
}

pub(crate) fn encrypt(key: &[u8], aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut nonce).ok().context(CryptoSnafu)?;
    let header = 1 + NONCE_LEN;
    let mut out = Vec::with_capacity(header + plaintext.len() + AES_256_GCM_SIV.tag_len());
    out.push(VERSION);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plaintext);
    let tag = cipher(key)
        .context(CryptoSnafu)?
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut out[header..])
        .ok()
        .context(CryptoSnafu)?;
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}

pub(crate) fn decrypt(key: &[u8], aad: &[u8], envelope: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (version, rest) = envelope.split_first().context(InvalidSnafu)?;
    ensure!(*version == VERSION, VersionSnafu { version: *version });
    let (nonce, ciphertext) = rest.split_at_checked(NONCE_LEN).context(InvalidSnafu)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok().context(InvalidSnafu)?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let length = cipher(key)
        .context(InvalidSnafu)?
        .open_in_place(nonce, Aad::from(aad), &mut buffer)
        .ok()
        .context(InvalidSnafu)?
        .len();
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::{ConnectionId, Grid};

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

    #[test]
    fn nothing_opens_once_its_epoch_key_is_gone() {
        let mut keyring = keyring();
        let record = record(&keyring);
        let sealed = keyring.seal(record, b"Jane Doe").expect("sealed");
        let due = Timestamp::from_second(record.destroy_at.as_second()).expect("in range");
        keyring.drop_due(due);
        assert_eq!(keyring.open(record, &sealed), Err(OpenError::KeyGone { name: record.destroy_at }));
    }

    #[test]
    fn nothing_opens_once_its_volume_key_is_gone() {
        let mut keyring = keyring();
        let record = record(&keyring);
        let sealed = keyring.seal(record, b"Jane Doe").expect("sealed");
        keyring.volumes.clear();
        assert_eq!(keyring.open(record, &sealed), Err(OpenError::VolumeKeyGone { generation: 1 }));
    }

    #[test]
    fn a_new_wrap_needs_the_new_volume_key_alone_and_leaves_the_body() {
        let mut keyring = keyring();
        let record = record(&keyring);
        let old = keyring.seal(record, b"Jane Doe").expect("sealed");
        keyring.volumes.insert(2, SecretKey::generate().expect("random bytes"));
        let wrapped_key = keyring.rewrap(record, &old.wrapped_key, 1).expect("rewrapped");
        let new = Sealed { wrapped_key, volume_generation: 2, body: old.body.clone() };
        keyring.volumes.remove(&1);
        assert_eq!(&*keyring.open(record, &new).expect("opens"), b"Jane Doe");
        assert_eq!(keyring.open(record, &old), Err(OpenError::VolumeKeyGone { generation: 1 }));
        let relabelled = Sealed { volume_generation: 2, ..old };
        assert_eq!(keyring.open(record, &relabelled), Err(OpenError::Invalid));
    }

    #[test]
    fn an_envelope_belongs_to_its_revision_its_key_and_its_connection() {
        let keyring = keyring();
        let good = record(&keyring);
        let sealed = keyring.seal(good, b"Jane Doe").expect("sealed");
        let other_key = keyring.live(Timestamp::UNIX_EPOCH).nth(4).expect("a key");
        for wrong in [RecordRef { revision: 8, ..good }, RecordRef { destroy_at: other_key, ..good }] {
            assert_eq!(keyring.open(wrong, &sealed), Err(OpenError::Invalid));
        }
        let id = "00000000-5d1e-4c57-9a0b-6d2f8e1c7b34".parse().expect("a UUID");
        let elsewhere = Keyring { id, ..keyring };
        assert_eq!(elsewhere.open(good, &sealed), Err(OpenError::Invalid));
    }

    #[test]
    fn a_held_order_opens_with_its_holds_key_alone_wherever_its_end_moves() {
        let mut keyring = keyring();
        let [tax, court] = ["tax", "court"]
            .map(|name| crate::HoldKey::new(name, DestroyAt::from_second(100)).expect("a name"));
        for hold in [&tax, &court] {
            keyring.add_hold(hold.clone()).expect("random bytes");
        }
        let id = |hold| keyring.holds().find(|(key, _)| *key == hold).expect("a hold").1;
        let (good, other) = (HeldRef { hold: id(&tax), revision: 7 }, id(&court));
        let sealed = keyring.seal_held(good, b"Jane Doe").expect("sealed");
        keyring.move_hold(&tax, DestroyAt::from_second(200));
        keyring.volumes.insert(2, SecretKey::generate().expect("random bytes"));
        let wrapped_key = keyring.rewrap_held(good, &sealed.wrapped_key, 1).expect("rewrapped");
        let sealed = Sealed { wrapped_key, volume_generation: 2, ..sealed };
        keyring.volumes.remove(&1);
        assert_eq!(&*keyring.open_held(good, &sealed).expect("opens"), b"Jane Doe");
        for wrong in [HeldRef { revision: 8, ..good }, HeldRef { hold: other, ..good }] {
            assert_eq!(keyring.open_held(wrong, &sealed), Err(OpenError::Invalid));
        }
        keyring.drop_due(Timestamp::from_second(200).expect("in range"));
        assert_eq!(keyring.open_held(good, &sealed), Err(OpenError::HoldKeyGone));
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_again_and_nothing_shows(plaintext in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let keyring = keyring();
            let record = record(&keyring);
            let sealed = keyring.seal(record, &plaintext).expect("sealed");
            prop_assert_eq!(&*keyring.open(record, &sealed).expect("opens"), &plaintext);
            prop_assert!(plaintext.len() < 8 || !sealed.body.windows(plaintext.len()).any(|w| w == plaintext));
        }

        #[test]
        fn a_flipped_bit_or_a_cut_is_refused(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
            let keyring = keyring();
            let record = record(&keyring);
            let sealed = keyring.seal(record, b"Jane Doe, Main Street 1").expect("sealed");
            for part in [0, 1] {
                let mut altered = sealed.clone();
                let bytes = if part == 0 { &mut altered.body } else { &mut altered.wrapped_key };
                let index = at.index(bytes.len());
                bytes[index] ^= 1 << bit;
                prop_assert!(keyring.open(record, &altered).is_err());
                let mut short = sealed.clone();
                let bytes = if part == 0 { &mut short.body } else { &mut short.wrapped_key };
                bytes.truncate(cut.index(bytes.len()));
                prop_assert!(keyring.open(record, &short).is_err());
            }
        }
    }
}
