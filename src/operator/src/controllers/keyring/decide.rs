//! What is to be done with a keyring, one step at a time. Pure: the same for whoever leads, however often it was
//! interrupted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::relay::{KeyringUse, Retention};
use marketrelay_keyring::{BackupKey, DestroyAt, HoldKey, Recipient};

use super::facts::{Held, KeyringFacts, key_epoch, reaches};
use crate::controllers::holds::{Asked, MOST, last};

/// Nothing that is due waits for this: only a clock that was set, or a policy that became known in between.
const LOOK: Duration = Duration::from_mins(1);
/// While a relay's word or the API server's clock is waited for.
const LOOK_SOON: Duration = Duration::from_secs(5);

/// Everything that matters beside the keyring.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The retention in force; `None`: there is no connection, or none was ever in force.
    pub retention: Option<Retention>,
    /// What the policy asks of holds; nothing if there is no connection, or its policy can't be used.
    pub holds: Asked,
    /// Holds that have ended at the connection.
    pub ended: BTreeSet<String>,
    /// The last word of the keyring's own relay.
    pub relay: Option<KeyringUse>,
    /// Whether its keys must be escrowed, and are.
    pub escrow: Escrowed,
    /// The audit log of the connection's database, where there is a backup of it.
    pub database: Option<String>,
    /// What the identities of its backups open; nothing if there are none that can be used.
    pub recipients: BTreeMap<BackupKey, Recipient>,
    /// By our clock.
    pub now: Timestamp,
    /// No operator's clock that agrees has reached this time: keys of before it aren't made.
    pub unreached: Timestamp,
    /// Whether the two agree. If not, nothing is done by the clock.
    pub agreed: bool,
}

/// How far the escrow of a keyring and its identities is, as they are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escrowed {
    /// They needn't be.
    #[default]
    Unwanted,
    /// They aren't yet.
    Waits,
    /// They are, all of them.
    Confirmed,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Keys that are escrowed, or needn't be any more, may seal.
    Confirm,
    /// The audit log of the connection's database is noted.
    NoteDatabase(String),
    /// Epoch keys whose time has come.
    Destroy(Vec<DestroyAt>),
    /// Keys of holds whose time has come.
    DestroyHolds(Vec<HoldKey>),
    /// The key of a hold that may end before its time.
    EndHold(HoldKey),
    /// A hold's key is to be destroyed at another second.
    MoveHold(HoldKey, DestroyAt),
    /// A hold has no key yet.
    AddHold(HoldKey),
    /// Volume keys below this generation: the relay needs them no more.
    DropVolumeKeys(u32),
    /// The keyring runs short of epoch keys.
    Extend(Retention),
    /// The volume key's replacement begins.
    AddVolumeKey(SignedDuration),
    /// The relay has nothing to sign its audit log with.
    AddAuditKey,
    /// Backups are to be encrypted to these.
    SetRecipients(BTreeMap<BackupKey, Recipient>),
}

/// What is due before anything else, whatever else is known: the keys whose time has come.
pub fn due(held: &Held, seen: &Seen) -> Option<Step> {
    let due: Vec<_> = held.destroy_at.iter().copied().filter(|at| at.is_due(seen.now)).collect();
    if seen.agreed && !due.is_empty() {
        return Some(Step::Destroy(due));
    }
    let due: Vec<_> = held.holds.iter().filter(|key| key.destroy_at().is_due(seen.now)).cloned().collect();
    (seen.agreed && !due.is_empty()).then_some(Step::DestroyHolds(due))
}

/// The next step; `None`: all is as it should be.
pub fn next(held: &Held, seen: &Seen) -> Option<Step> {
    keys(held, seen).or_else(|| recipients(held, seen))
}

/// The next step that isn't about recipients, for who doesn't know what there is of identities.
pub fn keys(held: &Held, seen: &Seen) -> Option<Step> {
    due(held, seen)
        .or_else(|| confirmed(held, seen))
        .or_else(|| holds(held, seen))
        .or_else(|| replaced(held, seen))
        .or_else(|| ahead(held, seen))
        .or_else(|| audit_key(held, seen))
        .or_else(|| database(held, seen))
}

/// A key seals nothing before whoever restores a lost cluster has it.
fn confirmed(held: &Held, seen: &Seen) -> Option<Step> {
    let facts = held.keyring.as_ref().ok()?;
    (facts.has_pending && seen.escrow != Escrowed::Waits).then_some(Step::Confirm)
}

/// It outlives the connection's status with the keyring.
fn database(held: &Held, seen: &Seen) -> Option<Step> {
    let known = &held.keyring.as_ref().ok()?.database;
    let chain = seen.database.as_ref().filter(|chain| known.as_ref() != Some(*chain));
    chain.cloned().map(Step::NoteDatabase)
}

/// A keyring that is older than audit logs gets their key once its relay knows what it is: others refuse the whole keyring.
fn audit_key(held: &Held, seen: &Seen) -> Option<Step> {
    let facts = held.keyring.as_ref().ok()?;
    let asked = seen.relay.as_ref().is_some_and(|relay| relay.audit_key_missing);
    (asked && !facts.has_audit_key).then_some(Step::AddAuditKey)
}

/// Recipients follow their identities: the relay must not encrypt a backup that nobody can open. They come once the relay
/// knows what they are, and the identities are escrowed.
fn recipients(held: &Held, seen: &Seen) -> Option<Step> {
    let facts = held.keyring.as_ref().ok().filter(|_| seen.agreed)?;
    let knows = seen.relay.as_ref().is_some_and(|relay| relay.recipients.is_some());
    let may_come = knows && seen.escrow != Escrowed::Waits;
    let mut wanted = seen.recipients.clone();
    wanted.retain(|name, recipient| {
        !name.destroy_at().is_due(seen.now) && (may_come || facts.recipients.get(name) == Some(recipient))
    });
    (wanted != facts.recipients).then_some(Step::SetRecipients(wanted))
}

/// Has the keys of holds follow the policy. An earlier end must be confirmed.
fn holds(held: &Held, seen: &Seen) -> Option<Step> {
    let facts = held.keyring.as_ref().ok().filter(|_| seen.agreed)?;
    let Asked { until, end } = &seen.holds;
    let may_end = |key: &&HoldKey| end.contains(key.name());
    let unwanted = |key: &&HoldKey| until.get(key.name()).is_none_or(|until| until.is_due(seen.now));
    if let Some(key) = facts.holds.iter().filter(may_end).find(unwanted) {
        return Some(Step::EndHold(key.clone()));
    }
    until.iter().find_map(|(name, until)| match last(&facts.holds, name) {
        Some(key) if seen.holds.may_move(key, seen.unreached) => Some(Step::MoveHold(key.clone(), *until)),
        Some(_) => None,
        // A key of before that time could be one that was destroyed already.
        None if until.is_due(seen.unreached) || facts.holds.len() >= MOST => None,
        None if seen.ended.contains(name) => None,
        None => HoldKey::new(name, *until).ok().map(Step::AddHold),
    })
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
    if next(held, seen).is_some() {
        return Duration::ZERO;
    }
    let facts = held.keyring.as_ref().ok();
    let waits_for_relay = |facts: &KeyringFacts| {
        facts.generations.len() > 1 || facts.recipients.len() < seen.recipients.len() || facts.has_pending
    };
    let waits = !seen.agreed || facts.is_some_and(waits_for_relay);
    let recipient = facts.and_then(|facts| facts.recipients.keys().next()).map(|name| name.destroy_at());
    let replacement = facts.and_then(|facts| facts.volume_key_since?.checked_add(epoch(facts, seen)).ok());
    let destruction = [held.first(), recipient].into_iter().flatten().map(DestroyAt::as_second);
    let destruction = destruction.filter_map(|at| Timestamp::from_second(at).ok());
    until_first(destruction.chain(replacement), seen.now, waits)
}

/// Until the first of these moments, but not for long. What is past and wasn't done waits for something else than the time.
pub fn until_first(moments: impl Iterator<Item = Timestamp>, now: Timestamp, waits: bool) -> Duration {
    let look = if waits { LOOK_SOON } else { LOOK };
    let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).ok();
    moments.filter_map(until).filter(|wait| !wait.is_zero()).min().map_or(look, |wait| wait.min(look))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn held(destroy_at: &[i64], generations: &[u32], since: i64) -> Held {
        let destroy_at: Vec<_> = destroy_at.iter().map(|at| DestroyAt::from_second(NOW + at)).collect();
        let keyring = KeyringFacts {
            destroy_at: destroy_at.clone(),
            generations: generations.to_vec(),
            volume_key_since: Timestamp::from_second(NOW + since).ok(),
            ..KeyringFacts::sample()
        };
        Held { destroy_at, holds: Vec::new(), keyring: Ok(keyring) }
    }

    fn seen(agreed: bool) -> Seen {
        let now = Timestamp::from_millisecond(NOW * 1_000 + 250).expect("in range");
        let unreached = now + SignedDuration::from_mins(5);
        let holds = Asked::default();
        Seen {
            retention: None,
            holds,
            ended: BTreeSet::new(),
            relay: None,
            escrow: Escrowed::Unwanted,
            database: None,
            recipients: BTreeMap::new(),
            now,
            unreached,
            agreed,
        }
    }

    #[test]
    fn the_next_look_is_at_the_moment_of_the_next_key_and_at_once_if_that_has_come() {
        for (destroy_at, generations, since, agreed, millis) in [
            (&[30, 3_600][..], &[1][..], 0, true, 29_750),
            (&[3_600], &[1], 0, true, 60_000),
            (&[3_600], &[1], 40 - 86_400, true, 39_750),
            (&[0, 3_600], &[1], 0, true, 0),
            (&[3_600], &[1], -86_400, true, 0),
            (&[3_600], &[1, 2], -86_400, true, 5_000),
            (&[2], &[1, 2], 0, true, 1_750),
            (&[0, 3_600], &[1], 0, false, 5_000),
        ] {
            let wait = idle(&held(destroy_at, generations, since), &seen(agreed));
            assert_eq!(
                wait,
                Duration::from_millis(millis),
                "{destroy_at:?} {generations:?} {since} {agreed}"
            );
        }
    }
}
