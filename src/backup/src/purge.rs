//! The Job that deletes everything of a closed connection in its stores, or in those that a connection has left what is escrowed
//! there or what has expired, and lists them to prove it.

use std::{path::Path, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use marketrelay_api::backup::{
    BackupsLeft, Goes, PurgeConfig, PurgeListing, PurgeReport, PurgeStore, StorePurge,
};
use snafu::Snafu;
use tokio_util::sync::CancellationToken;

use crate::{
    Reason,
    expired::Rules,
    inventory::Inventory,
    reason::short,
    remove::{Removed, remove},
    settings::{self, SettingsError},
    store::{ESCROW, Store, StoreError},
};

/// Of the messages of all stores together; the whole report must stay below 4 KiB.
const MESSAGES: usize = 1200;

/// A store isn't clean.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum PurgeError {
    #[snafu(context(false), display("{source}"))]
    Settings { source: SettingsError },
    #[snafu(context(false), display("{source}"))]
    Store { source: StoreError },
    #[snafu(display("locked until {until}: {source}"))]
    LockedUntil { until: Timestamp, source: StoreError },
    #[snafu(display("what was deleted is still listed"))]
    Left,
    #[snafu(display("what should be gone is still in the store: backup {backup}: {source}"))]
    Overdue { backup: String, source: StoreError },
    #[snafu(display("asked to end"))]
    Interrupted,
}

impl PurgeError {
    fn reason(&self) -> Reason {
        match self {
            Self::Settings { .. } => Reason::StoreInvalid,
            Self::Store { source } | Self::LockedUntil { source, .. } | Self::Overdue { source, .. } => {
                source.reason()
            }
            Self::Left => Reason::StoreUnreachable,
            Self::Interrupted => Reason::Interrupted,
        }
    }
}

/// Does it, and reports. One store keeps no other one waiting.
pub async fn execute(root: &Path, patience: Duration, stop: &CancellationToken) -> PurgeReport {
    let config = match settings::purge(root) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "the Job failed");
            let failure = Some(Reason::StoreInvalid.failure(&error.to_string()));
            return PurgeReport { failure, ..PurgeReport::default() };
        }
    };
    let longest = MESSAGES / config.stores.len().max(1);
    let purges = config.stores.iter().map(|one| async {
        let mut done = StorePurge { id: one.id.clone(), deleted: 0, listing: None, failure: None };
        let purged = stop.run_until_cancelled(purge(root, patience, one, &config, &mut done)).await;
        if let Err(error) = purged.unwrap_or(InterruptedSnafu.fail()) {
            tracing::error!(store = one.id, reason = %error.reason(), %error, "a store isn't clean");
            done.failure = Some(error.reason().failure(short(&error.to_string(), longest)));
        }
        done
    });
    PurgeReport { stores: join_all(purges).await, failure: None }
}

async fn purge(
    root: &Path,
    patience: Duration,
    one: &PurgeStore,
    config: &PurgeConfig,
    done: &mut StorePurge,
) -> Result<(), PurgeError> {
    let store = Store::new(&one.store, &settings::credentials_of(root, &one.id)?, patience)?;
    match &config.goes {
        Goes::Everything => clear(&store, &store, done).await,
        Goes::Escrow => clear(&store, &store.folder(ESCROW), done).await,
        Goes::Expired(expiry) => prune(&store, &Rules::new(&config.connection_id, expiry)?, done).await,
    }
}

/// Removes what has expired, as the connection's own Jobs did; what hasn't stays, and escrowed keys do.
async fn prune(store: &Store, rules: &Rules, done: &mut StorePurge) -> Result<(), PurgeError> {
    let began = Timestamp::now();
    let pruned = rules.prune(store).await?;
    done.deleted = pruned.backups;
    let left = rules.look(store, rules.public_key()).await?;
    // What expired meanwhile goes next time.
    let listing = left.listing(rules.retention, rules.holds.as_ref(), pruned.backups, began);
    let stored = left.inventory.all().map(|stored| stored.versions.len() + stored.uploads.len());
    let backups = BackupsLeft {
        count: listing.backups,
        archives: listing.archives,
        newest: listing.newest,
        oldest: listing.oldest,
        expires: left.expires(rules.retention),
        overdue: listing.overdue,
    };
    told(&left.inventory, count(stored.sum()), Some(backups), done);
    match pruned.failures.into_iter().next() {
        Some((backup, source)) if listing.overdue > 0 => Err(PurgeError::Overdue { backup, source }),
        None if listing.overdue > 0 => LeftSnafu.fail(),
        _ => Ok(()),
    }
}

/// Removes all that is ours in a folder.
async fn clear(store: &Store, folder: &Store, done: &mut StorePurge) -> Result<(), PurgeError> {
    let inventory = list(store, folder).await?;
    let (versions, uploads) = inventory.ours();
    let Removed { kept, away } = remove(store, versions, uploads, &mut done.deleted).await;
    if let Some(error) = away {
        return Err(error.into());
    }
    let left = list(store, folder).await?;
    let (versions, uploads) = left.ours();
    let found = count(versions.len() + uploads.len());
    told(&left, found, None, done);
    if found == 0 {
        return Ok(());
    }
    // A lock keeps longest what was written last.
    let last = kept.into_iter().max_by_key(|(version, _)| version.map(|version| version.modified));
    let Some((version, source)) = last else { return LeftSnafu.fail() };
    let locked = version.filter(|_| source.reason() == Reason::ObjectLocked);
    let until = match locked {
        Some(version) => store.locked_until(version).await,
        None => None,
    };
    Err(match until {
        Some(until) => PurgeError::LockedUntil { until, source },
        None => source.into(),
    })
}

/// For the report, and what is left alone for the log.
fn told(left: &Inventory, found: u64, backups: Option<BackupsLeft>, done: &mut StorePurge) {
    for name in &left.foreign {
        tracing::warn!(store = done.id, name, "not ours; it is left alone");
    }
    let foreign = count(left.foreign.len());
    done.listing = Some(PurgeListing { at: Timestamp::now(), found, foreign, backups });
}

async fn list(store: &Store, folder: &Store) -> Result<Inventory, StoreError> {
    Ok(Inventory::new(store.prefix(), folder.versions().await?, folder.uploads().await?))
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}
