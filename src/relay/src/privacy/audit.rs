//! What keeping deadlines does for the audit log: keys that went are recorded, and records that are old enough go.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use marketrelay_audit::Signer;
use marketrelay_keyring::{DestroyAt, Keyring};

use super::Keeper;
use crate::{
    audit::{self, Action, Actor, Deed},
    store::Result,
};

/// Between two looks at what is to be summed up and what is old.
const BETWEEN: SignedDuration = SignedDuration::from_hours(1);

/// What is remembered until the next look.
#[derive(Default)]
pub struct Kept {
    keys: BTreeSet<DestroyAt>,
    at: Option<Timestamp>,
}

impl Keeper {
    pub(super) async fn keep_audit(&mut self, keyring: &Arc<Keyring>) -> Result<()> {
        self.record_dropped_keys(keyring).await?;
        let now = self.clock.now();
        let recently = |at: Timestamp| now.duration_since(at).abs() < BETWEEN;
        if self.done.audited.at.is_some_and(recently) {
            return Ok(());
        }
        let signer = keyring.audit_key().and_then(|seed| Signer::new(seed.expose()).ok());
        let retention = self.audit_retention;
        let pruned = self.store.write(move |connection| {
            audit::dropped(connection, now)?;
            signer.map_or(Ok(0), |signer| audit::prune(connection, &signer, retention, now))
        });
        let pruned = pruned.await?;
        if pruned > 0 {
            self.done.truncated = false;
            tracing::info!(records = pruned, "pruned the audit log");
        }
        self.done.audited.at = (pruned < audit::MOST).then_some(now);
        Ok(())
    }

    /// Keys that were in the keyring and aren't any more.
    async fn record_dropped_keys(&mut self, keyring: &Arc<Keyring>) -> Result<()> {
        let now = self.clock.now();
        let keys: BTreeSet<_> = keyring.live(Timestamp::MIN).collect();
        let gone: Vec<_> = self.done.audited.keys.difference(&keys).copied().collect();
        if let (Some(first), Some(last)) = (gone.first(), gone.last()) {
            let names = if first == last { first.to_string() } else { format!("{first} to {last}") };
            let deed = Deed::new(Action::EpochKeysDropped, Actor::Relay, names).of(gone.len() as u64);
            self.store.write(move |connection| audit::append(connection, &deed, now)).await?;
        }
        self.done.audited.keys = keys;
        Ok(())
    }
}
