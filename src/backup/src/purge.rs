//! The Job that deletes everything of a closed connection in its stores, and lists them to prove it.

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
    settings::{self, SettingsError},
    store::{Store, StoreError, Version},
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
        let purged = stop.run_until_cancelled(purge(root, patience, one, &mut done)).await;
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
    done: &mut StorePurge,
) -> Result<(), PurgeError> {
    let store = Store::new(&one.store, &settings::credentials_of(root, &one.id)?, patience)?;
    let inventory = list(&store).await?;
    let kept = delete(&store, &inventory, done).await?;
    let left = list(&store).await?;
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

/// What can't be deleted keeps nothing else back, unless the store itself is away.
async fn delete<'a>(
    store: &Store,
    inventory: &'a Inventory,
    done: &mut StorePurge,
) -> Result<Vec<(Option<&'a Version>, StoreError)>, StoreError> {
    let (versions, uploads) = inventory.ours();
    let mut kept = Vec::new();
    for version in versions {
        match store.delete(version).await {
            Ok(()) => done.deleted += 1,
            Err(error) if error.is_passing() => return Err(error),
            Err(error) => kept.push((Some(version), error)),
        }
    }
    for upload in uploads {
        match store.abort(upload).await {
            Ok(()) => done.deleted += 1,
            Err(error) if error.is_passing() => return Err(error),
            Err(error) => kept.push((None, error)),
        }
    }
    Ok(kept)
}

async fn list(store: &Store) -> Result<Inventory, StoreError> {
    Ok(Inventory::new(store.prefix(), store.versions().await?, store.uploads().await?))
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}
