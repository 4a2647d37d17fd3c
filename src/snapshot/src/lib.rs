//! The format of backups, as docs/backup-format.md describes it. Pure: no clock, no file, no network.

mod manifest;

pub use manifest::{Data, FORMAT, Manifest, ManifestError, SignedManifest, Table};
