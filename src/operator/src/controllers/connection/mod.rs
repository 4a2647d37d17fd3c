//! Connections: from YAML to a running relay.

mod apply;
pub(super) mod backup;
mod build;
pub(crate) mod children;
mod closure;
mod enforced;
mod held;
pub mod in_force;
mod intact;
mod keys;
mod load;
mod news;
mod observe;
mod restore;
mod settle;
mod shortening;
mod status;
mod validate;
mod write;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::{
    Client, ResourceExt,
    runtime::{controller::Action, reflector::ObjectRef},
};
use marketrelay_api::{
    MarketplaceConnection, OperatorConfig, connection::PendingRetention, relay::Retention,
};
use snafu::{ResultExt, Snafu};

use super::{
    keyring::{Heard, facts::Held, identities},
    record::{self, Closures, Copies},
    spread,
};
use crate::{
    clock::Clock, events::Events, metrics::Metrics, pki::Authority, problem::Problem,
    relay_client::RelayClient, rollout::Waves, secrets::Judged, stores::Stores,
};
use build::{Wanted, build};
use closure::Stage;
pub(super) use closure::has_begun;
pub(super) use marketrelay_api::key_secret::metadata as key_metadata;
pub(super) use restore::past_erasures;
use status::{Found, Relay};
pub use validate::{asked, short_durations};

/// Of a new connection the children come first, those of all others too; their events bring the reconcile that writes
/// its status, or this does. What changed meanwhile is looked at again as soon.
const SETTLING: Duration = Duration::from_secs(1);
/// A relay that doesn't answer counts as unreachable after this time.
const SILENCE: Duration = Duration::from_mins(2);

/// What every reconcile shares.
pub struct Context {
    /// Of the API server.
    pub client: Client,
    /// The same; every answer to it compares the clocks.
    pub dated: Client,
    /// What time it is.
    pub clock: Arc<Clock>,
    /// What is watched.
    pub stores: Arc<Stores>,
    /// The operator's configuration.
    pub config: Arc<OperatorConfig>,
    /// Of what relays have from it.
    pub revision: String,
    /// The operator's own namespace.
    pub namespace: String,
    /// Signs certificates.
    pub authority: Arc<Authority>,
    /// Asks relays.
    pub relays: Arc<RelayClient>,
    /// The roll-out of images, of all scopes.
    pub waves: Arc<Waves>,
    /// Closures that have begun, of all scopes.
    pub closures: Arc<Closures>,
    /// What was copied of the credentials of stores.
    pub copies: Copies,
    /// Writes events.
    pub events: Arc<Events>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The entries of credentials.
    pub credentials: Judged<BTreeSet<String>>,
    /// Judgements of signing secrets.
    pub signing: Judged<Result<(), Problem>>,
    /// Judgements of keyrings.
    pub keyrings: Arc<Judged<Held>>,
    /// Judgements of backups' identities.
    pub identities: Arc<Judged<identities::facts::Held>>,
    /// Judgements of database and digest keys.
    pub single_keys: Judged<Result<(), Problem>>,
    /// Since when relays don't answer.
    pub memory: Memory,
    /// What relays last said of their keyrings.
    pub heard: Heard,
}

/// What is forgotten with a restart, and may be.
#[derive(Default)]
pub struct Memory {
    silent_since: Mutex<HashMap<ObjectRef<MarketplaceConnection>, Instant>>,
    behind_since: Mutex<HashMap<ObjectRef<MarketplaceConnection>, Timestamp>>,
}

impl Memory {
    /// Since when the escrowed keys of a connection are behind its key Secrets; `None`: they aren't now.
    fn behind_since(
        &self,
        connection: &MarketplaceConnection,
        is_behind: bool,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let mut memory = self.behind_since.lock().unwrap_or_else(PoisonError::into_inner);
        let key = ObjectRef::from_obj(connection);
        if is_behind {
            return Some(*memory.entry(key).or_insert(now));
        }
        memory.remove(&key);
        None
    }
}

/// Why a reconcile could not end; it is tried again.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ReconcileError {
    #[snafu(display("reading: {source}"))]
    Load { source: kube::Error },
    #[snafu(display("certificate: {source}"), context(false))]
    Pki { source: crate::pki::PkiError },
    #[snafu(display("writing the status: {source}"))]
    Status { source: kube::Error },
    #[snafu(display("{message}"))]
    Passing { message: String },
}

impl ReconcileError {
    /// A bounded name for the metric.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Load { .. } => "load",
            Self::Pki { .. } => "certificate",
            Self::Status { .. } => "status",
            Self::Passing { .. } => "apply",
        }
    }
}

/// What becomes of a connection that may have to be closed; else it is built.
pub async fn reconcile(
    connection: Arc<MarketplaceConnection>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    if connection.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let now = context.clock.now();
    match closure::stage(&connection, &context) {
        Stage::Open => maintain(connection, &context, None, now).await,
        Stage::Awaits(problem) => {
            let mut still = connection.as_ref().clone();
            still.spec.suspend = true;
            maintain(Arc::new(still), &context, Some(problem), now).await
        }
        Stage::Asked(id) => {
            let (namespace, name) = (connection.namespace().unwrap_or_default(), connection.name_any());
            let marketplace = connection.spec.marketplace().map(|kind| kind.to_string()).unwrap_or_default();
            let made = record::ensure(&context, &id, (&namespace, &name), &marketplace).await;
            made.context(LoadSnafu)?;
            Ok(Action::requeue(interval(&context.config)))
        }
        Stage::Begun(verdict) => {
            let status = closure::status(&connection, &verdict, now);
            let is_written = write::write(&context, &connection, status, now).await.context(StatusSnafu)?;
            Ok(Action::requeue(if is_written { interval(&context.config) } else { SETTLING }))
        }
    }
}

/// Load, validate, prepare, apply, status.
async fn maintain(
    connection: Arc<MarketplaceConnection>,
    context: &Context,
    waits: Option<Problem>,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let is_known = connection.status.as_ref().is_some_and(|status| status.connection_id.is_some());
    let _first_keys = if is_known { None } else { Some(context.closures.namespaces.read().await) };
    let mut loaded = load::load(connection, context).await.context(LoadSnafu)?;
    let validation = validate::validate(&loaded, &context.config);
    let in_force = settle::settle(context, &mut loaded, validation.wanted, now).await.context(StatusSnafu)?;
    let (connection, identities) = (loaded.connection.clone(), loaded.keys.identities.take());
    let (encrypted, asked, mut validated) = (validation.encrypted, validation.asked, validation.result);
    if let Ok(validated) = &mut validated {
        validated.holds.retain(|hold| !asked.lets_go(&hold.name, now));
    }
    let terms = in_force.as_ref().map(|one| &one.terms);
    let wanted = Wanted { validated, terms, backups: validation.backups.as_ref() };
    let (children, mut built) = Box::pin(build(context, loaded, wanted, now)).await?;
    if built.look_again {
        return Ok(Action::requeue(SETTLING));
    }
    built.blocked.splice(0..0, waits);
    built.blocked.extend(restore::obstacle(&connection, validation.backups.as_ref(), built.keyring.as_ref()));
    let retention = in_force.as_ref().map(|one| Retention::from(&one.terms));
    built.blocked.extend(identities::facts::unusable(retention, identities.as_ref(), built.keyring.as_ref()));
    let refusal = observe::refusal(&context.client, &children, now).await.context(LoadSnafu)?;
    let relay = ask(context, &connection, &children).await;
    let backups = match (validation.backups, &built.backups_blocked) {
        (Some(backups), Some(problem)) => Some(backups.blocked(problem)),
        (backups, _) => backups,
    };
    let ready = relay.with(built.config_digest.as_deref()).filter(|_| relay.has_recipients());
    let keys = built.keyring.as_ref();
    restore::clear(context, &connection, &children).await;
    let restore = restore::look(context, &connection, backups.as_ref(), &children, keys, now);
    let backups = Box::pin(backup::look(context, &connection, backups, &children, ready, keys, now)).await;
    let pending = in_force.as_ref().and_then(|in_force| in_force.pending.as_ref());
    let again = next_look(&context.config, pending, now);
    let found = Found {
        connection: &connection,
        encrypted,
        pod: observe::problem(&children, refusal.as_deref(), &connection.name_any(), now),
        blocked: built.blocked,
        halted_by: built.halted_by,
        relay,
        config_digest: built.config_digest,
        keyring: built.keyring,
        identities,
        in_force,
        asked,
        backups,
        restore: restore.clone(),
        clocks: enforced::Clocks { agree: context.clock.agrees(), ahead: context.clock.ahead() },
    };
    let status = status::status(found, now);
    let is_written = write::write(context, &connection, status, now).await.context(StatusSnafu)?;
    let before = connection.status.as_ref().and_then(|status| status.restore.as_ref());
    let restored = restore.status.as_ref().and_then(|restore| restore.restored.as_ref());
    if let (true, Some(_), Some(restored)) = (is_written, restore.pinned, restored) {
        restore::tell(context, &connection, restored).await;
    }
    let is_settled = is_written && before == restore.status.as_ref();
    Ok(Action::requeue(if is_settled { again } else { SETTLING }))
}

/// The relay's own word, if its pod runs.
async fn ask(context: &Context, connection: &MarketplaceConnection, children: &children::Children) -> Relay {
    let key = ObjectRef::from(connection);
    let silent = |since: Option<Instant>| {
        let mut memory = context.memory.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        match since {
            Some(now) => Some(*memory.entry(key.clone()).or_insert(now)),
            None => memory.remove(&key),
        }
    };
    if !children.is_running() {
        silent(None);
        context.heard.forget(&key);
        return Relay::NotAsked;
    }
    let namespace = connection.namespace().unwrap_or_default();
    match context.relays.status(&namespace, &connection.name_any()).await {
        Ok(status) => {
            silent(None);
            context.heard.hear(key, &status);
            Relay::Answered(Box::new(status))
        }
        Err(error) => {
            let since = silent(Some(Instant::now()));
            tracing::debug!(%error, "the relay doesn't answer");
            if since.is_some_and(|since| since.elapsed() >= SILENCE) {
                Relay::Unreachable(error.to_string())
            } else {
                Relay::Silent
            }
        }
    }
}

/// With the interval, and at the moment at which a shorter retention takes effect. Once that has passed and it waits for
/// something else, such as a spec that can be carried out, with the interval.
fn next_look(config: &OperatorConfig, pending: Option<&PendingRetention>, now: Timestamp) -> Duration {
    let left = pending.map(|pending| pending.effective_at.0.duration_since(now));
    let left = left.and_then(|left| Duration::try_from(left).ok()).filter(|left| !left.is_zero());
    left.unwrap_or(Duration::MAX).min(interval(config))
}

/// Between two looks at a relay's status.
fn interval(config: &OperatorConfig) -> Duration {
    spread(Duration::from_secs(config.controller.status_interval_seconds.into()))
}
