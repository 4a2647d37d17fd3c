//! What has a closure wait until somebody confirms it on the record.

use std::collections::BTreeSet;

use marketrelay_api::record::ClosureCause;

use super::found::Found;
use crate::controllers::connection::Context;

/// Why a closure waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    /// It would destroy what these holds keep.
    Holds(BTreeSet<String>),
    /// Too many began lately.
    Breaker,
}

/// Asked once, of what is about to be destroyed. `None`: it may begin, and is counted. Who confirmed on the record meant it,
/// and what is gone can't wait.
pub fn waits(context: &Context, id: &str, cause: ClosureCause, found: &Found) -> Option<Waits> {
    if cause != ClosureCause::ConnectionConfirmed {
        return None;
    }
    let holds: BTreeSet<_> = found.holds().into_iter().map(str::to_owned).collect();
    if !holds.is_empty() {
        return Some(Waits::Holds(holds));
    }
    let (now, breaker) = (context.clock.now(), context.config.closure.breaker);
    (!context.closures.admits(id, now, breaker, &context.stores.records)).then_some(Waits::Breaker)
}
