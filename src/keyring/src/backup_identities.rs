use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
};

use age::{secrecy::ExposeSecret, x25519::Identity};
use jiff::Timestamp;
use snafu::{OptionExt, ResultExt};

use crate::{
    BackupKey, ConnectionId, DestroyAt, Grid, KeyringError,
    keyring::{
        BackupIdentitySnafu, BackupNameSnafu, CONNECTION_ID, IdentitySnafu, MissingEntrySnafu,
        UnknownEntrySnafu, ahead,
    },
};

/// What a connection's backups are encrypted to: public.
pub type Recipient = age::x25519::Recipient;

/// The live identities that open one connection's backups: the entries of a Secret beside the keyring, which the relay
/// never sees.
///
/// | entry | bytes |
/// |---|---|
/// | `connection-id` | the connection's UUID as text |
/// | `backup.20261229T000000Z` | the age identity that is destroyed at that second, as text: `AGE-SECRET-KEY-1…` |
#[derive(Clone)]
pub struct BackupIdentities {
    id: ConnectionId,
    // They zeroize themselves.
    identities: BTreeMap<BackupKey, Identity>,
}

impl BackupIdentities {
    /// Without identities; [`BackupIdentities::extend`] adds them.
    pub fn new(id: ConnectionId) -> Self {
        Self { id, identities: BTreeMap::new() }
    }

    /// Adds an identity for every expiry between `now` and `horizon`, and those ahead of them, as
    /// [`Keyring::extend`](crate::Keyring::extend) does. Says how many it added.
    pub fn extend(&mut self, grid: Grid, now: Timestamp, horizon: Timestamp) -> usize {
        let before = self.identities.len();
        for at in grid.points(now, ahead(grid, horizon)) {
            if let Entry::Vacant(entry) = self.identities.entry(BackupKey::new(at)) {
                entry.insert(Identity::generate());
            }
        }
        self.identities.len() - before
    }

    /// Reads the entries of the Secret. An unknown entry is refused, as in a keyring.
    pub fn from_entries<'a>(
        entries: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, KeyringError> {
        let (mut id, mut identities) = (None, BTreeMap::new());
        for (name, bytes) in entries {
            if name == CONNECTION_ID {
                id = Some(String::from_utf8_lossy(bytes).parse().context(IdentitySnafu)?);
            } else if name.starts_with("backup.") {
                let identity = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
                let key = name.parse().context(BackupNameSnafu)?;
                identities.insert(key, identity.context(BackupIdentitySnafu { name })?);
            } else {
                return UnknownEntrySnafu { name }.fail();
            }
        }
        Ok(Self { id: id.context(MissingEntrySnafu { name: CONNECTION_ID })?, identities })
    }

    /// The entries of the Secret, by name. The caller zeroizes the copies.
    pub fn entries(&self) -> BTreeMap<String, Vec<u8>> {
        let text = |identity: &Identity| identity.to_string().expose_secret().as_bytes().to_vec();
        let identities = self.identities.iter().map(|(name, identity)| (name.to_string(), text(identity)));
        let id = (CONNECTION_ID.to_owned(), self.id.as_str().as_bytes().to_vec());
        identities.chain([id]).collect()
    }

    /// Whose they are.
    pub fn connection_id(&self) -> &ConnectionId {
        &self.id
    }

    /// Opens what was encrypted to the recipient of that name; `None` once it is destroyed.
    pub fn identity(&self, name: BackupKey) -> Option<&Identity> {
        self.identities.get(&name)
    }

    /// What backups are encrypted to, soonest to be destroyed first.
    pub fn recipients(&self) -> BTreeMap<BackupKey, Recipient> {
        self.identities.iter().map(|(name, identity)| (*name, identity.to_public())).collect()
    }

    /// Forgets (and zeroizes) the identities whose time has come by the holder's own clock; says how many.
    pub fn drop_due(&mut self, now: Timestamp) -> usize {
        let before = self.identities.len();
        self.identities.retain(|name, _| !name.destroy_at().is_due(now));
        before - self.identities.len()
    }

    /// When the first identity is destroyed.
    pub fn first_destruction(&self) -> Option<DestroyAt> {
        self.identities.first_key_value().map(|(name, _)| name.destroy_at())
    }
}

impl fmt::Debug for BackupIdentities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupIdentities(..)")
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn id() -> ConnectionId {
        "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34".parse().expect("a UUID")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn identities(epoch: i64, horizon: i64) -> BackupIdentities {
        let mut identities = BackupIdentities::new(id());
        identities.extend(Grid::new(&id(), SignedDuration::from_secs(epoch)), at(0), at(horizon));
        identities
    }

    fn read(entries: &BTreeMap<String, Vec<u8>>) -> Result<BackupIdentities, KeyringError> {
        BackupIdentities::from_entries(entries.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))
    }

    #[test]
    fn entries_read_back_and_nothing_shows_in_debug() {
        let made = identities(3_600, 7_200);
        let entries = made.entries();
        let read = read(&entries).expect("own entries");
        assert_eq!((read.entries(), read.connection_id()), (entries, &id()));
        assert_eq!(format!("{read:?}"), "BackupIdentities(..)");
    }

    #[test]
    fn an_identity_alone_opens_what_was_encrypted_to_its_recipient() {
        let made = identities(3_600, 7_200);
        let recipients = made.recipients();
        let mut names = recipients.keys();
        let (first, second) = (names.next().expect("one"), names.next().expect("another"));
        let sealed = age::encrypt(&recipients[first], b"orders").expect("encrypted");
        let open = |name: &BackupKey| age::decrypt(made.identity(*name).expect("alive"), &sealed);
        assert_eq!(open(first).expect("its own"), b"orders");
        assert!(open(second).is_err());
    }

    #[test]
    fn extending_keeps_every_live_identity_and_settles() {
        let mut made = identities(3_600, 7_200);
        let (before, grid) = (made.entries(), Grid::new(&id(), SignedDuration::from_hours(1)));
        assert_eq!(made.extend(grid, at(0), at(7_200)), 0);
        assert_eq!(made.extend(grid, at(3_600), at(10_800)), 1);
        let after = made.entries();
        assert!(before.iter().all(|(name, identity)| after.get(name) == Some(identity)));
    }

    #[test]
    fn what_is_no_identity_is_refused_by_its_entry_and_never_shown() {
        let recipient = identities(3_600, 3_600).recipients().into_values().next().expect("one").to_string();
        for (name, bytes) in [
            ("epoch.20261229T000000Z", &[0; 32][..]),
            ("backup.x", b"AGE-SECRET-KEY-1"),
            ("backup.20261229T000000Z", b"AGE-SECRET-KEY-1"),
            ("backup.20261229T000000Z", recipient.as_bytes()),
            ("backup.20261229T000000Z", &[0xff]),
        ] {
            let error = BackupIdentities::from_entries([(name, bytes)]).expect_err("foreign").to_string();
            assert!(error.contains("entry") && !error.contains(&recipient), "{error}");
        }
        assert!(read(&BTreeMap::new()).is_err(), "nobody's");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn due_identities_are_dropped_and_no_other(now in 0i64..100_000) {
            let mut made = identities(3_600, 72_000);
            let live: Vec<_> =
                made.recipients().into_keys().filter(|name| !name.destroy_at().is_due(at(now))).collect();
            let before = made.recipients().len();
            prop_assert_eq!(made.drop_due(at(now)), before - live.len());
            prop_assert_eq!(made.first_destruction(), live.first().map(|name| name.destroy_at()));
            prop_assert_eq!(made.recipients().into_keys().collect::<Vec<_>>(), live);
        }
    }
}
