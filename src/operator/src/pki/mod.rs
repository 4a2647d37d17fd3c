//! Certificates inside the cluster: one authority in the operator's namespace, short-lived certificates per role.

mod authority;
mod keep;

pub use authority::{Authority, CaFiles, Issued, PkiError, Subject};
pub use keep::{KeepError, keep, load_or_create};
