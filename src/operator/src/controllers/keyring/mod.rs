//! Keyrings and identities of backups: keys die at their second, whatever becomes of their connection. The Secrets
//! themselves are reconciled, and nobody else changes one once it is made.

pub mod change;
pub mod decide;
pub mod escrow;
pub mod facts;
mod heard;
pub mod identities;
mod keyrings;
mod kind;
#[cfg(test)]
mod model;
mod report;
mod write;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    api::PartialObjectMeta,
    runtime::{controller::Action, reflector::ObjectRef},
};
use marketrelay_keyring::KeyringError;
use snafu::Snafu;

use super::connection::Context;
use crate::clock;
pub use heard::Heard;
use identities::{Identities, facts::is_identities};
use keyrings::{Keyrings, seen};
use kind::Kind;
pub use report::LATE;

/// A key Secret as it is watched.
pub type Metadata = PartialObjectMeta<Secret>;

/// At the start, a keyring that can't be reached must not keep the others waiting any longer.
const CATCHING_UP: Duration = Duration::from_secs(30);
/// Between two questions at the start, while the API server doesn't answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Why a key Secret isn't as it should be; it is tried again.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ReconcileError {
    #[snafu(display("reading: {source}"))]
    Read { source: kube::Error },
    #[snafu(display("replacing: {source}"))]
    Replace { source: kube::Error },
    #[snafu(display("making identities of backups: {source}"))]
    Create { source: kube::Error },
    #[snafu(display("{source}"), context(false))]
    Keys { source: KeyringError },
    #[snafu(display("{source}"), context(false))]
    Escrow { source: marketrelay_escrow::EscrowError },
    #[snafu(display("others change it all the time"))]
    Contended,
}

impl ReconcileError {
    /// A bounded name for the metric.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Read { .. } => "load",
            Self::Replace { .. } | Self::Create { .. } | Self::Contended => "apply",
            Self::Keys { .. } | Self::Escrow { .. } => "keys",
        }
    }
}

/// Load, decide, change, replace, report; and again at the very second of the next key.
pub async fn reconcile(secret: Arc<Metadata>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    if is_identities(secret.as_ref()) {
        let held = write::settle::<Identities>(&context, &secret, identities::decide::next).await?;
        let Some(held) = held else { return Ok(Action::await_change()) };
        return Ok(Action::requeue(identities::decide::idle(
            &held,
            &Identities::seen(&context, &secret, &held),
        )));
    }
    // Nothing stands in the way of a destruction, and nothing about backups in that of the keyring's own keys.
    let held = write::settle::<Keyrings>(&context, &secret, decide::due).await?;
    let Some(held) = held else { return Ok(Action::await_change()) };
    let looked = identities::look(&context, &secret, &held).await;
    let made = match looked {
        Ok(false) => identities::make(&context, &secret, &held).await,
        _ => Ok(()),
    };
    let next = if looked.is_ok() { decide::next } else { decide::keys };
    let held = write::settle::<Keyrings>(&context, &secret, next).await?;
    looked.and(made)?;
    let Some(held) = held else { return Ok(Action::await_change()) };
    escrow::settle(&context, &secret, &held).await?;
    Ok(Action::requeue(decide::idle(&held, &seen(&context, &secret, &held))))
}

/// Destroys what fell due while nobody led, before anything else begins.
pub async fn catch_up(context: &Context) {
    agree(context).await;
    let holds_keys = |secret: &Metadata| facts::is_keyring(secret) || is_identities(secret);
    let secrets = context.stores.secrets.state_filter(holds_keys);
    let count = secrets.len();
    stream::iter(secrets)
        .for_each_concurrent(usize::from(context.config.controller.concurrency), |secret| async move {
            match tokio::time::timeout(CATCHING_UP, destroy(context, &secret)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(secret = %ObjectRef::from_obj(secret.as_ref()), %error, "it is tried again");
                }
                Err(_) => {
                    tracing::warn!(secret = %ObjectRef::from_obj(secret.as_ref()), "not in time, it is tried again");
                }
            }
        })
        .await;
    tracing::info!(secrets = count, "caught up with the keys whose time had come");
}

/// What is due, and nothing else.
async fn destroy(context: &Context, secret: &Metadata) -> Result<(), ReconcileError> {
    if is_identities(secret) {
        write::settle::<Identities>(context, secret, identities::decide::due).await.map(drop)
    } else {
        write::settle::<Keyrings>(context, secret, decide::due).await.map(drop)
    }
}

/// The first comparison of the clocks; without one nothing may be destroyed.
async fn agree(context: &Context) {
    while let Err(error) = clock::ask(&context.dated, &context.namespace).await {
        tracing::warn!(%error, "the API server's time can't be read");
        tokio::time::sleep(AGAIN).await;
    }
}
