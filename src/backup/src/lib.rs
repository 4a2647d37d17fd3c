//! Backups in S3 stores: written by Jobs, which know no Kubernetes and never see what is in them, pruned, and proven by listing;
//! outside the cluster they are listed, checked and read. Another Job makes the database of a relay's volume of one, and
//! another restores the newest one for a drill. The last one of all deletes what a closed connection has in its stores, or in those
//! that a connection has left what is escrowed there and what has expired.

pub mod archives;
pub mod catalog;
pub mod cli;
pub mod escrow;
mod expired;
mod id;
pub mod inventory;
pub mod job;
pub mod prune;
pub mod purge;
mod reason;
pub mod relay;
mod remove;
pub mod restore;
pub mod settings;
mod size;
pub mod store;
pub mod write;

pub use id::BackupId;
pub use reason::Reason;
