//! Connections: from YAML to a running relay.

mod apply;
pub(crate) mod children;
mod enforced;
mod held;
mod keys;
mod load;
mod observe;
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
use marketrelay_api::{MarketplaceConnection, OperatorConfig, Reason};
use rand::RngExt;
use snafu::{ResultExt, Snafu};

use super::keyring::{
    Heard,
    facts::{Held, KeyringFacts},
};
use crate::{
    clock::Clock,
    metrics::Metrics,
    pki::Authority,
    problem::Problem,
    relay_client::RelayClient,
    rollout::{Decision, Waves},
    secrets::Judged,
    stores::Stores,
};
use status::{Found, Relay};
pub use validate::{asked, retention, short_durations};

/// Of a new connection the children come first, those of all others too; their events bring the reconcile that writes
/// its status, or this does.
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

/// Load, validate, prepare, apply, status.
pub async fn reconcile(
    connection: Arc<MarketplaceConnection>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    if connection.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let now = context.clock.now();
    let loaded = load::load(connection.clone(), &context).await.context(LoadSnafu)?;
    let validation = validate::validate(&loaded, &context.config);
    let encrypted = validation.encrypted.clone();
    let (effective, asked) = (validation.effective.clone(), validation.asked.clone());
    let (children, built) = Box::pin(build(&context, loaded, validation, now)).await?;
    if built.is_new {
        return Ok(Action::requeue(SETTLING));
    }
    let refusal = observe::refusal(&context.client, &children, now).await.context(LoadSnafu)?;
    let relay = ask(&context, &connection, children.pod.as_deref()).await;
    let found = Found {
        connection: &connection,
        encrypted,
        pod: observe::problem(&children, refusal.as_deref(), &connection.name_any(), now),
        blocked: built.blocked,
        halted_by: built.halted_by,
        relay,
        config_digest: built.config_digest,
        keyring: built.keyring,
        effective,
        asked,
        clocks: enforced::Clocks { agree: context.clock.agrees(), ahead: context.clock.ahead() },
    };
    let status = status::status(found, now);
    write::write(&context, &connection, status, now).await.context(StatusSnafu)?;
    Ok(Action::requeue(interval(&context.config)))
}

/// What became of the children.
#[derive(Default)]
struct Built {
    blocked: Vec<Problem>,
    halted_by: Option<String>,
    config_digest: Option<String>,
    keyring: Option<KeyringFacts>,
    /// All children were made just now.
    is_new: bool,
}

/// Keys and children. A connection that can't be built is left as it is, its relay included.
async fn build(
    context: &Context,
    loaded: load::Loaded,
    validation: validate::Validation,
    now: Timestamp,
) -> Result<(children::Children, Built), ReconcileError> {
    let load::Loaded { connection, children, keys, .. } = loaded;
    let known = keys.keyring.clone().and_then(Result::ok);
    let validated = match validation.result {
        Ok(validated) => validated,
        Err(blocked) => return Ok((children, Built { blocked, keyring: known, ..Built::default() })),
    };
    let initialised = load::initialised(&connection, &children, &context.stores);
    let keyring = match keys::ensure(context, &validated, keys, initialised, now).await {
        Ok(keyring) => keyring,
        Err(error) if error.is_passing() => return PassingSnafu { message: error.to_string() }.fail(),
        Err(error) => {
            let blocked = vec![error.problem()];
            return Ok((children, Built { blocked, keyring: known, ..Built::default() }));
        }
    };
    let mut built = Built { keyring: Some(keyring.clone()), ..Built::default() };
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
    let plan = children::Plan {
        validated: &validated,
        id: keyring.id.as_str(),
        revision: &context.revision,
        updating_since,
        config: &context.config,
        operator_namespace: &context.namespace,
    };
    let prepared = children::prepare(&plan, &children, &context.authority, now)?;
    built.config_digest = (!waits).then(|| prepared.config_digest.clone());
    match Box::pin(apply::apply(&context.client, prepared, &children, waits)).await {
        Ok(written) => {
            context.metrics.applied(written);
            built.is_new = children.stateful_set.is_none();
        }
        Err(error) if error.is_passing() => return PassingSnafu { message: error.to_string() }.fail(),
        Err(error) => built.blocked = vec![error.problem()],
    }
    Ok((children, built))
}

/// The relay's own word, if its pod runs.
async fn ask(
    context: &Context,
    connection: &MarketplaceConnection,
    pod: Option<&k8s_openapi::api::core::v1::Pod>,
) -> Relay {
    let key = ObjectRef::from(connection);
    let running = pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref()) == Some("Running");
    let silent = |since: Option<Instant>| {
        let mut memory = context.memory.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        match since {
            Some(now) => Some(*memory.entry(key.clone()).or_insert(now)),
            None => memory.remove(&key),
        }
    };
    if !running {
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

/// Spread, so that relays aren't all asked at once.
fn interval(config: &OperatorConfig) -> Duration {
    let seconds = f64::from(config.controller.status_interval_seconds);
    Duration::from_secs_f64(seconds * rand::rng().random_range(0.9..1.1))
}
