//! Policies: who uses them, what they mean, whether they may.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::controller::Action,
};
use marketrelay_api::{
    ConditionType, MarketplaceConnection, Reason, RetentionPolicy, RetentionPolicySpec,
    RetentionPolicyStatus,
    connection::{MarketplaceKind, PendingRetention},
    labels,
    policy::{EffectivePerMarketplace, PendingConnections},
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
    let users = users(&context.stores.connections, &policy);
    let status = status(&policy, &users, short_durations(&policy.spec, &context.config), Timestamp::now());
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
    users: &[Arc<MarketplaceConnection>],
    problem: Option<crate::problem::Problem>,
    now: Timestamp,
) -> RetentionPolicyStatus {
    let before = policy.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let retentions = users.iter().filter_map(|user| user.status.as_ref()?.retention.as_ref());
    let waiting: Vec<_> = retentions.filter_map(|retention| retention.pending.as_ref()).collect();
    let pending = sum(&waiting);
    let verdict = match (problem, &pending) {
        (Some(problem), _) => Verdict::new(Status::False, problem.reason, problem.message),
        (None, Some(sum)) => Verdict::new(Status::True, Reason::ShorteningWaits, sentence(sum, &waiting)),
        (None, None) => Verdict::new(Status::True, Reason::Ready, in_effect(&policy.spec, now)),
    };
    let generation = policy.metadata.generation;
    RetentionPolicyStatus {
        observed_generation: generation,
        connections: count(users.len()),
        effective: Some(EffectivePerMarketplace {
            amazon: policy.spec.effective(MarketplaceKind::Amazon),
            ebay: policy.spec.effective(MarketplaceKind::Ebay),
            bol: policy.spec.effective(MarketplaceKind::Bol),
        }),
        pending,
        conditions: vec![condition(ConditionType::Ready, verdict, before, generation, now)],
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// `None`: nothing waits.
fn sum(waiting: &[&PendingRetention]) -> Option<PendingConnections> {
    let last = waiting.iter().max_by_key(|pending| pending.effective_at.0)?;
    Some(PendingConnections {
        connections: count(waiting.len()),
        affected: waiting.iter().map(|pending| pending.affected).sum(),
        effective_at: last.effective_at.clone(),
    })
}

fn sentence(sum: &PendingConnections, waiting: &[&PendingRetention]) -> String {
    let connections = match sum.connections {
        1 => "1 connection".to_owned(),
        more => format!("{more} connections"),
    };
    let known: i64 = waiting.iter().filter_map(|pending| pending.affected).sum();
    let unknown = waiting.iter().filter(|pending| pending.affected.is_none()).count();
    let affected = match unknown {
        0 => format!("{known} orders are affected"),
        _ => format!(
            "{known} orders are affected, and how many more isn't known of {unknown} of them, as the relay can't be asked"
        ),
    };
    format!(
        "a shorter retention waits at {connections}, until {} at the latest; {affected}: to keep their personal data, \
         set the durations back before then",
        sum.effective_at.0
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use marketrelay_api::Duration;

    use super::*;

    fn waiting(second: i64, affected: Option<i64>) -> PendingRetention {
        let at = |second| Time(Timestamp::from_second(second).expect("in range"));
        PendingRetention {
            anonymize_after: None,
            delete_after_shipment: Some(Duration::days(1)),
            backup_retention: None,
            since: at(0),
            effective_at: at(second),
            affected,
        }
    }

    #[test]
    fn a_policy_sums_up_where_its_shortening_waits() {
        assert_eq!(sum(&[]), None);
        let (one, two, unknown) = (waiting(60, Some(3)), waiting(90, Some(4)), waiting(30, None));
        let all = sum(&[&one, &two]).expect("two wait");
        assert_eq!((all.connections, all.affected, &all.effective_at), (2, Some(7), &two.effective_at));
        let message = sentence(&all, &[&one, &two]);
        assert!(message.contains("at 2 connections, until 1970-01-01T00:01:30Z"), "{message}");
        assert!(message.contains("; 7 orders are affected: to keep"), "{message}");
        let partly = sum(&[&one, &unknown]).expect("two wait");
        assert_eq!((partly.affected, &partly.effective_at), (None, &one.effective_at));
        let message = sentence(&partly, &[&one, &unknown]);
        assert!(
            message.contains("3 orders are affected, and how many more isn't known of 1 of them"),
            "{message}"
        );
    }
}
