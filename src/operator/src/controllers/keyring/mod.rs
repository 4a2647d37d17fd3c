//! Keyrings: keys die at their second, whatever becomes of their connection. The Secrets themselves are reconciled, and
//! nobody else changes a keyring once it is made.

pub mod change;
pub mod decide;
pub mod facts;
mod heard;
#[cfg(test)]
mod model;
mod report;
mod write;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    api::PartialObjectMeta,
    runtime::{controller::Action, reflector::ObjectRef},
};
use marketrelay_api::{MarketplaceConnection, relay::Retention};
use marketrelay_keyring::KeyringError;
use snafu::Snafu;

use super::{
    connection::{Context, asked, in_force::InForce},
    holds::has_ended,
};
use crate::clock;
use decide::Seen;
use facts::Held;
pub use heard::Heard;
pub use report::LATE;

/// A keyring as it is watched.
pub type Metadata = PartialObjectMeta<Secret>;

/// At the start, a keyring that can't be reached must not keep the others waiting any longer.
const CATCHING_UP: Duration = Duration::from_secs(30);
/// Between two questions at the start, while the API server doesn't answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Why a keyring isn't as it should be; it is tried again.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ReconcileError {
    #[snafu(display("reading: {source}"))]
    Read { source: kube::Error },
    #[snafu(display("replacing: {source}"))]
    Replace { source: kube::Error },
    #[snafu(display("{source}"), context(false))]
    Keys { source: KeyringError },
    #[snafu(display("others change it all the time"))]
    Contended,
}

impl ReconcileError {
    /// A bounded name for the metric.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Read { .. } => "load",
            Self::Replace { .. } | Self::Contended => "apply",
            Self::Keys { .. } => "keys",
        }
    }
}

/// Load, decide, change, replace, report; and again at the very second of the next key.
pub async fn reconcile(keyring: Arc<Metadata>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let held = write::settle(&context, &keyring, decide::next).await?;
    let Some(held) = held else { return Ok(Action::await_change()) };
    Ok(Action::requeue(decide::idle(&held, &seen(&context, &keyring, &held))))
}

/// Destroys what fell due while nobody led, before anything else begins.
pub async fn catch_up(context: &Context) {
    agree(context).await;
    let keyrings = context.stores.secrets.state_filter(|secret: &Metadata| facts::is_keyring(secret));
    let count = keyrings.len();
    stream::iter(keyrings)
        .for_each_concurrent(usize::from(context.config.controller.concurrency), |keyring| async move {
            let settled = write::settle(context, &keyring, decide::due);
            match tokio::time::timeout(CATCHING_UP, settled).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(keyring = %ObjectRef::from_obj(keyring.as_ref()), %error, "it is tried again");
                }
                Err(_) => {
                    tracing::warn!(keyring = %ObjectRef::from_obj(keyring.as_ref()), "not in time, it is tried again");
                }
            }
        })
        .await;
    tracing::info!(keyrings = count, "caught up with the keys whose time had come");
}

/// The first comparison of the clocks; without one nothing may be destroyed.
async fn agree(context: &Context) {
    while let Err(error) = clock::ask(&context.dated, &context.namespace).await {
        tracing::warn!(%error, "the API server's time can't be read");
        tokio::time::sleep(AGAIN).await;
    }
}

/// Everything that matters beside the keyring, now.
fn seen(context: &Context, keyring: &Metadata, held: &Held) -> Seen {
    let of = facts::connection(keyring);
    let connection = of.as_ref().and_then(|of| context.stores.connections.get(of));
    let connection = connection.filter(|connection| connection.metadata.deletion_timestamp.is_none());
    let facts = held.keyring.as_ref().ok();
    let holds = connection.as_ref().map(|connection| asked(connection, &context.stores, &context.config));
    let unreached = context.clock.unreached();
    Seen {
        holds: holds.unwrap_or_default(),
        ended: connection.as_deref().map(|connection| ended(connection, unreached)).unwrap_or_default(),
        retention: connection.as_deref().and_then(retention),
        relay: of.zip(facts).and_then(|(of, facts)| context.heard.of(&of, &facts.id)),
        now: context.clock.now(),
        unreached,
        agreed: context.clock.agrees(),
    }
}

/// Holds that have ended, as the connection's own reconcile has told it last.
fn ended(connection: &MarketplaceConnection, unreached: Timestamp) -> BTreeSet<String> {
    let told = connection.status.iter().flat_map(|status| &status.holds);
    told.filter(|hold| has_ended(hold, unreached)).map(|hold| hold.name.clone()).collect()
}

/// The retention in force, as the connection's own reconcile has recorded it.
fn retention(connection: &MarketplaceConnection) -> Option<Retention> {
    let recorded = connection.status.as_ref()?.retention.as_ref()?;
    Some((&InForce::from(recorded).terms).into())
}
