//! Why nothing was restored, or a drill failed.

use std::{
    io::{self, ErrorKind},
    path::PathBuf,
};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::backup::Site;
use marketrelay_relay::store::{self as database, import::ImportError};
use snafu::Snafu;

use crate::{BackupId, Reason, settings::SettingsError, store::StoreError};

/// A restore, one of the backups that it tried, or a drill failed.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RestoreError {
    #[snafu(context(false), display("{source}"))]
    Settings { source: SettingsError },
    #[snafu(display("the keyring can't be used: {problem}"))]
    Keyring { problem: String },
    #[snafu(display("the digest key can't be used: {problem}"))]
    DigestKey { problem: String },
    #[snafu(display("the database key can't be used: {problem}"))]
    DatabaseKey { problem: String },
    #[snafu(display("the identities that open backups can't be used: {problem}"))]
    Identities { problem: String },
    #[snafu(display("{site}: {source}"))]
    Store { site: Site, source: StoreError },
    #[snafu(display("there is no backup of the connection that hasn't expired"))]
    NoBackup,
    #[snafu(display("there is no backup {asked}; the newest are {there}"))]
    NotFound { asked: String, there: String },
    #[snafu(display(
        "{source}; it may be at the {site} store, which can't be used: the connection's condition of it says why"
    ))]
    LeftOut {
        site: Site,
        #[snafu(source(from(RestoreError, Box::new)))]
        source: Box<RestoreError>,
    },
    #[snafu(display("{problem}"))]
    Damaged { problem: String },
    #[snafu(display(
        "it was taken before {since}, and not all that was erased until then is known here: it would bring that back"
    ))]
    ErasuresMissing { since: Timestamp },
    #[snafu(display("the identity {name}, which opens it, isn't among those that are mounted"))]
    IdentityMissing { name: String },
    #[snafu(display("{source}"))]
    Import { source: ImportError },
    #[snafu(display("the newest backup, {}", source.of(backup, *site)))]
    Newest {
        backup: BackupId,
        site: Site,
        #[snafu(source(from(RestoreError, Box::new)))]
        source: Box<RestoreError>,
    },
    #[snafu(display("no backup can be used: {problems}"))]
    Unusable { reason: Reason, problems: String },
    #[snafu(display("what holds keep can't be read from their archives: {problems}"))]
    Archives { reason: Reason, problems: String },
    #[snafu(display(
        "the volume has a database, {}, and this restore isn't to replace it",
        path.display()
    ))]
    InUse { path: PathBuf },
    #[snafu(display("{}: {source}", path.display()))]
    Database { path: PathBuf, source: database::StoreError },
    #[snafu(display("{}: {source}", path.display()))]
    Volume { path: PathBuf, source: io::Error },
    #[snafu(display(
        "the volume has no room for the restored database beside what is on it until that gives way: raise \
         spec.storage.size"
    ))]
    VolumeFull,
    #[snafu(display(
        "there is no room for the drill's database in its scratch volume, an emptyDir on the node's disk that may take \
         as much as spec.storage.size: raise that, or make room on the node"
    ))]
    ScratchFull,
    #[snafu(display("the import has broken off: {source}"))]
    Broken { source: tokio::task::JoinError },
    #[snafu(display("the newest backup, {backup}, was taken {age:#} ago, which is more than {oldest:#}"))]
    TooOld { backup: String, age: SignedDuration, oldest: SignedDuration },
    #[snafu(display("{orders} orders that were erased are in the restored database"))]
    ErasedLeft { orders: u64 },
    #[snafu(display("personal data whose time came at {since} can be opened in the restored database"))]
    OverdueLeft { since: Timestamp },
    #[snafu(display("asked to end"))]
    Interrupted,
}

impl RestoreError {
    /// As the Job reports it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Settings { .. } => Reason::StoreInvalid,
            Self::Keyring { .. } => Reason::KeyringInvalid,
            Self::DigestKey { .. } => Reason::DigestKeyInvalid,
            Self::DatabaseKey { .. } | Self::Broken { .. } => Reason::DatabaseError,
            Self::Identities { .. } | Self::IdentityMissing { .. } => Reason::IdentityMissing,
            Self::Store { source, .. } => source.reason(),
            Self::NoBackup => Reason::NoBackup,
            Self::NotFound { .. } => Reason::BackupNotFound,
            Self::LeftOut { .. } => Reason::SiteLeftOut,
            Self::ErasuresMissing { .. } => Reason::TooManyErasures,
            Self::Damaged { .. } => Reason::BackupDamaged,
            Self::Import { source } => of_import(source),
            Self::Newest { source, .. } => source.reason(),
            Self::Unusable { reason, .. } | Self::Archives { reason, .. } => *reason,
            Self::InUse { .. } => Reason::VolumeInUse,
            Self::Database { source, .. } => of_database(source),
            Self::Volume { source, .. } => of_file(source),
            Self::VolumeFull | Self::ScratchFull => Reason::StorageFull,
            Self::TooOld { .. } => Reason::BackupTooOld,
            Self::ErasedLeft { .. } | Self::OverdueLeft { .. } => Reason::PersonalDataLeft,
            Self::Interrupted => Reason::Interrupted,
        }
    }

    /// Whether no other backup would do better.
    pub(super) fn is_final(&self) -> bool {
        matches!(
            self.reason(),
            Reason::StorageFull
                | Reason::DatabaseError
                | Reason::KeyringInvalid
                | Reason::DigestKeyInvalid
                | Reason::VolumeInUse
                | Reason::Interrupted
        )
    }

    /// What fills up in the place of `self`, if it is that.
    pub(super) fn or_full(self, full: Self) -> Self {
        if self.reason() == Reason::StorageFull { full } else { self }
    }

    /// As one of several that can't be used.
    pub(super) fn of(&self, backup: &BackupId, site: Site) -> String {
        match self {
            Self::Store { .. } => format!("{backup}: {self}"),
            _ => format!("{backup} ({site}): {self}"),
        }
    }
}

fn of_import(error: &ImportError) -> Reason {
    match error {
        ImportError::NoAuditKey | ImportError::KeyMissing { .. } => Reason::KeyringInvalid,
        ImportError::Exists { .. } => Reason::DatabaseError,
        ImportError::Stopped => Reason::Interrupted,
        ImportError::Store { source } => of_database(source),
        ImportError::File { source, .. } => of_file(source),
        _ => Reason::BackupDamaged,
    }
}

fn of_database(error: &database::StoreError) -> Reason {
    use database::StoreError as Error;
    match error {
        Error::Full => Reason::StorageFull,
        Error::OtherDigestKey => Reason::DigestKeyInvalid,
        Error::KeyringTooShort | Error::OlderKeyring { .. } | Error::Seal { .. } => Reason::KeyringInvalid,
        Error::NewerSchema { .. }
        | Error::OtherConnection { .. }
        | Error::Unreadable { .. }
        | Error::Render { .. }
        | Error::Value { .. } => Reason::BackupDamaged,
        Error::LogInUse => Reason::VolumeInUse,
        Error::WrongKey | Error::Sqlite { .. } | Error::Ended => Reason::DatabaseError,
    }
}

fn of_file(error: &io::Error) -> Reason {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Reason::StorageFull,
        _ => Reason::DatabaseError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(source: ImportError) -> (Reason, bool) {
        let error = RestoreError::Import { source };
        (error.reason(), error.is_final())
    }

    #[test]
    fn a_full_volume_ends_it_and_a_bad_backup_gives_way() {
        let full = || io::Error::from(ErrorKind::StorageFull);
        let path = PathBuf::new;
        assert_eq!(of(ImportError::File { path: path(), source: full() }), (Reason::StorageFull, true));
        assert_eq!(of(database::StoreError::Full.into()), (Reason::StorageFull, true));
        assert_eq!(of(database::StoreError::OtherDigestKey.into()), (Reason::DigestKeyInvalid, true));
        let missing = marketrelay_keyring::DestroyAt::from_second(0);
        assert_eq!(of(ImportError::KeyMissing { name: missing }), (Reason::KeyringInvalid, true));
        let newer = database::StoreError::NewerSchema { found: 9, known: 8 };
        for error in [ImportError::AuditLog, newer.into(), ImportError::Identity { name: String::new() }] {
            assert_eq!(of(error), (Reason::BackupDamaged, false));
        }
    }
}
