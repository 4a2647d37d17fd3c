//! Backups in S3 stores: written by Jobs, which know no Kubernetes and never see what is in them, pruned, and proven by listing;
//! outside the cluster they are listed, checked and read.

pub mod catalog;
pub mod cli;
mod id;
pub mod inventory;
pub mod job;
pub mod prune;
mod reason;
pub mod relay;
pub mod settings;
pub mod store;
pub mod write;

pub use id::BackupId;
pub use reason::Reason;
