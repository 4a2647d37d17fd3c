//! A connection's keys and children, as they are wanted.

use jiff::Timestamp;
use marketrelay_api::{MarketplaceConnection, Reason};

use super::{
    Context, PassingSnafu, ReconcileError, apply, backup, children, closure, in_force::Terms, keys, load,
    observe, restore, validate,
};
use crate::{
    controllers::{
        keyring::{escrow, facts::KeyringFacts},
        record::{self, Kept},
    },
    names,
    problem::Problem,
    rollout::Decision,
};

/// What the children are made from.
pub struct Wanted<'a> {
    /// Or every reason why they can't be.
    pub validated: Result<validate::Validated, Vec<Problem>>,
    /// The retention in force; there is one if they can.
    pub terms: Option<&'a Terms>,
    /// `None`: there are to be no backups.
    pub backups: Option<&'a backup::Wanted>,
}

/// What became of the children.
#[derive(Default)]
pub struct Built {
    pub blocked: Vec<Problem>,
    /// What keeps the children that take backups from being as wanted.
    pub backups_blocked: Option<Problem>,
    pub halted_by: Option<String>,
    pub config_digest: Option<String>,
    pub keyring: Option<KeyringFacts>,
    /// All children were made just now, or the account's closure began meanwhile.
    pub look_again: bool,
}

/// Keys and children. A connection that can't be built is left as it is, its relay included.
pub async fn build(
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
    if let Some(problem) = foreign(context, &validated, &children, &keyring).await? {
        return Ok((children, Built { blocked: vec![problem], keyring: Some(keyring), ..Built::default() }));
    }
    let parts = Parts { connection: &connection, children: &children, validated: &validated, terms, keyring };
    let built = Box::pin(made(context, parts, wanted.backups, now)).await?;
    Ok((children, built))
}

/// What children are made from that can be.
struct Parts<'a> {
    connection: &'a MarketplaceConnection,
    children: &'a children::Children,
    validated: &'a validate::Validated,
    terms: &'a Terms,
    keyring: KeyringFacts,
}

/// Makes them as they are wanted, and goes on with a restore.
async fn made(
    context: &Context,
    parts: Parts<'_>,
    backups: Option<&backup::Wanted>,
    now: Timestamp,
) -> Result<Built, ReconcileError> {
    let Parts { connection, children, validated, terms, keyring } = parts;
    let mut built = Built { keyring: Some(keyring.clone()), ..Built::default() };
    let rollout = rollout(context, children, &validated.name, now);
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
    let erasures = backups.map(|_| restore::past_erasures(&context.stores, connection, now));
    let erasures = erasures.unwrap_or_default();
    let pinned = status.and_then(|status| status.audit.as_ref());
    let plan = children::Plan {
        validated,
        id: keyring.id.as_str(),
        revision: &context.revision,
        // At rest it can't become ready: nobody waits for that.
        updating_since: updating_since.filter(|_| !at_rest),
        terms,
        backups,
        told: status.and_then(|status| status.backups.as_ref()),
        holds: &keyring.hold_ids,
        public_key: pinned.map(|audit| audit.public_key.as_str()),
        erasures: &erasures,
        known_chain: restore::known_chain(connection, children.config_map.as_deref(), &keyring),
        at_rest,
        config: &context.config,
        operator_namespace: &context.namespace,
    };
    let prepared = children::prepare(&plan, children, &context.authority, now)?;
    let prepared_backups = children::backup::prepare(&plan, &children.backup, &context.authority, now)?;
    built.config_digest = (!waits).then(|| prepared.config_digest.clone());
    let is_over = || closure::has_begun(keyring.id.as_str(), context);
    match Box::pin(apply::apply(&context.client, prepared, children, waits, &is_over)).await {
        Ok(written) => {
            context.metrics.applied(written);
            built.look_again = children.stateful_set.is_none() || is_over();
        }
        Err(error) if error.is_passing() => return PassingSnafu { message: error.to_string() }.fail(),
        Err(error) => built.blocked = vec![error.problem()],
    }
    Box::pin(apply_backups(context, &plan, prepared_backups, children, &is_over, &mut built)).await?;
    if !is_over() && built.blocked.is_empty() {
        let advanced = Box::pin(restore::advance(context, &plan, connection, children, &keyring, now)).await;
        built.blocked.extend(advanced.err());
    }
    built.blocked.extend(restore::erasures_problem(&context.stores, connection, &erasures, now));
    Ok(built)
}

fn rollout(context: &Context, children: &children::Children, name: &str, now: Timestamp) -> Decision {
    let broken = observe::problem(children, None, name, now)
        .is_some_and(|problem| problem.reason != Reason::RelayStarting);
    context.waves.decide(
        children.stateful_set.as_deref(),
        broken,
        &context.revision,
        &context.config.rollout,
        now,
    )
}

/// What takes backups comes once their stores could be purged.
async fn apply_backups(
    context: &Context,
    plan: &children::Plan<'_>,
    wanted: children::backup::Prepared,
    children: &children::Children,
    is_over: &(dyn Fn() -> bool + Send + Sync),
    built: &mut Built,
) -> Result<(), ReconcileError> {
    match Box::pin(copied(context, plan)).await? {
        Ok(Kept::Whole) => {}
        Ok(Kept::Later) => {
            built.look_again = true;
            return Ok(());
        }
        Ok(Kept::Removing) => {
            built.backups_blocked = Some(removing());
            return Ok(());
        }
        Err(problem) => {
            built.backups_blocked = Some(problem);
            return Ok(());
        }
    }
    match Box::pin(apply::apply_backups(&context.client, wanted, &children.backup, is_over)).await {
        Ok(written) => context.metrics.applied(written),
        Err(error) if error.is_passing() => return PassingSnafu { message: error.to_string() }.fail(),
        Err(error) => built.backups_blocked = Some(error.problem()),
    }
    Ok(())
}

fn removing() -> Problem {
    let message = "spec.backup: the connection uses a store again from which a Job is removing what it had left there: backups to it \
                   begin once that Job has ended";
    Problem::new(Reason::FirstRun, message.to_owned())
}

/// Why what is there isn't this connection's to work with.
async fn foreign(
    context: &Context,
    validated: &validate::Validated,
    children: &children::Children,
    keyring: &KeyringFacts,
) -> Result<Option<Problem>, ReconcileError> {
    if let Some(problem) = recorded(context, validated, keyring.id.as_str()).await? {
        return Ok(Some(problem));
    }
    let claim = children.claim.as_deref();
    let is_foreign = claim.is_some_and(|claim| validate::belongs_to_other(claim, keyring.id.as_str()));
    Ok(is_foreign.then(|| keys::mismatch(&validated.name)))
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
    let are_all = plan.backups.iter().flat_map(|wanted| wanted.sites()).all(|(_, store)| store.is_ok());
    let retention = plan.terms.backup_retention.clone();
    let used = record::Used { sources: sources.collect(), are_all, retention };
    match record::keep(context, plan.id, &plan.validated.namespace, used).await {
        Ok(kept) => Ok(Ok(kept)),
        Err(error) if apply::is_passing(&error) => PassingSnafu { message: error.to_string() }.fail(),
        Err(error) => Ok(Err(apply::api_problem("Secret", &names::stores(plan.id), &error))),
    }
}
