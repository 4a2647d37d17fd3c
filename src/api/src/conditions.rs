//! The conditions of the resources and their reasons.

use std::fmt;

/// The type of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// Everything that the resource promises holds.
    Ready,
    /// Orders are collected from the marketplace.
    Collecting,
    /// Orders reach the destination.
    Delivering,
    /// The volume's StorageClass encrypts at rest.
    StorageEncrypted,
    /// Keys die on time, and the relay confirms it.
    RetentionEnforced,
    /// The relay's audit log continues the one that the operator has seen.
    AuditIntact,
    /// The relay keeps what the holds name.
    Held,
    /// The site near the cluster has a backup that is new enough.
    BackedUpOnSite,
    /// The site far from it has one.
    BackedUpOffSite,
    /// The newest backup of the site near the cluster was restored and checked lately.
    DrilledOnSite,
    /// That of the site far from it was.
    DrilledOffSite,
    /// What opens the backups is kept for the loss of the cluster.
    Escrowed,
    /// What was asked for is done.
    Complete,
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why a condition is as it is, for machines. The relay adds its own for collecting and delivering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// It works.
    Ready,
    /// Orders are collected.
    Collecting,
    /// Orders are delivered.
    Delivering,
    /// The StorageClass is known to encrypt.
    Encrypted,
    /// `spec.suspend` is true.
    Suspended,
    /// No backups are taken, since `spec.suspend` or `spec.backup.suspend` is true.
    BackupsSuspended,
    /// A value that the API server could not check can't be used.
    InvalidSpec,
    /// A referenced Secret doesn't exist.
    SecretNotFound,
    /// A referenced Secret lacks an entry.
    SecretIncomplete,
    /// An entry of a referenced Secret can't be used.
    SecretInvalid,
    /// The referenced RetentionPolicy doesn't exist.
    PolicyNotFound,
    /// The RetentionPolicy can't be used.
    PolicyNotReady,
    /// A duration below a day, without the operator's permission.
    ShortDurationsNotAllowed,
    /// A shorter retention waits until it takes effect.
    ShorteningWaits,
    /// Neither the connection nor the cluster names a StorageClass.
    StorageClassMissing,
    /// The StorageClass doesn't exist.
    StorageClassNotFound,
    /// The StorageClass isn't known to encrypt.
    StorageNotEncrypted,
    /// An existing volume can't become what the spec asks for.
    VolumeNotChangeable,
    /// A volume is waiting for its provisioner.
    VolumePending,
    /// The namespace's quota is exhausted.
    QuotaExceeded,
    /// The API server or an admission policy refuses an object.
    Forbidden,
    /// The API server doesn't accept an object for another reason.
    ApplyFailed,
    /// An object of the same name belongs to somebody else.
    NameConflict,
    /// A key Secret that must exist is gone or damaged.
    KeyringLost,
    /// The identities that open backups are damaged, or another connection's.
    BackupIdentitiesLost,
    /// The relay's pod isn't running yet.
    RelayStarting,
    /// The pod can't be scheduled.
    Unschedulable,
    /// The image can't be pulled.
    ImageNotPullable,
    /// The relay ends again and again.
    CrashLooping,
    /// The relay runs but doesn't answer.
    RelayUnreachable,
    /// The relay doesn't run with the newest configuration yet.
    ConfigurationPending,
    /// The new relay image halts at another connection that fails on it.
    RolloutHalted,
    /// Collecting fails, and the relay gives no reason of its own.
    CollectingFails,
    /// Delivering fails, and the relay gives no reason of its own.
    DeliveringFails,
    /// The destination answered that it wants no more.
    DestinationDisabled,
    /// Keys die on time.
    Enforced,
    /// A key's time has come and it still exists.
    DestructionLate,
    /// The operator's clock and the API server's don't agree.
    ClockDisagrees,
    /// The relay doesn't confirm that it uses a key no more.
    KeyNotConfirmed,
    /// The relay holds personal data whose deadline has passed.
    PersonalDataOverdue,
    /// The relay can't anonymise, seal anew or replace the volume key.
    KeepingDeadlinesFails,
    /// Orders will be given up unless the destination takes them soon.
    DeliveriesAtRisk,
    /// The audit log continues the one that was seen, and its head is signed.
    AuditIntact,
    /// The audit log ends before a record that was seen, or has another one in its place.
    AuditRewritten,
    /// The audit log is another one: the volume was begun anew.
    AuditBegunAnew,
    /// The audit log's head isn't signed with the key that it was signed with before.
    AuditKeyChanged,
    /// The relay tells no signed head of its audit log.
    AuditUnsigned,
    /// What a hold names is kept. Of a request: some of what was to be erased is.
    Held,
    /// A hold's key or the relay's confirmation isn't there yet.
    HoldPending,
    /// A store of backups doesn't have an archive yet of all that a hold keeps.
    HoldNotArchived,
    /// The keyring has no room for another hold.
    TooManyHolds,
    /// A hold is kept that the policy doesn't ask for any more, or not for so long.
    HoldKept,
    /// The end of the policy's holds has passed.
    HoldEnded,
    /// The keys are kept with the off-site backups.
    Escrowed,
    /// Nobody could open the backups once the cluster is lost.
    NotEscrowed,
    /// The newest keys, or the end of older ones, haven't reached the off-site store.
    EscrowOverdue,
    /// A backup is becoming the relay's database.
    Restoring,
    /// No backup could become the relay's database yet.
    RestoreFailed,
    /// More was erased than Jobs that restore have room for.
    TooManyErasures,
    /// A backup has become the relay's database.
    Restored,
    /// The newest backup is new enough, and the last Job succeeded.
    BackedUp,
    /// The last drill has restored the newest backup and found it to be right.
    Drilled,
    /// The last drill has not.
    DrillFailed,
    /// No drill has succeeded for too long.
    DrillOverdue,
    /// There is no backup that is new enough.
    BackupTooOld,
    /// A Job of backups wasn't done in time.
    BackupTimedOut,
    /// A Job of backups ended without saying why.
    BackupFailed,
    /// Backups are in the store that should be gone.
    BackupsOverdue,
    /// The store has not been listed for days.
    BackupsNotListed,
    /// The store doesn't answer.
    StoreUnreachable,
    /// The store doesn't accept the credentials, or they may not do what is needed.
    StoreRefused,
    /// The bucket doesn't exist.
    BucketNotFound,
    /// The store takes no more.
    StoreFull,
    /// The store wants fewer requests.
    StoreThrottled,
    /// The store answers something else than S3 does.
    StoreInvalid,
    /// The store's clock and the Job's don't agree.
    ClockSkew,
    /// The store keeps objects for longer than backups may exist.
    ObjectLocked,
    /// There is no key yet that a backup could be encrypted to.
    NoBackupKey,
    /// The keys that are to be escrowed aren't whole.
    KeyringInvalid,
    /// The relay could not take a snapshot, or it was damaged on its way.
    SnapshotFailed,
    /// The Job was ended from outside.
    Interrupted,
    /// Nothing has been collected, delivered or backed up yet.
    FirstRun,
    /// What an other condition depends on isn't there.
    NotRunning,
    /// The subject's personal data is erased everywhere.
    Erased,
    /// No connection holds anything of the subject.
    SubjectUnknown,
    /// The subject is known, and the relays are being asked.
    Erasing,
    /// A relay hasn't answered yet.
    WaitingForRelay,
    /// A deleted connection's volume may hold the subject's data, and no relay runs that could erase it.
    VolumeRetained,
    /// There is no connection in the namespace.
    NoConnections,
    /// A connection that the spec names doesn't exist.
    ConnectionNotFound,
    /// The namespace has no digest key yet.
    DigestKeyMissing,
    /// The closure waits for a confirmation on the connection's record.
    ClosureAwaitsConfirmation,
    /// The account is being closed.
    Closing,
    /// The account is closed: nothing of it is left.
    Closed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.to_string()
    }
}

#[cfg(test)]
mod tests {
    /// As this file lists them.
    fn reasons() -> Vec<&'static str> {
        let (_, variants) = include_str!("conditions.rs").split_once("pub enum Reason {").expect("the enum");
        let (variants, _) = variants.split_once("\n}").expect("its end");
        let lines = variants.lines().map(str::trim).filter(|line| !line.starts_with("///"));
        lines.filter_map(|line| line.strip_suffix(',')).collect()
    }

    #[test]
    fn every_reason_has_its_section_in_the_runbook() {
        let reasons = reasons();
        assert!(reasons.contains(&"Ready") && reasons.contains(&"NotRunning"), "{reasons:?}");
        let runbook = include_str!("../../../docs/runbooks/conditions.md");
        let sections: Vec<_> = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        let missing: Vec<_> = reasons.into_iter().filter(|reason| !sections.contains(reason)).collect();
        assert!(missing.is_empty(), "docs/runbooks/conditions.md has no section for {missing:?}");
    }
}
