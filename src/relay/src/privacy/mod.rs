//! Keeping deadlines: orders are anonymised at theirs, sealed anew when it moves, and their keys wrapped anew when the
//! volume key is replaced. It goes on while the relay is suspended.

mod audit;
mod step;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::relay::HeldSelection;
use marketrelay_keyring::{Keyring, Limits};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    activity::Reporter,
    clock::Clock,
    mounts::Mounted,
    store::{
        Result, Store, erase,
        generation::{self, Table},
        hold, known, reduce,
        reseal::{self, Moved, Terms},
    },
};
pub use step::{Step, step};

/// Orders per transaction: collecting and delivering have their turn in between.
const BATCH: usize = 100;
/// The clock is looked at this often, since it can be set, and stands still for nobody but us while the machine sleeps.
const TICK: Duration = Duration::from_secs(1);
/// What became known meanwhile is looked at this often at least.
const IDLE: Duration = Duration::from_mins(1);
/// After a failure.
const TROUBLE: Duration = Duration::from_secs(5);
/// Deliveries are at risk when so little time is left, or a tenth of the retention if that is shorter.
const AT_RISK: SignedDuration = SignedDuration::from_hours(72);

/// How long before its key's time the event of an order counts as at risk: three days, or a tenth of the shorter
/// retention if that is less.
pub fn at_risk(limits: Limits) -> SignedDuration {
    AT_RISK.min(limits.anonymize_after.min(limits.delete_after_shipment) / 10)
}

/// What keeping deadlines needs.
pub struct Keeper {
    /// The database.
    pub store: Store,
    /// The retention in effect.
    pub limits: Limits,
    /// How long audit records are kept.
    pub audit_retention: SignedDuration,
    /// What holds select.
    pub holds: Arc<[HeldSelection]>,
    /// The mounted keyring.
    pub keyring: watch::Receiver<Mounted<Keyring>>,
    /// Rung when orders were stored.
    pub bell: Arc<Notify>,
    /// Tells how it goes.
    pub reporter: Reporter,
    /// The time.
    pub clock: Clock,
    /// Asks it to end.
    pub stop: CancellationToken,
    /// What it has done so far: nothing.
    pub done: Done,
}

/// What needn't be done again.
#[derive(Default)]
pub struct Done {
    /// The write-ahead log holds nothing that was removed.
    truncated: bool,
    /// Keys and deadlines were compared with this keyring, and this was known then.
    compared: Option<(Arc<Keyring>, Timestamp)>,
    /// What was kept of the audit log's own.
    audited: audit::Kept,
    /// Holds have what they select, with this keyring.
    held: Option<Arc<Keyring>>,
}

impl Keeper {
    /// Works until `stop`; a transaction that was begun is finished.
    pub async fn run(mut self) {
        while !self.stop.is_cancelled() {
            let next = match self.look().await {
                Ok(next) => next,
                Err(error) => {
                    self.reporter.fail(self.clock.now(), error.category(), error.to_string());
                    self.clock.now().checked_add(TROUBLE).ok()
                }
            };
            self.wait(next).await;
        }
    }

    /// Does everything that is due; says when the next thing is.
    pub async fn look(&mut self) -> Result<Option<Timestamp>> {
        self.anonymise().await?;
        self.forget_holds().await?;
        let mounted = self.keyring.borrow_and_update().clone();
        let waiting = match mounted {
            Ok(keyring) => self.with_keys(&keyring).await?,
            Err(message) => {
                self.reporter.fail(self.clock.now(), "KeyringInvalid", message);
                None
            }
        };
        if !self.truncate().await? {
            return Ok(self.clock.now().checked_add(TICK).ok());
        }
        let next = self.store.read(reduce::next).await?;
        Ok([waiting, next].into_iter().flatten().min())
    }

    /// What can be done with usable keys only; the first deadline that waits for its key.
    async fn with_keys(&mut self, keyring: &Arc<Keyring>) -> Result<Option<Timestamp>> {
        self.keep_audit(keyring).await?;
        // What a hold wants to keep comes before what a shorter retention lets go.
        let unheld = self.hold(keyring).await?;
        let moved = self.reseal(keyring).await?;
        let left = self.replace_volume_key(keyring).await?;
        let now = self.clock.now();
        match moved.unreadable + left + unheld {
            0 => self.reporter.succeed(now),
            orders => {
                let message = format!(
                    "{orders} orders can't be opened with the mounted keyring: was a key taken out of it too early?"
                );
                self.reporter.fail(now, "KeyringInvalid", message);
            }
        }
        Ok(moved.waiting)
    }

    /// Keeps what holds select under their own keys; says how many orders can't be opened.
    async fn hold(&mut self, keyring: &Arc<Keyring>) -> Result<usize> {
        if self.done.held.as_ref().is_some_and(|with| Arc::ptr_eq(with, keyring)) {
            return Ok(0);
        }
        let (keys, holds) = (keyring.clone(), self.holds.clone());
        self.store.write(move |connection| hold::settle(connection, &keys, &holds)).await?;
        self.forget_holds().await?;
        let ids = self.store.read(hold::missing).await?;
        let mut unreadable = 0;
        for batch in ids.chunks(BATCH) {
            if self.stop.is_cancelled() {
                return Ok(unreadable);
            }
            let (batch, keys, now) = (batch.to_vec(), keyring.clone(), self.clock.now());
            unreadable +=
                self.store.write(move |connection| hold::keep(connection, &batch, &keys, now)).await?;
        }
        let (keys, complete) = (keyring.clone(), unreadable == 0);
        self.store.write(move |connection| hold::confirm(connection, &keys, complete)).await?;
        if !ids.is_empty() {
            tracing::info!(orders = ids.len() - unreadable, "held");
        }
        self.done.held = complete.then(|| keyring.clone());
        Ok(unreadable)
    }

    /// Forgets what holds kept whose end has come by our own clock.
    async fn forget_holds(&mut self) -> Result<()> {
        let mut rows = 0;
        while !self.stop.is_cancelled() {
            let now = self.clock.now();
            match self.store.write(move |connection| hold::forget_ended(connection, now, BATCH)).await? {
                0 => break,
                gone => rows += gone,
            }
            self.done.truncated = false;
        }
        if rows > 0 {
            tracing::info!(rows, "holds have ended");
        }
        Ok(())
    }

    /// Reduces every order whose key's time has come by our own clock.
    async fn anonymise(&mut self) -> Result<()> {
        let mut orders = 0;
        while !self.stop.is_cancelled() {
            let now = self.clock.now();
            match self.store.write(move |connection| reduce::due(connection, now, BATCH)).await? {
                0 => break,
                reduced => orders += reduced,
            }
            self.done.truncated = false;
        }
        let now = self.clock.now();
        let ended = self.store.write(move |connection| erase::forget_ended(connection, now)).await?;
        if orders + ended > 0 {
            self.done.truncated = false;
            tracing::info!(orders, untold_erasures = ended, "anonymised");
        }
        Ok(())
    }

    /// Seals anew, or reduces, what doesn't fit its key any more.
    async fn reseal(&mut self, keyring: &Arc<Keyring>) -> Result<Moved> {
        let (limits, now, keys) = (self.limits, self.clock.now(), keyring.clone());
        let known = self.store.read(move |connection| known::until(connection, now)).await?;
        let compared = self.done.compared.as_ref();
        if compared.is_some_and(|(with, at)| Arc::ptr_eq(with, keyring) && *at == known) {
            return Ok(Moved::default());
        }
        let misplaced =
            move |connection: &_| reseal::misplaced(connection, Terms { keyring: &keys, limits, now });
        let ids = self.store.read(misplaced).await?;
        let mut all = Moved::default();
        for batch in ids.chunks(BATCH) {
            if self.stop.is_cancelled() {
                return Ok(all);
            }
            let (batch, keys, now) = (batch.to_vec(), keyring.clone(), self.clock.now());
            let reseal = move |connection: &_| {
                reseal::reseal(connection, &batch, Terms { keyring: &keys, limits, now })
            };
            let moved = self.store.write(reseal).await?;
            self.done.truncated = false;
            all = sum(all, moved);
        }
        if all.resealed + all.reduced > 0 {
            tracing::info!(resealed = all.resealed, reduced = all.reduced, "deadlines moved");
        }
        if all.waiting.is_none() && all.unreadable == 0 {
            self.done.compared = Some((keyring.clone(), known));
        }
        Ok(all)
    }

    /// Wraps every record's key under the newest volume key, and confirms it when nothing in the database's files needs
    /// an older one. Says how many records can't be opened.
    async fn replace_volume_key(&mut self, keyring: &Arc<Keyring>) -> Result<usize> {
        let newest = keyring.volume_generation();
        if self.store.read(generation::oldest).await? == Some(newest) {
            return Ok(0);
        }
        let keys = keyring.clone();
        let now = self.clock.now();
        self.store.write(move |connection| generation::begin(connection, &keys, now)).await?;
        let (mut done, mut left) = (0, 0);
        for table in Table::ALL {
            let mut after = 0;
            while !self.stop.is_cancelled() {
                let keys = keyring.clone();
                let rewrap = move |connection: &_| generation::rewrap(connection, table, &keys, after, BATCH);
                let Some(rewrapped) = self.store.write(rewrap).await? else { break };
                (after, done, left) = (rewrapped.last, done + rewrapped.done, left + rewrapped.left);
            }
        }
        self.done.truncated = false;
        if left == 0 && !self.stop.is_cancelled() && self.truncate().await? {
            let now = self.clock.now();
            self.store.write(move |connection| generation::confirm(connection, newest, now)).await?;
            tracing::info!(orders = done, generation = newest, "the volume key was replaced");
        }
        Ok(left)
    }

    /// Moves the write-ahead log into the database and empties it, so that no file holds what was removed. False if a
    /// reader is in the way.
    async fn truncate(&mut self) -> Result<bool> {
        if !self.done.truncated {
            self.done.truncated = self.store.truncate_log().await?;
        }
        Ok(self.done.truncated)
    }

    /// Until `next` by our clock, or until there is something new.
    async fn wait(&mut self, next: Option<Timestamp>) {
        let epoch = Duration::try_from(self.limits.key_epoch).unwrap_or(IDLE);
        let (begun, longest) = (Instant::now(), IDLE.min(epoch / 4).max(TICK));
        while begun.elapsed() < longest {
            let left = next.map_or(TICK, |next| {
                Duration::try_from(next.duration_since(self.clock.now())).unwrap_or_default()
            });
            if left.is_zero() {
                return;
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.bell.notified() => return,
                _ = self.keyring.changed() => return,
                () = tokio::time::sleep(left.min(TICK)) => {}
            }
        }
    }
}

fn sum(one: Moved, other: Moved) -> Moved {
    Moved {
        resealed: one.resealed + other.resealed,
        reduced: one.reduced + other.reduced,
        unreadable: one.unreadable + other.unreadable,
        waiting: [one.waiting, other.waiting].into_iter().flatten().min(),
    }
}
