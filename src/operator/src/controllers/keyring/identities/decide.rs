//! What is to be done with identities, one step at a time. Pure, as for keyrings.

use std::time::Duration;

use jiff::Timestamp;
use marketrelay_keyring::BackupKey;

use super::facts::{Held, Reach};
use crate::controllers::keyring::decide::until_first;

/// Everything that matters beside the identities.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How far they must reach; `None`: no more are needed.
    pub reach: Option<Reach>,
    /// By our clock.
    pub now: Timestamp,
    /// No operator's clock that agrees has reached this time: identities of before it aren't made.
    pub unreached: Timestamp,
    /// Whether the clocks agree. If not, nothing is done by them.
    pub agreed: bool,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Identities whose time has come.
    Destroy(Vec<BackupKey>),
    /// There are too few.
    Extend(Reach),
}

/// What is due before anything else.
pub fn due(held: &Held, seen: &Seen) -> Option<Step> {
    let due: Vec<_> = held.names.iter().copied().filter(|name| name.destroy_at().is_due(seen.now)).collect();
    (seen.agreed && !due.is_empty()).then_some(Step::Destroy(due))
}

/// The next step; `None`: all is as it should be.
pub fn next(held: &Held, seen: &Seen) -> Option<Step> {
    due(held, seen).or_else(|| {
        let facts = held.identities.as_ref().ok().filter(|_| seen.agreed)?;
        let short = seen.reach.filter(|reach| !reach.is_covered(facts, seen.unreached));
        short.map(Step::Extend)
    })
}

/// How long nothing has to be done for, if nobody rings: until the very moment of the next identity.
pub fn idle(held: &Held, seen: &Seen) -> Duration {
    if next(held, seen).is_some() {
        return Duration::ZERO;
    }
    let first = held.first().and_then(|at| Timestamp::from_second(at.as_second()).ok());
    until_first(first.into_iter(), seen.now, !seen.agreed)
}
