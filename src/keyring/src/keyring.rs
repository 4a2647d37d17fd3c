use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use aws_lc_rs::rand;
use jiff::Timestamp;
use snafu::{OptionExt, ResultExt, Snafu};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    BackupKey, ConnectionId, DestroyAt, Grid, HoldId, HoldKey, InvalidBackupKey, InvalidConnectionId,
    InvalidDestroyAt, InvalidHoldKey, Recipient,
};

/// The entry of the namespace's digest Secret.
pub const DIGEST_KEY_ENTRY: &str = "digest-key";

pub(crate) const CONNECTION_ID: &str = "connection-id";
const VOLUME_PREFIX: &str = "volume.";
const AUDIT: &str = "audit";
const PENDING: &str = "pending";
/// Keys exist at least this many epochs ahead of the last deadline, since mounted Secrets lag by a minute or two.
const EPOCHS_AHEAD: i64 = 2;
const SECONDS_AHEAD: i64 = 600;

/// 32 random bytes that are zeroized when dropped and never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// A fresh random key.
    pub fn generate() -> Result<Self, KeyringError> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).ok().context(RandomSnafu)?;
        Ok(Self(bytes))
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for SecretKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// Why the entries of a Secret aren't a keyring, or a keyring can't be made.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
#[expect(missing_docs, reason = "the messages say it")]
pub enum KeyringError {
    #[snafu(display("keyring entry {name:?} must be 32 bytes, it has {length}"))]
    KeyLength { name: String, length: usize },
    #[snafu(display("there is no entry {name:?}"))]
    MissingEntry { name: &'static str },
    #[snafu(display("keyring has no volume key (entries named volume.1, volume.2, …)"))]
    NoVolumeKey,
    #[snafu(display("entry {name:?} is not known to this version"))]
    UnknownEntry { name: String },
    #[snafu(display("entry connection-id is wrong"))]
    Identity { source: InvalidConnectionId },
    #[snafu(display("keyring entry has a wrong name"))]
    EpochName { source: InvalidDestroyAt },
    #[snafu(display("keyring entry has a wrong name"))]
    HoldName { source: InvalidHoldKey },
    #[snafu(display("an entry of backups has a wrong name"))]
    BackupName { source: InvalidBackupKey },
    #[snafu(display("entry {name:?} must be an age X25519 recipient (age1…)"))]
    Recipient { name: String },
    #[snafu(display("entry {name:?} must be an age X25519 identity (AGE-SECRET-KEY-1…)"))]
    BackupIdentity { name: String },
    #[snafu(display("the system gave no random bytes"))]
    Random,
    #[snafu(display("there is no generation after the volume key's"))]
    Generations,
}

/// The live keys of one connection: the entries of its keyring Secret.
///
/// | entry | bytes |
/// |---|---|
/// | `connection-id` | the connection's UUID as text |
/// | `epoch.20260221T031700Z` | the epoch key that dies at that second |
/// | `hold.tax-2026.20270131T000000Z` | the key of the hold of that name, which ends at that second |
/// | `volume.1` | the volume key of that generation |
/// | `backup.20261229T000000Z` | not secret: what backups are encrypted to whose identity is destroyed at that second, `age1…` |
/// | `audit` | the seed of the key that signs the audit log; absent from keyrings that are older than it |
/// | `pending` | not secret: the names of epoch and hold keys that must not seal anything yet, one a line; absent if there are none |
#[derive(Clone, Debug)]
pub struct Keyring {
    pub(crate) id: ConnectionId,
    pub(crate) epochs: BTreeMap<DestroyAt, SecretKey>,
    pub(crate) holds: BTreeMap<HoldKey, (HoldId, SecretKey)>,
    pub(crate) volumes: BTreeMap<u32, SecretKey>,
    pub(crate) recipients: BTreeMap<BackupKey, Recipient>,
    pub(crate) audit: Option<SecretKey>,
    pub(crate) pending: BTreeSet<String>,
}

impl Keyring {
    /// A new keyring without epoch keys; [`Keyring::extend`] adds them.
    pub fn generate(id: ConnectionId) -> Result<Self, KeyringError> {
        let volumes = BTreeMap::from([(1, SecretKey::generate()?)]);
        Ok(Self {
            id,
            epochs: BTreeMap::new(),
            holds: BTreeMap::new(),
            volumes,
            recipients: BTreeMap::new(),
            audit: Some(SecretKey::generate()?),
            pending: BTreeSet::new(),
        })
    }

    /// Adds every epoch key that a deadline between `now` and `horizon` needs, and those ahead of them. Says how many
    /// it added; 0 means that the Secret need not be written.
    pub fn extend(&mut self, grid: Grid, now: Timestamp, horizon: Timestamp) -> Result<usize, KeyringError> {
        let before = self.epochs.len();
        for at in grid.points(now, ahead(grid, horizon)) {
            if let std::collections::btree_map::Entry::Vacant(e) = self.epochs.entry(at) {
                e.insert(SecretKey::generate()?);
            }
        }
        Ok(self.epochs.len() - before)
    }

    /// Whether every deadline until `horizon` has a key that may seal, without the reserve that [`Keyring::extend`] adds.
    pub fn reaches(&self, horizon: Timestamp) -> bool {
        let last = self.epochs.keys().rev().find(|at| !self.is_pending(at));
        last.is_some_and(|last| last.as_second() >= horizon.as_second())
    }

    /// Reads the entries of the Secret, or the files of its mount. An unknown entry is refused: a key that this
    /// version can't manage must not be carried along unseen.
    pub fn from_entries<'a>(
        entries: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, KeyringError> {
        let (mut id, mut epochs, mut volumes, mut audit) = (None, BTreeMap::new(), BTreeMap::new(), None);
        let (mut holds, mut recipients, mut pending) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        for (name, bytes) in entries {
            if name == CONNECTION_ID {
                id = Some(String::from_utf8_lossy(bytes).parse().context(IdentitySnafu)?);
            } else if let Some(generation) = name.strip_prefix(VOLUME_PREFIX) {
                let generation = generation.parse().ok().context(UnknownEntrySnafu { name })?;
                volumes.insert(generation, key(name, bytes)?);
            } else if name.starts_with("epoch.") {
                epochs.insert(name.parse().context(EpochNameSnafu)?, key(name, bytes)?);
            } else if name == PENDING {
                pending = String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
            } else if name == AUDIT {
                audit = Some(key(name, bytes)?);
            } else if name.starts_with("hold.") {
                let key = key(name, bytes)?;
                holds.insert(name.parse().context(HoldNameSnafu)?, (HoldId::of(&key), key));
            } else if name.starts_with("backup.") {
                let recipient = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
                let key = name.parse().context(BackupNameSnafu)?;
                recipients.insert(key, recipient.context(RecipientSnafu { name })?);
            } else {
                return UnknownEntrySnafu { name }.fail();
            }
        }
        let id = id.context(MissingEntrySnafu { name: CONNECTION_ID })?;
        snafu::ensure!(!volumes.is_empty(), NoVolumeKeySnafu);
        let mut keyring = Self { id, epochs, holds, volumes, recipients, audit, pending };
        keyring.forget_pending_of_no_key();
        Ok(keyring)
    }

    /// The entries of the Secret, by name. The caller zeroizes the copies.
    pub fn entries(&self) -> BTreeMap<String, Vec<u8>> {
        let epochs = self.epochs.iter().map(|(at, key)| (at.to_string(), key.0.to_vec()));
        let holds = self.holds.iter().map(|(name, (_, key))| (name.to_string(), key.0.to_vec()));
        let volumes = self.volumes.iter().map(|(n, key)| (format!("{VOLUME_PREFIX}{n}"), key.0.to_vec()));
        let recipients =
            self.recipients.iter().map(|(name, to)| (name.to_string(), to.to_string().into_bytes()));
        let id = (CONNECTION_ID.to_owned(), self.id.as_str().as_bytes().to_vec());
        let audit = self.audit.iter().map(|key| (AUDIT.to_owned(), key.0.to_vec()));
        let names = self.pending.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
        let pending = (!names.is_empty()).then(|| (PENDING.to_owned(), names.into_bytes()));
        epochs.chain(holds).chain(volumes).chain(recipients).chain(audit).chain(pending).chain([id]).collect()
    }

    /// The names of the epoch and hold keys.
    pub fn key_names(&self) -> BTreeSet<String> {
        let epochs = self.epochs.keys().map(ToString::to_string);
        epochs.chain(self.holds.keys().map(ToString::to_string)).collect()
    }

    /// Whose keys these are.
    pub fn connection_id(&self) -> &ConnectionId {
        &self.id
    }

    /// The seed of the key that signs the audit log.
    pub fn audit_key(&self) -> Option<&SecretKey> {
        self.audit.as_ref()
    }

    /// Makes that seed, if there is none; whether there was none.
    pub fn add_audit_key(&mut self) -> Result<bool, KeyringError> {
        let is_missing = self.audit.is_none();
        if is_missing {
            self.audit = Some(SecretKey::generate()?);
        }
        Ok(is_missing)
    }

    /// Forgets (and zeroizes) the keys whose time has come by the holder's own clock; says how many. Recipients whose
    /// identities' time has come go too, uncounted: they open nothing.
    pub fn drop_due(&mut self, now: Timestamp) -> usize {
        let before = self.epochs.len() + self.holds.len();
        self.recipients.retain(|name, _| !name.destroy_at().is_due(now));
        self.epochs.retain(|at, _| !at.is_due(now));
        self.holds.retain(|key, _| !key.destroy_at().is_due(now));
        self.forget_pending_of_no_key();
        before - self.epochs.len() - self.holds.len()
    }

    /// Whether [`Keyring::drop_due`] would forget a key.
    pub fn has_due(&self, now: Timestamp) -> bool {
        self.first_destruction().is_some_and(|at| at.is_due(now))
    }

    /// When the first key dies. Recipients aren't keys.
    pub fn first_destruction(&self) -> Option<DestroyAt> {
        let epoch = self.epochs.first_key_value().map(|(at, _)| *at);
        let hold = self.holds.first_key_value().map(|(key, _)| key.destroy_at());
        [epoch, hold].into_iter().flatten().min()
    }

    /// When the last epoch key dies.
    pub fn last_epoch(&self) -> Option<DestroyAt> {
        self.epochs.last_key_value().map(|(at, _)| *at)
    }

    /// The holds whose keys may seal, soonest to end first.
    pub fn holds(&self) -> impl Iterator<Item = (&HoldKey, HoldId)> {
        let sealing = self.holds.iter().filter(|(key, _)| !self.is_pending(key));
        sealing.map(|(key, (id, _))| (key, *id))
    }

    /// Makes the key of a hold, unless there is one of that name and time.
    pub fn add_hold(&mut self, hold: HoldKey) -> Result<(), KeyringError> {
        if let std::collections::btree_map::Entry::Vacant(entry) = self.holds.entry(hold) {
            let key = SecretKey::generate()?;
            entry.insert((HoldId::of(&key), key));
        }
        Ok(())
    }

    /// Has a hold's key destroyed at another second; the key stays the same.
    pub fn move_hold(&mut self, hold: &HoldKey, destroy_at: DestroyAt) {
        if let Some(key) = self.holds.remove(hold) {
            let moved = hold.moved(destroy_at);
            if self.pending.remove(&hold.to_string()) {
                self.pending.insert(moved.to_string());
            }
            self.holds.entry(moved).or_insert(key);
        }
    }

    /// Forgets (and zeroizes) a hold's key.
    pub fn remove_hold(&mut self, hold: &HoldKey) {
        self.holds.remove(hold);
        self.pending.remove(&hold.to_string());
    }

    /// The names of the live epoch keys, soonest to die first.
    pub fn live(&self, now: Timestamp) -> impl Iterator<Item = DestroyAt> + '_ {
        self.epochs.keys().copied().filter(move |at| !at.is_due(now))
    }

    /// The generation of the volume key that new records are wrapped under.
    pub fn volume_generation(&self) -> u32 {
        self.volumes.last_key_value().map_or(0, |(n, _)| *n)
    }

    /// The generations of the volume keys, oldest first: one, or two while the older one is being replaced.
    pub fn volume_generations(&self) -> impl Iterator<Item = u32> + '_ {
        self.volumes.keys().copied()
    }

    /// Begins the volume key's replacement with a key of the next generation, and says which. `None`: the last
    /// replacement isn't finished, there are never more than two generations.
    pub fn add_volume_key(&mut self) -> Result<Option<u32>, KeyringError> {
        if self.volumes.len() > 1 {
            return Ok(None);
        }
        let next = self.volume_generation().checked_add(1).context(GenerationsSnafu)?;
        self.volumes.insert(next, SecretKey::generate()?);
        Ok(Some(next))
    }

    /// Ends the volume key's replacement: forgets (and zeroizes) the generations below `oldest_used`, never the newest
    /// one. Says which they were.
    pub fn drop_volume_keys_below(&mut self, oldest_used: u32) -> Vec<u32> {
        let kept = self.volumes.split_off(&oldest_used.min(self.volume_generation()));
        std::mem::replace(&mut self.volumes, kept).into_keys().collect()
    }

    /// The name of the key for a record that must be gone at `deadline`: the last one that dies at or before it, may seal and
    /// is still alive. `None`: the deadline has passed or its key is already dead.
    pub fn name_for(&self, deadline: Timestamp, now: Timestamp) -> Option<DestroyAt> {
        let latest = DestroyAt::from_second(deadline.as_second());
        let (at, _) = self.epochs.range(..=latest).rev().find(|(at, _)| !self.is_pending(at))?;
        (!at.is_due(now)).then_some(*at)
    }

    /// What a backup is to be encrypted to that must be gone at `expiry`: the last recipient whose identity is destroyed
    /// at or before it, and isn't yet. `None`: there is none, or it has come already.
    pub fn recipient_for(&self, expiry: Timestamp, now: Timestamp) -> Option<(BackupKey, &Recipient)> {
        let latest = BackupKey::new(DestroyAt::from_second(expiry.as_second()));
        let (name, recipient) = self.recipients.range(..=latest).next_back()?;
        (!name.destroy_at().is_due(now)).then_some((*name, recipient))
    }

    /// What backups may be encrypted to, by the identities that open them.
    pub fn recipients(&self) -> &BTreeMap<BackupKey, Recipient> {
        &self.recipients
    }

    /// Has backups encrypted to these, and to no others.
    pub fn set_recipients(&mut self, recipients: BTreeMap<BackupKey, Recipient>) {
        self.recipients = recipients;
    }
}

/// How far keys are made ahead for deadlines until `horizon`.
pub(crate) fn ahead(grid: Grid, horizon: Timestamp) -> Timestamp {
    let ahead = horizon.as_second() + (EPOCHS_AHEAD * grid.epoch_seconds()).max(SECONDS_AHEAD);
    Timestamp::from_second(ahead).unwrap_or(Timestamp::MAX)
}

fn key(name: &str, bytes: &[u8]) -> Result<SecretKey, KeyringError> {
    let bytes: [u8; 32] = bytes.try_into().ok().context(KeyLengthSnafu { name, length: bytes.len() })?;
    Ok(SecretKey(bytes))
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;
    use crate::BackupIdentities;

    const DAY: i64 = 86_400;

    fn id() -> ConnectionId {
        "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34".parse().expect("a UUID")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn keyring(epoch: i64, now: i64, horizon: i64) -> Keyring {
        let mut keyring = Keyring::generate(id()).expect("random bytes");
        let grid = Grid::new(&id(), SignedDuration::from_secs(epoch));
        keyring.extend(grid, at(now), at(horizon)).expect("random bytes");
        keyring
    }

    #[test]
    fn entries_read_back_and_show_no_key_in_debug() {
        let keyring = keyring(DAY, 0, 90 * DAY);
        let entries = keyring.entries();
        let read = Keyring::from_entries(entries.iter().map(|(k, v)| (k.as_str(), v.as_slice())))
            .expect("own entries");
        assert_eq!(read.entries(), entries);
        assert!(format!("{read:?}").contains("SecretKey(..)"));
    }

    #[test]
    fn extending_keeps_every_live_key_and_settles() {
        let mut keyring = keyring(DAY, 0, 90 * DAY);
        let (before, grid) = (keyring.entries(), Grid::new(&id(), SignedDuration::from_secs(DAY)));
        assert_eq!(keyring.extend(grid, at(0), at(90 * DAY)).expect("random bytes"), 0);
        assert_eq!(keyring.extend(grid, at(DAY), at(91 * DAY)).expect("random bytes"), 1);
        let after = keyring.entries();
        assert!(before.iter().all(|(name, key)| after.get(name) == Some(key)));
    }

    #[test]
    fn a_volume_key_is_replaced_by_the_next_one_and_never_by_two() {
        let mut keyring = keyring(DAY, 0, DAY);
        let first = keyring.entries();
        assert_eq!(keyring.add_volume_key().expect("random bytes"), Some(2));
        assert_eq!(keyring.add_volume_key().expect("random bytes"), None);
        assert_eq!(keyring.volume_generations().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(keyring.entries()["volume.1"], first["volume.1"]);
        assert_eq!(keyring.drop_volume_keys_below(1), []);
        assert_eq!(keyring.drop_volume_keys_below(2), [1]);
        assert_eq!(keyring.drop_volume_keys_below(9), [], "the newest stays");
        assert_eq!(keyring.volume_generations().collect::<Vec<_>>(), [2]);
        assert_ne!(keyring.entries()["volume.2"], first["volume.1"]);
    }

    #[test]
    fn the_audit_logs_key_is_made_once_and_stays() {
        let mut entries = keyring(DAY, 0, DAY).entries();
        let read = |entries: &BTreeMap<String, Vec<u8>>| {
            Keyring::from_entries(entries.iter().map(|(k, v)| (k.as_str(), v.as_slice()))).expect("entries")
        };
        assert!(!read(&entries).add_audit_key().expect("random bytes"));
        entries.remove("audit").expect("a new keyring has one");
        let mut old = read(&entries);
        assert_eq!(old.audit_key(), None);
        assert!(old.add_audit_key().expect("random bytes"));
        assert_eq!(read(&old.entries()).audit_key(), old.audit_key());
    }

    #[test]
    fn a_holds_key_stays_the_same_when_its_end_moves_and_dies_at_its_own_second() {
        let mut keyring = keyring(DAY, 0, DAY);
        let hold = HoldKey::new("tax", DestroyAt::from_second(50)).expect("a name");
        keyring.add_hold(hold.clone()).expect("random bytes");
        let id = keyring.holds().next().expect("a hold").1;
        keyring.move_hold(&hold, DestroyAt::from_second(90));
        let entries = keyring.entries();
        let mut read = Keyring::from_entries(entries.iter().map(|(k, v)| (k.as_str(), v.as_slice())))
            .expect("own entries");
        assert_eq!(read.holds().collect::<Vec<_>>(), [(&hold.moved(DestroyAt::from_second(90)), id)]);
        assert!(!read.has_due(at(89)) && read.has_due(at(90)));
        assert_eq!((read.drop_due(at(89)), read.drop_due(at(90)), read.holds().count()), (0, 1, 0));
    }

    fn with_recipients(epoch: i64, horizon: i64) -> Keyring {
        let mut identities = BackupIdentities::new(id());
        identities.extend(Grid::new(&id(), SignedDuration::from_secs(epoch)), at(0), at(horizon));
        let mut keyring = keyring(epoch, 0, horizon);
        keyring.set_recipients(identities.recipients());
        keyring
    }

    #[test]
    fn recipients_are_entries_but_no_keys_that_must_be_destroyed() {
        let mut keyring = with_recipients(DAY, 10 * DAY);
        let entries = keyring.entries();
        let read = Keyring::from_entries(entries.iter().map(|(k, v)| (k.as_str(), v.as_slice())))
            .expect("own entries");
        assert_eq!((read.recipients(), read.entries()), (keyring.recipients(), entries));
        keyring.epochs.clear();
        let first = keyring.recipients().keys().next().expect("one").destroy_at();
        assert_eq!(keyring.first_destruction(), None);
        assert!(!keyring.has_due(at(first.as_second())));
        let before = keyring.recipients().len();
        assert_eq!(keyring.drop_due(at(first.as_second())), 0, "none of them is a key");
        assert_eq!(keyring.recipients().len(), before - 1);
    }

    #[test]
    fn foreign_entries_are_refused_by_name() {
        let key = [0; 32];
        for (name, bytes) in [
            ("epoch.x", &key[..]),
            ("volume.x", &key[..]),
            ("hold.x", &key[..]),
            ("backup.x", b"age1"),
            ("backup.20261229T000000Z", &key[..]),
            ("o", &key[..]),
            ("volume.1", b"x"),
        ] {
            let error = Keyring::from_entries([(name, bytes)]).expect_err("foreign").to_string();
            assert!(error.contains("entry"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_key_dies_at_or_before_the_deadline_and_less_than_an_epoch_early(
            deadline in 1i64..90 * DAY, now in 0i64..90 * DAY, epoch in 3600i64..2 * DAY,
        ) {
            let keyring = keyring(epoch, 0, 90 * DAY);
            match keyring.name_for(at(deadline), at(now)) {
                Some(name) => {
                    prop_assert!(name.as_second() <= deadline && deadline - name.as_second() < epoch);
                    prop_assert!(name.as_second() > now);
                }
                None => prop_assert!(deadline - now < epoch),
            }
        }

        #[test]
        fn a_backups_identity_dies_at_or_before_its_expiry_and_less_than_an_epoch_early(
            expiry in 1i64..20 * DAY, now in 0i64..20 * DAY,
        ) {
            let keyring = with_recipients(DAY, 20 * DAY);
            match keyring.recipient_for(at(expiry), at(now)) {
                Some((name, recipient)) => {
                    let second = name.destroy_at().as_second();
                    prop_assert!(second <= expiry && expiry - second < DAY && second > now);
                    prop_assert_eq!(&keyring.recipients()[&name], recipient);
                }
                None => prop_assert!(expiry - now < DAY),
            }
        }

        #[test]
        fn due_keys_are_dropped_and_no_other(now in 0i64..95 * DAY) {
            let mut keyring = keyring(DAY, 0, 90 * DAY);
            let live: Vec<_> = keyring.live(at(now)).collect();
            keyring.drop_due(at(now));
            prop_assert_eq!(live, keyring.epochs.keys().copied().collect::<Vec<_>>());
        }
    }
}
