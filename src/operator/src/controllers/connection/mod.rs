//! Connections: from YAML to a running relay.

mod apply;
pub(super) mod backup;
pub(crate) mod children;
mod closure;
mod enforced;
mod held;
pub mod in_force;
mod intact;
mod keys;
mod load;
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
    runtime::{controller::Action, events::Recorder, reflector::ObjectRef},
};
use marketrelay_api::{
    MarketplaceConnection, OperatorConfig, Reason, connection::PendingRetention, relay::Retention,
};
use snafu::{ResultExt, Snafu};

use super::{
    keyring::{
        Heard, escrow,
        facts::{Held, KeyringFacts},
        identities,
    },
    record::{self, Closures, Copies, Kept},
    spread,
};
use crate::{
    clock::Clock,
    metrics::Metrics,
    names,
    pki::Authority,
    problem::Problem,
    relay_client::RelayClient,
    rollout::{Decision, Waves},
    secrets::Judged,
    stores::Stores,
};
use closure::Stage;
pub(super) use closure::has_begun;
use in_force::Terms;
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
    pub recorder: Recorder,
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
    let is_ready = relay.has(built.config_digest.as_deref()) && relay.has_recipients();
    let restore =
        restore::look(context, &connection, backups.as_ref(), &children, built.keyring.as_ref(), now);
    let backups = Box::pin(backup::look(context, &connection, backups, &children, is_ready, now)).await;
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

/// What the children are made from.
struct Wanted<'a> {
    /// Or every reason why they can't be.
    validated: Result<validate::Validated, Vec<Problem>>,
    /// The retention in force; there is one if they can.
    terms: Option<&'a Terms>,
    /// `None`: there are to be no backups.
    backups: Option<&'a backup::Wanted>,
}

/// What became of the children.
#[derive(Default)]
struct Built {
    blocked: Vec<Problem>,
    /// What keeps the children that take backups from being as wanted.
    backups_blocked: Option<Problem>,
    halted_by: Option<String>,
    config_digest: Option<String>,
    keyring: Option<KeyringFacts>,
    /// All children were made just now, or the account's closure began meanwhile.
    look_again: bool,
}

/// Keys and children. A connection that can't be built is left as it is, its relay included.
async fn build(
    context: &Context,
    loaded: load::Loaded,
    wanted: Wanted<'_>,
    now: Timestamp,
) -> Result<(children::Children, Built), ReconcileError> {
    let load::Loaded { connection, children, keys, .. } = loaded;
    let known = keys.keyring.clone().and_then(Result::ok);
    let (validated, terms) = match (wanted.validated, wanted.terms) {
        (Ok(validated), Some(terms)) => (validated, terms),
        (validated, _) => {
            let blocked = validated.err().unwrap_or_default();
            return Ok((children, Built { blocked, keyring: known, ..Built::default() }));
        }
    };
    let initialised = load::initialised(&connection, &children, &context.stores);
    let first =
        keys::First { retention: terms.into(), are_escrowed: escrow::is_wanted(context, &connection) };
    let keyring = match keys::ensure(context, &validated, &first, keys, initialised, now).await {
        Ok(keyring) => keyring,
        Err(error) if error.is_passing() => return PassingSnafu { message: error.to_string() }.fail(),
        Err(error) => {
            let blocked = vec![error.problem()];
            return Ok((children, Built { blocked, keyring: known, ..Built::default() }));
        }
    };
    let mut built = Built { keyring: Some(keyring.clone()), ..Built::default() };
    if let Some(problem) = recorded(context, &validated, keyring.id.as_str()).await? {
        built.blocked = vec![problem];
        return Ok((children, built));
    }
    let claim = children.claim.as_deref();
    if claim.is_some_and(|claim| validate::belongs_to_other(claim, keyring.id.as_str())) {
        built.blocked = vec![keys::mismatch(&validated.name)];
        return Ok((children, built));
    }
    let broken = observe::problem(&children, None, &validated.name, now)
        .is_some_and(|problem| problem.reason != Reason::RelayStarting);
    let rollout = context.waves.decide(
        children.stateful_set.as_deref(),
        broken,
        &context.revision,
        &context.config.rollout,
        now,
    );
    let (waits, updating_since) = match rollout {
        Decision::Take { since } => (false, since),
        Decision::Wait { halted_by } => {
            built.halted_by = halted_by;
            (true, None)
        }
    };
    let status = connection.status.as_ref();
    let at_rest = restore::is_under_way(status);
    // What the roll-out waits for may be this.
    let waits = waits && !at_rest;
    let erasures = wanted.backups.map(|_| restore::past_erasures(&context.stores, &connection, now));
    let erasures = erasures.unwrap_or_default();
    let pinned = status.and_then(|status| status.audit.as_ref());
    let plan = children::Plan {
        validated: &validated,
        id: keyring.id.as_str(),
        revision: &context.revision,
        // At rest it can't become ready: nobody waits for that.
        updating_since: updating_since.filter(|_| !at_rest),
        terms,
        backups: wanted.backups,
        public_key: pinned.map(|audit| audit.public_key.as_str()),
        erasures: &erasures,
        known_chain: restore::known_chain(&connection, children.config_map.as_deref(), &keyring),
        at_rest,
        config: &context.config,
        operator_namespace: &context.namespace,
    };
    let prepared = children::prepare(&plan, &children, &context.authority, now)?;
    let backups = children::backup::prepare(&plan, &children.backup, &context.authority, now)?;
    built.config_digest = (!waits).then(|| prepared.config_digest.clone());
    let is_over = || closure::has_begun(keyring.id.as_str(), context);
    match Box::pin(apply::apply(&context.client, prepared, &children, waits, &is_over)).await {
        Ok(written) => {
            context.metrics.applied(written);
            built.look_again = children.stateful_set.is_none() || is_over();
        }
        Err(error) if error.is_passing() => return PassingSnafu { message: error.to_string() }.fail(),
        Err(error) => built.blocked = vec![error.problem()],
    }
    match Box::pin(copied(context, &plan)).await? {
        Ok(Kept::Whole) => {
            match Box::pin(apply::apply_backups(&context.client, backups, &children.backup, &is_over)).await {
                Ok(written) => context.metrics.applied(written),
                Err(error) if error.is_passing() => {
                    return PassingSnafu { message: error.to_string() }.fail();
                }
                Err(error) => built.backups_blocked = Some(error.problem()),
            }
        }
        Ok(Kept::Later) => built.look_again = true,
        Err(problem) => built.backups_blocked = Some(problem),
    }
    if !is_over() && built.blocked.is_empty() {
        let advanced =
            Box::pin(restore::advance(context, &plan, &connection, &children, &keyring, now)).await;
        built.blocked.extend(advanced.err());
    }
    Ok((children, built))
}

/// A connection without a record could not be closed, and gets no relay.
async fn recorded(
    context: &Context,
    validated: &validate::Validated,
    id: &str,
) -> Result<Option<Problem>, ReconcileError> {
    let marketplace = validated.kind.to_string();
    match record::ensure(context, id, (&validated.namespace, &validated.name), &marketplace).await {
        Ok(()) => Ok(None),
        Err(error) if apply::is_passing(&error) => PassingSnafu { message: error.to_string() }.fail(),
        Err(error) => Ok(Some(apply::api_problem("ConnectionRecord", id, &error))),
    }
}

/// Nothing is written into a store from which nobody could delete it when the account is closed.
async fn copied(
    context: &Context,
    plan: &children::Plan<'_>,
) -> Result<Result<Kept, Problem>, ReconcileError> {
    let sources =
        plan.backups.iter().flat_map(|wanted| wanted.stores()).map(|(site, store)| record::Source {
            store: record::store(site, &children::backup::s3(plan, store)),
            credentials: store.credentials.clone(),
        });
    let sources: Vec<_> = sources.collect();
    if sources.is_empty() {
        return Ok(Ok(Kept::Whole));
    }
    match record::keep(context, plan.id, &plan.validated.namespace, sources).await {
        Ok(kept) => Ok(Ok(kept)),
        Err(error) if apply::is_passing(&error) => PassingSnafu { message: error.to_string() }.fail(),
        Err(error) => Ok(Err(apply::api_problem("Secret", &names::stores(plan.id), &error))),
    }
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
