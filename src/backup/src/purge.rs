//! The Job that deletes everything of a closed connection in its stores, or what is escrowed in those that a connection has left,
//! and lists them to prove it.

use std::{path::Path, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use marketrelay_api::backup::{PurgeListing, PurgeReport, PurgeStore, StorePurge};
use snafu::Snafu;
use tokio_util::sync::CancellationToken;

use crate::{
    Reason,
    inventory::Inventory,
    reason::short,
    remove::{Removed, remove},
    settings::{self, SettingsError},
    store::{ESCROW, Store, StoreError},
};

/// Of the messages of all stores together; the whole report must stay below 4 KiB.
const MESSAGES: usize = 1600;

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
    #[snafu(display("asked to end"))]
    Interrupted,
}

impl PurgeError {
    fn reason(&self) -> Reason {
        match self {
            Self::Settings { .. } => Reason::StoreInvalid,
            Self::Store { source } | Self::LockedUntil { source, .. } => source.reason(),
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
        let purged =
            stop.run_until_cancelled(purge(root, patience, one, config.escrow_only, &mut done)).await;
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
    escrow_only: bool,
    done: &mut StorePurge,
) -> Result<(), PurgeError> {
    let store = Store::new(&one.store, &settings::credentials_of(root, &one.id)?, patience)?;
    let inventory = list(&store, escrow_only).await?;
    let (versions, uploads) = inventory.ours();
    let Removed { kept, away } = remove(&store, versions, uploads, &mut done.deleted).await;
    if let Some(error) = away {
        return Err(error.into());
    }
    let left = list(&store, escrow_only).await?;
    let (versions, uploads) = left.ours();
    let found = count(versions.len() + uploads.len());
    for name in &left.foreign {
        tracing::warn!(store = one.id, name, "not ours; it is left alone");
    }
    done.listing = Some(PurgeListing { at: Timestamp::now(), found, foreign: count(left.foreign.len()) });
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

async fn list(store: &Store, escrow_only: bool) -> Result<Inventory, StoreError> {
    let folder = escrow_only.then(|| store.folder(ESCROW));
    let listed = folder.as_ref().unwrap_or(store);
    Ok(Inventory::new(store.prefix(), listed.versions().await?, listed.uploads().await?))
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}
