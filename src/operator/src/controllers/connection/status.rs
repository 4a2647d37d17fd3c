//! From what was found to the status. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use marketrelay_api::{
    ConditionType, MarketplaceConnection, MarketplaceConnectionStatus, Reason,
    connection::{RelayFigures, RetentionInEffect},
    relay::{Activity, DeliveryState, RelayStatus},
};

use super::{
    backup::Told,
    enforced::{Clocks, Enforced, enforced},
    held::{self, Archives, Times, Word},
    in_force::InForce,
    intact::intact,
    restore,
};
use crate::{
    clock::unreached,
    conditions::{Status, Verdict, condition, find, seconds},
    controllers::{
        holds::Asked,
        keyring::{facts::KeyringFacts, identities::facts as identities},
    },
    problem::Problem,
};

/// Figures are written this rarely, unless something else changes too.
const FIGURES: SignedDuration = SignedDuration::from_mins(10);
/// An outage that is shorter isn't worth a transition.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);
/// Nothing but a change of a Secret or of the spec mends these.
const LASTING: [&str; 7] = [
    "CredentialsRejected",
    "CredentialsIncomplete",
    "SigningSecretInvalid",
    "DestinationDisabled",
    "KeyringInvalid",
    "DigestKeyInvalid",
    "StorageFull",
];

/// What was found.
pub struct Found<'a> {
    /// The connection with its last status.
    pub connection: &'a MarketplaceConnection,
    /// Why the StorageClass counts as encrypted, or why not.
    pub encrypted: Result<String, Problem>,
    /// What keeps the children from being as wanted: validation's, the keys' or the API server's problems.
    pub blocked: Vec<Problem>,
    /// What keeps the pod from running.
    pub pod: Option<Problem>,
    /// Who halts the roll-out of a new relay image.
    pub halted_by: Option<String>,
    /// The relay's own status.
    pub relay: Relay,
    /// Hex SHA-256 of the configuration that the relay is to run with; `None` if there is none.
    pub config_digest: Option<String>,
    /// The keyring.
    pub keyring: Option<KeyringFacts>,
    /// The identities of its backups.
    pub identities: Option<identities::Held>,
    /// The retention in force; `None`: none ever was.
    pub in_force: Option<InForce>,
    /// What the policy asks of holds.
    pub asked: Asked,
    /// What is told of backups; `None`: none are wanted.
    pub backups: Option<Told>,
    /// What is told of restores.
    pub restore: restore::Told,
    /// The operator's and the API server's.
    pub clocks: Clocks,
}

/// What is known of the relay.
#[derive(Clone, Debug)]
pub enum Relay {
    /// It answered.
    Answered(Box<RelayStatus>),
    /// It doesn't answer, but did lately: nothing is concluded from it yet.
    Silent,
    /// It hasn't answered for a while.
    Unreachable(String),
    /// It was not asked: it doesn't run.
    NotAsked,
}

impl Relay {
    /// Its word, if it runs with this configuration.
    pub fn with(&self, config_digest: Option<&str>) -> Option<&RelayStatus> {
        match self {
            Self::Answered(status) if config_digest == Some(status.config_digest.as_str()) => Some(status),
            _ => None,
        }
    }

    /// Whether it has what backups are encrypted to: the kubelet brings it some time after it was made.
    pub fn has_recipients(&self) -> bool {
        let Self::Answered(status) = self else { return false };
        status.keyring.as_ref().and_then(|keyring| keyring.recipients).is_some_and(|count| count > 0)
    }
}

/// The status.
pub fn status(found: Found<'_>, now: Timestamp) -> MarketplaceConnectionStatus {
    let before = found.connection.status.clone().unwrap_or_default();
    let generation = found.connection.metadata.generation;
    let collecting = activity(&found, ConditionType::Collecting, &before.conditions, now);
    let delivering = activity(&found, ConditionType::Delivering, &before.conditions, now);
    let encrypted = match &found.encrypted {
        Ok(why) => Verdict::new(Status::True, Reason::Encrypted, why),
        Err(problem) => Verdict::new(Status::False, problem.reason, &problem.message),
    };
    let keyring = found.keyring.as_ref();
    let overdue = found.backups.as_ref().and_then(|told| told.overdue.clone());
    let enforced =
        enforced(keyring, found.identities.as_ref(), &found.relay, found.clocks, &before.conditions, now)
            .and(overdue);
    let verdict = steady(enforced.verdict, &before.conditions, ConditionType::RetentionEnforced);
    let enforced = Enforced { verdict, ..enforced };
    let ready = ready(&found, &collecting, &delivering, &enforced, &before.conditions);
    let (intact, audit) = intact(&found.relay, &before, now);
    // Before the restored relay can be looked at.
    let audit = found.restore.pinned.or(audit);
    let verdicts = [
        (ConditionType::Ready, ready),
        (ConditionType::Collecting, collecting),
        (ConditionType::Delivering, delivering),
        (ConditionType::StorageEncrypted, encrypted),
        (ConditionType::RetentionEnforced, enforced.verdict),
        (ConditionType::AuditIntact, intact),
    ];
    let unreached = unreached(now, found.clocks.ahead);
    let wanted = found.config_digest.as_deref();
    let archives = Archives::of(&found.relay, found.backups.as_ref().map(|told| &told.backups), now);
    let word = Word { relay: &found.relay, wanted, archives: &archives };
    let holds = held::holds(&found.asked, keyring, word, &before.holds, Times { now, unreached });
    let held = held::condition(&holds, &found.asked, keyring, &archives);
    let held = held.map(|verdict| (ConditionType::Held, verdict));
    let backed_up = found.backups.iter().flat_map(|told| told.verdicts.clone());
    let conditions = verdicts
        .into_iter()
        .chain(held)
        .chain(backed_up)
        .map(|(kind, verdict)| condition(kind, verdict, &before.conditions, generation, now))
        .collect();
    let relay = match &found.relay {
        Relay::Answered(status) => Some(figures(status, now)),
        _ => before.relay,
    };
    let keyring = found.keyring;
    MarketplaceConnectionStatus {
        observed_generation: generation,
        connection_id: keyring.as_ref().map(|facts| facts.id.to_string()).or(before.connection_id),
        marketplace: found.connection.spec.marketplace().map(|kind| kind.to_string()),
        conditions,
        relay,
        retention: found.in_force.map(|in_force| retention(in_force, keyring.as_ref(), now)),
        backups: found.backups.map(|told| told.backups),
        restore: found.restore.status,
        audit,
        holds,
    }
}

fn ready(
    found: &Found<'_>,
    collecting: &Verdict,
    delivering: &Verdict,
    enforced: &Enforced,
    before: &[Condition],
) -> Verdict {
    if let Some(first) = found.blocked.first() {
        let all: Vec<_> = found.blocked.iter().map(|problem| problem.message.as_str()).collect();
        return Verdict::new(Status::False, first.reason, all.join("; "));
    }
    if let Some(verdict) = restore::verdict(found.connection, &found.restore) {
        return verdict;
    }
    if found.connection.spec.suspend {
        let message = "spec.suspend is true: nothing is collected or delivered; set it to false to go on";
        return Verdict::new(Status::False, Reason::Suspended, message);
    }
    if let Some(problem) = &found.pod {
        let verdict = Verdict::new(Status::False, problem.reason, &problem.message);
        // The kubelet alternates between two ways to say it.
        let alternates = problem.reason == Reason::ImageNotPullable && !is_about_another_spec(before, found);
        return if alternates { steady(verdict, before, ConditionType::Ready) } else { verdict };
    }
    let relay = match &found.relay {
        Relay::Answered(relay) => relay,
        Relay::Silent if is_about_another_spec(before, found) => {
            let message = "the relay hasn't confirmed the newest configuration yet";
            return Verdict::new(Status::False, Reason::ConfigurationPending, message);
        }
        Relay::Silent => return unchanged(before, ConditionType::Ready),
        Relay::NotAsked => {
            return Verdict::new(Status::False, Reason::RelayStarting, "the relay isn't running yet");
        }
        Relay::Unreachable(why) => {
            let message = format!(
                "the relay runs, but the operator can't read its status ({why}): look at its node, and at \
                 NetworkPolicies and DNS between the operator's namespace and this one"
            );
            let verdict = Verdict::new(Status::False, Reason::RelayUnreachable, message);
            return steady(verdict, before, ConditionType::Ready);
        }
    };
    if found.config_digest.as_ref().is_some_and(|digest| *digest != relay.config_digest) {
        let message = "the relay is being restarted with the newest configuration";
        return Verdict::new(Status::False, Reason::ConfigurationPending, message);
    }
    let missed = enforced.missed.then_some(&enforced.verdict);
    for verdict in missed.into_iter().chain([collecting, delivering]) {
        if verdict.status != Status::True {
            return Verdict::new(Status::False, verdict.reason.as_str(), verdict.message.as_str());
        }
    }
    let mut backed_up = found.backups.iter().flat_map(|told| &told.verdicts);
    // Who wants no escrow has been told what that means.
    let fails = |verdict: &Verdict| {
        verdict.status == Status::False && verdict.reason != Reason::NotEscrowed.to_string()
    };
    if let Some((kind, verdict)) = backed_up.find(|(_, verdict)| fails(verdict)) {
        return Verdict::new(Status::False, verdict.reason.as_str(), format!("{kind}: {}", verdict.message));
    }
    match &found.halted_by {
        None => {
            let reminder = restore::reminder(found.connection, found.restore.status.as_ref());
            let words = ["orders are collected and delivered"].into_iter().chain(reminder);
            Verdict::new(Status::True, Reason::Ready, words.collect::<Vec<_>>().join("; "))
        }
        Some(connection) => Verdict::new(
            Status::True,
            Reason::RolloutHalted,
            format!(
                "orders are collected and delivered by the relay with its previous image and settings: the roll-out of \
                 the operator's new ones halts because connection {connection} isn't ready with them"
            ),
        ),
    }
}

fn is_about_another_spec(before: &[Condition], found: &Found<'_>) -> bool {
    let observed = find(before, ConditionType::Ready).and_then(|old| old.observed_generation);
    observed != found.connection.metadata.generation
}

/// Collecting or Delivering.
fn activity(found: &Found<'_>, kind: ConditionType, before: &[Condition], now: Timestamp) -> Verdict {
    if found.connection.spec.suspend {
        return Verdict::new(Status::False, Reason::Suspended, "spec.suspend is true");
    }
    let relay = match &found.relay {
        Relay::Answered(relay) => relay,
        Relay::Silent => return unchanged(before, kind),
        Relay::Unreachable(_) | Relay::NotAsked => {
            return Verdict::new(Status::Unknown, Reason::NotRunning, "the relay's status can't be read");
        }
    };
    let (activity, reason, words) = match kind {
        ConditionType::Collecting => {
            (&relay.collecting, Reason::Collecting, "the marketplace's orders are collected")
        }
        _ => (&relay.delivering, Reason::Delivering, "the destination takes the orders"),
    };
    let disabled = kind == ConditionType::Delivering && relay.delivery_state == DeliveryState::Disabled;
    match failure(activity, now) {
        Some((failed, message)) => {
            let failed = if disabled { "DestinationDisabled" } else { failed };
            steady(Verdict::new(Status::False, failed, message), before, kind)
        }
        None if activity.last_success.is_none() => {
            Verdict::new(Status::Unknown, Reason::FirstRun, "nothing has succeeded or failed yet")
        }
        None if is_stalled(activity, found.connection.spec.poll_interval.as_secs(), now) => {
            let reason = match kind {
                ConditionType::Collecting => Reason::CollectingFails,
                _ => Reason::DeliveringFails,
            };
            let message =
                "nothing has succeeded for a while, and nothing has failed: look at the relay's log";
            Verdict::new(Status::False, reason, message)
        }
        None => Verdict::new(Status::True, reason, words),
    }
}

/// Both activities succeed at least once in their interval, or fail.
fn is_stalled(activity: &Activity, poll_seconds: i64, now: Timestamp) -> bool {
    let longest = SignedDuration::from_secs((3 * poll_seconds).max(900));
    activity.failing_since.is_none()
        && activity.last_success.is_some_and(|at| now.duration_since(at) > longest)
}

/// A failure that is worth a transition: one that lasts, or one before which nothing has ever worked.
fn failure(activity: &Activity, now: Timestamp) -> Option<(&str, &str)> {
    let since = activity.failing_since?;
    let reason = activity.reason.as_deref()?;
    let lasting =
        LASTING.contains(&reason) || activity.last_success.is_none() || now.duration_since(since) >= PATIENCE;
    lasting.then_some((reason, activity.message.as_deref().unwrap_or_default()))
}

/// The words of an outage change with every attempt; the first ones stay while status and reason do.
fn steady(verdict: Verdict, before: &[Condition], kind: ConditionType) -> Verdict {
    let old = find(before, kind)
        .filter(|old| old.status == verdict.status.as_str() && old.reason == verdict.reason);
    Verdict { message: old.map_or(verdict.message, |old| old.message.clone()), ..verdict }
}

/// As it was.
pub fn unchanged(before: &[Condition], kind: ConditionType) -> Verdict {
    let Some(old) = find(before, kind) else {
        return Verdict::new(Status::Unknown, Reason::FirstRun, "the relay has just started");
    };
    let status = match old.status.as_str() {
        "True" => Status::True,
        "False" => Status::False,
        _ => Status::Unknown,
    };
    Verdict::new(status, old.reason.as_str(), old.message.as_str())
}

fn figures(relay: &RelayStatus, now: Timestamp) -> RelayFigures {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    RelayFigures {
        orders: count(relay.orders),
        with_pii: count(relay.with_pii),
        backlog: count(relay.backlog),
        oldest_pii: relay.oldest_pii.map(seconds),
        next_deadline: relay.next_deadline.map(seconds),
        read_at: Some(seconds(now)),
    }
}

fn retention(in_force: InForce, keyring: Option<&KeyringFacts>, now: Timestamp) -> RetentionInEffect {
    let of = |facts: &KeyringFacts| {
        let holds = facts.holds.iter().map(marketrelay_keyring::HoldKey::destroy_at);
        facts.destroy_at.iter().copied().chain(holds).collect()
    };
    let keys: Vec<_> = keyring.map_or_else(Vec::new, of);
    let live = keys.into_iter().filter(|at| !at.is_due(now));
    let next = live.clone().min().and_then(|at| Timestamp::from_second(at.as_second()).ok());
    in_force.recorded(i64::try_from(live.count()).unwrap_or(i64::MAX), next.map(Time))
}

/// Whether the new status is worth a write: every transition is, figures every ten minutes at most.
pub fn is_worth_writing(
    before: Option<&MarketplaceConnectionStatus>,
    after: &MarketplaceConnectionStatus,
    now: Timestamp,
) -> bool {
    let Some(before) = before else { return true };
    if without_figures(before) != without_figures(after) {
        return true;
    }
    let figures = |status: &MarketplaceConnectionStatus| {
        let relay = status.relay.clone().map(|relay| RelayFigures { read_at: None, ..relay });
        let audit = status.audit.as_ref().map(|audit| audit.sequence);
        (relay, status.retention.clone(), audit, status.holds.clone())
    };
    // A key that was announced as the next one is dead.
    let next = before.retention.as_ref().and_then(|retention| retention.next_key_destruction.as_ref());
    if next.is_some_and(|next| next.0 <= now) && before.retention != after.retention {
        return true;
    }
    let read_at = before.relay.as_ref().and_then(|relay| relay.read_at.as_ref());
    let first =
        |status: &MarketplaceConnectionStatus| status.relay.as_ref().is_none_or(|relay| relay.orders == 0);
    let old = read_at.is_none_or(|at| now.duration_since(at.0) >= FIGURES);
    figures(before) != figures(after) && (old || first(before) && !first(after))
}

fn without_figures(status: &MarketplaceConnectionStatus) -> MarketplaceConnectionStatus {
    let mut status = status.clone();
    status.relay = None;
    status.audit = None;
    status.holds.iter_mut().for_each(|hold| hold.orders = None);
    if let Some(retention) = &mut status.retention {
        retention.keys_live = 0;
        retention.next_key_destruction = None;
        // That it is known or isn't any more is no figure.
        if let Some(pending) = &mut retention.pending {
            pending.affected = pending.affected.map(|_| 0);
        }
    }
    status
}
