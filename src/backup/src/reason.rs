use std::fmt;

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
    /// The Job was asked to end.
    Interrupted,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The names are the reasons.
        fmt::Debug::fmt(self, f)
    }
}
