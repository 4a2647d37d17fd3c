//! The stores of a connection's backups: while it lives, a copy of their credentials is kept in the operator's namespace, and once
//! it is closed, everything of it goes from them (ADR 27). From those that it has left before, what is escrowed goes (ADR 28), and
//! backups go as they expire (ADR 29).

mod advance;
mod attempt;
mod decide;
mod expired;
mod facts;
mod keep;
mod known;
mod objects;
mod purge;
mod secret;
mod unused;
mod withdraw;

pub use advance::{advance, are_remembered, delete_policy, drop_credentials, forget};
pub use attempt::Attempt;
pub use decide::{begun, due, noted, waiting};
pub use expired::{remaining, with_backups_left};
pub use facts::{Facts, look};
pub use keep::{Copies, Kept, Source, Used, keep};
pub use known::{address, may_hold, named_anew, of};
pub use purge::Purge;
pub use unused::heard;
pub use withdraw::retained;

use jiff::Timestamp;
use marketrelay_api::{ConnectionRecordStatus, MarketplaceConnection, OperatorConfig};
use purge::What;

/// What is to be removed from stores that were left, of those that it is time for.
pub fn from_left(
    status: &ConnectionRecordStatus,
    connection: Option<&MarketplaceConnection>,
    config: &OperatorConfig,
    now: Timestamp,
) -> Vec<Purge> {
    let escrowed = withdraw::withdrawal(status, connection, config, now);
    escrowed.into_iter().chain(expired::expiring(status, now)).collect()
}

/// With what has become of it.
pub fn onto(before: &ConnectionRecordStatus, after: &Purge, facts: &Facts) -> ConnectionRecordStatus {
    match after.what {
        What::Everything => before.clone(),
        What::Escrow => withdraw::withdrawn(before, after),
        What::Expired => expired::pruned(before, after, facts),
    }
}
