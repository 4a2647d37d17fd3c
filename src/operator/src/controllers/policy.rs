//! Policies: who uses them, what they mean, whether they may.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::controller::Action,
};
use marketrelay_api::{
    ConditionType, Reason, RetentionPolicy, RetentionPolicySpec, RetentionPolicyStatus,
    connection::MarketplaceKind, labels, policy::EffectivePerMarketplace,
};
use serde_json::json;

use super::{
    connection::{Context, short_durations},
    holds::ended,
};
use crate::{
    conditions::{Status, Verdict, condition},
    stores::users,
};

/// A connection that refers to another policy now rings for that one alone; looking again costs no request.
const AGAIN: Duration = Duration::from_secs(30);

/// Counts, judges, writes what changed.
pub async fn reconcile(policy: Arc<RetentionPolicy>, context: Arc<Context>) -> kube::Result<Action> {
    if policy.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let connections = users(&context.stores.connections, &policy).len();
    let status =
        status(&policy, connections, short_durations(&policy.spec, &context.config), Timestamp::now());
    if policy.status.as_ref() == Some(&status) {
        return Ok(Action::requeue(AGAIN));
    }
    let name = policy.name_any();
    let namespace = policy.namespace().unwrap_or_default();
    let patch = json!({
        "apiVersion": RetentionPolicy::api_version(&()),
        "kind": RetentionPolicy::kind(&()),
        "metadata": {"name": name, "uid": policy.uid()},
        "status": status,
    });
    let api = Api::<RetentionPolicy>::namespaced(context.client.clone(), &namespace);
    match api.patch_status(&name, &PatchParams::apply(labels::OPERATOR).force(), &Patch::Apply(&patch)).await
    {
        // Deleted in the meantime.
        Err(kube::Error::Api(refusal)) if refusal.is_not_found() || refusal.is_conflict() => {}
        written => {
            written?;
            context.metrics.status_written();
        }
    }
    Ok(Action::requeue(AGAIN))
}

/// A hold whose end had passed before it was made is told, too.
fn in_effect(policy: &RetentionPolicySpec, now: Timestamp) -> String {
    let words = "the policy is in effect for the connections that refer to it";
    match ended(policy, now).join(", ") {
        names if names.is_empty() => words.to_owned(),
        names => format!("{words}; the end of these holds has passed, so they hold nothing: {names}"),
    }
}

fn status(
    policy: &RetentionPolicy,
    connections: usize,
    problem: Option<crate::problem::Problem>,
    now: Timestamp,
) -> RetentionPolicyStatus {
    let before = policy.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let verdict = match problem {
        Some(problem) => Verdict::new(Status::False, problem.reason, problem.message),
        None => Verdict::new(Status::True, Reason::Ready, in_effect(&policy.spec, now)),
    };
    let generation = policy.metadata.generation;
    RetentionPolicyStatus {
        observed_generation: generation,
        connections: i64::try_from(connections).unwrap_or(i64::MAX),
        effective: Some(EffectivePerMarketplace {
            amazon: policy.spec.effective(MarketplaceKind::Amazon),
            ebay: policy.spec.effective(MarketplaceKind::Ebay),
            bol: policy.spec.effective(MarketplaceKind::Bol),
        }),
        conditions: vec![condition(ConditionType::Ready, verdict, before, generation, now)],
    }
}
