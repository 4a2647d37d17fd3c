//! What the relay needs around it: mounts, marketplaces, a destination, an authority.

mod audit;
mod authority;
mod backups;
mod control;
mod delivery;
mod destination;
mod keys;
mod mounts;
mod orders;
mod pages;
mod process;
mod raw;
mod waiting;

pub use audit::{exported as audit_exported, signer as audit_signer, verify as audit_verify};
pub use authority::Authority;
pub use backups::{Taken, identities, take_apart, with_recipients};
pub use control::{Control, sandbox, sandbox_with};
pub use delivery::{DATABASE_KEY, Delivery, LIMITS};
pub use destination::{Answer, Destination, Request};
pub use keys::{with_hold, with_later_epoch, with_volume, without_hold, without_volume};
pub use mounts::{CLIENT, ID, Mounts, SECRET, amazon, bol, ebay, write};
pub use orders::{any_order, order};
pub use pages::decrypted;
pub use process::Process;
pub use raw::{Bytes, remains};
pub use waiting::{SOON, backing_off, drained, reason, requests};

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// Waits until `look` finds something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
