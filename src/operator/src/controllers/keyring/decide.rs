//! What is to be done with a keyring, one step at a time. Pure: the same for whoever leads, however often it was
//! interrupted.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::relay::{KeyringUse, Retention};
use marketrelay_keyring::DestroyAt;

use super::facts::{Held, KeyringFacts, key_epoch, reaches};

/// Nothing that is due waits for this: only a clock that was set, or a policy that became known in between.
const LOOK: Duration = Duration::from_mins(1);
/// While a relay's word or the API server's clock is waited for.
const LOOK_SOON: Duration = Duration::from_secs(5);

/// Everything that matters beside the keyring.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The retention in effect; `None`: there is no connection, or its policy can't be used.
    pub retention: Option<Retention>,
    /// The last word of the keyring's own relay.
    pub relay: Option<KeyringUse>,
    /// By our clock.
    pub now: Timestamp,
    /// No operator's clock that agrees has reached this time: keys of before it aren't made.
    pub unreached: Timestamp,
    /// Whether the two agree. If not, nothing is done by the clock.
    pub agreed: bool,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Epoch keys whose time has come.
    Destroy(Vec<DestroyAt>),
    /// Volume keys below this generation: the relay needs them no more.
    DropVolumeKeys(u32),
    /// The keyring runs short of epoch keys.
    Extend(Retention),
    /// The volume key's replacement begins.
    AddVolumeKey(SignedDuration),
}

/// What is due before anything else, whatever else is known: the keys whose time has come.
pub fn due(held: &Held, seen: &Seen) -> Option<Step> {
    let due: Vec<_> = held.destroy_at.iter().copied().filter(|at| at.is_due(seen.now)).collect();
    (seen.agreed && !due.is_empty()).then_some(Step::Destroy(due))
}

/// The next step; `None`: all is as it should be.
pub fn next(held: &Held, seen: &Seen) -> Option<Step> {
    due(held, seen).or_else(|| replaced(held, seen)).or_else(|| ahead(held, seen))
}

/// Ends the volume key's replacement, once the relay says that nothing needs an older one.
fn replaced(held: &Held, seen: &Seen) -> Option<Step> {
    let (oldest, newest) = generations(held.keyring.as_ref().ok()?)?;
    let used = seen.relay.as_ref()?;
    let confirmed = oldest < newest && used.oldest_generation == newest && used.mounted_generation == newest;
    confirmed.then_some(Step::DropVolumeKeys(newest))
}

/// Makes the keys that will be needed.
fn ahead(held: &Held, seen: &Seen) -> Option<Step> {
    let facts = held.keyring.as_ref().ok().filter(|_| seen.agreed)?;
    if let Some(retention) = seen.retention.filter(|retention| !reaches(facts, retention, seen.unreached)) {
        return Some(Step::Extend(retention));
    }
    let (oldest, newest) = generations(facts)?;
    let epoch = epoch(facts, seen);
    let old = facts.volume_key_since.is_none_or(|since| seen.now.duration_since(since) >= epoch);
    (oldest == newest && old).then_some(Step::AddVolumeKey(epoch))
}

fn generations(facts: &KeyringFacts) -> Option<(u32, u32)> {
    Some((*facts.generations.first()?, *facts.generations.last()?))
}

fn epoch(facts: &KeyringFacts, seen: &Seen) -> SignedDuration {
    seen.retention.as_ref().map_or(facts.key_epoch, key_epoch)
}

/// How long nothing has to be done for, if nobody rings: until the very moment of the next key.
pub fn idle(held: &Held, seen: &Seen) -> Duration {
    let waits = !seen.agreed || held.keyring.as_ref().is_ok_and(|facts| facts.generations.len() > 1);
    let destruction = held.destroy_at.first().and_then(|at| Timestamp::from_second(at.as_second()).ok());
    let replacement = held.keyring.as_ref().ok().and_then(|facts| {
        let due = facts.volume_key_since?.checked_add(epoch(facts, seen)).ok()?;
        (facts.generations.len() == 1).then_some(due)
    });
    let look = if waits { LOOK_SOON } else { LOOK };
    let until = |at: Timestamp| Duration::try_from(at.duration_since(seen.now)).unwrap_or_default();
    // What is due already wasn't done, or this would not be asked: it waits for something.
    let moments = [destruction, replacement].into_iter().flatten().map(until).filter(|wait| !wait.is_zero());
    moments.min().map_or(look, |wait| wait.min(look))
}
