//! Keys per epoch, sealing and opening, digests and deadlines. Pure: no clock, no file, no network; the caller
//! passes the time and the bytes.
//!
//! A connection's PII is sealed under a key that dies when the PII must be gone. [`Keyring`] is the set of live
//! keys (the entries of one Secret), [`Keyring::seal`] and [`Keyring::open`] are the envelope, [`deadline`] says
//! when a record's key must die and [`DigestKey`] finds records without opening them. [`BackupIdentities`] opens backups,
//! which the keyring knows the recipients of.

mod archive;
mod backup_identities;
mod backup_key;
mod backup_wrap;
mod connection_id;
mod deadline;
mod digest;
mod envelope;
mod epoch;
mod hold;
mod keyring;
mod pending;
mod pii;

pub use archive::archive_identity;
pub use backup_identities::{BackupIdentities, Recipient};
pub use backup_key::{BackupKey, InvalidBackupKey};
pub use connection_id::{ConnectionId, InvalidConnectionId};
pub use deadline::{Limits, deadline};
pub use digest::{Digest, DigestKey};
pub use envelope::{HeldRef, OpenError, RecordKind, RecordRef, SealError, Sealed};
pub use epoch::{DestroyAt, Grid, InvalidDestroyAt};
pub use hold::{HoldId, HoldKey, InvalidHoldId, InvalidHoldKey};
pub use keyring::{DIGEST_KEY_ENTRY, Keyring, KeyringError, SecretKey};
pub use pii::Pii;
