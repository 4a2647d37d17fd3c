use std::fmt;

use marketrelay_api::backup::Failure;

/// Of a report's message; the whole report must stay below 4 KiB.
const LONGEST_MESSAGE: usize = 1024;

/// Why a Job failed, as its condition says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The store doesn't answer, or not with what it should.
    StoreUnreachable,
    /// It refuses the credentials, or they may not do what is needed.
    StoreRefused,
    /// It has no such bucket.
    BucketNotFound,
    /// It has no room.
    StoreFull,
    /// It asks to be asked less often.
    StoreThrottled,
    /// Its clock and ours differ.
    ClockSkew,
    /// Its bucket keeps objects longer than backups may be kept.
    ObjectLocked,
    /// Something in its configuration can't work.
    StoreInvalid,
    /// The relay doesn't answer.
    RelayUnreachable,
    /// The relay has no key that a backup could be encrypted for.
    NoBackupKey,
    /// The relay could not give a whole snapshot.
    SnapshotFailed,
    /// There is no backup.
    NoBackup,
    /// There is none that was asked for.
    BackupNotFound,
    /// It may be in a store that can't be used.
    SiteLeftOut,
    /// It isn't what its relay has signed, or can't be read.
    BackupDamaged,
    /// The newest one is older than it may be.
    BackupTooOld,
    /// A restored database has personal data that should be gone.
    PersonalDataLeft,
    /// Not everything is known that was erased since it was taken.
    TooManyErasures,
    /// The identity that opens it is gone.
    IdentityMissing,
    /// The volume has a database, which isn't to be replaced.
    VolumeInUse,
    /// The volume has no room.
    StorageFull,
    /// The volume or the database's key can't be used.
    DatabaseError,
    /// The keyring lacks what it should have.
    KeyringInvalid,
    /// The digest key isn't the one that the backup's database was filled with.
    DigestKeyInvalid,
    /// The Job was asked to end.
    Interrupted,
}

impl Reason {
    /// As a Job reports it.
    pub fn failure(self, message: &str) -> Failure {
        self.failure_with(message, "")
    }

    /// The same, with what to do about it, which is never cut off.
    pub fn failure_with(self, message: &str, mend: &str) -> Failure {
        let most = LONGEST_MESSAGE.saturating_sub(mend.len());
        Failure { reason: self.to_string(), message: format!("{}{mend}", short(message, most)) }
    }
}

/// At most so many bytes of it.
pub fn short(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The names are the reasons.
        fmt::Debug::fmt(self, f)
    }
}
