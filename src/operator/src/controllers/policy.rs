//! Policies: who uses them, what they mean, whether they may.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{
        controller::Action,
        events::{Event, EventType},
    },
};
use marketrelay_api::{
    ConditionType, MarketplaceConnection, Reason, RetentionPolicy, RetentionPolicySpec,
    RetentionPolicyStatus,
    connection::{MarketplaceKind, PendingRetention},
    hold::HoldState,
    labels,
    policy::{EffectivePerMarketplace, PendingConnections},
};
use serde_json::json;

use super::{
    connection::{Context, short_durations},
    holds::ended,
};
use crate::{
    conditions::{Status, Verdict, condition, find},
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
            tell(&context, &policy, &status).await;
        }
    }
    Ok(Action::requeue(AGAIN))
}

/// An event for each new reason of Ready.
async fn tell(context: &Context, policy: &RetentionPolicy, after: &RetentionPolicyStatus) {
    let Some(event) = event(policy.status.as_ref(), after) else { return };
    context.events.publish(&event, &policy.object_ref(&())).await;
}

/// That a new policy is in effect is no news.
fn event(before: Option<&RetentionPolicyStatus>, after: &RetentionPolicyStatus) -> Option<Event> {
    let new = find(&after.conditions, ConditionType::Ready)?;
    let old = before.and_then(|before| find(&before.conditions, ConditionType::Ready));
    let calm = new.reason == Reason::Ready.to_string();
    let is_news = old.map_or(!calm, |old| old.reason != new.reason);
    is_news.then(|| Event {
        type_: if calm { EventType::Normal } else { EventType::Warning },
        reason: new.reason.clone(),
        note: Some(new.message.chars().take(1_000).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    })
}

/// What holds there is to say of, too: one whose end has passed, one that connections keep though it isn't asked for any more,
/// and a name in endHolds that is none.
fn in_effect(policy: &RetentionPolicySpec, users: &[Arc<MarketplaceConnection>], now: Timestamp) -> Verdict {
    let mut message = vec!["the policy is in effect for the connections that refer to it".to_owned()];
    let told = || users.iter().filter_map(|user| user.status.as_ref()).flat_map(|status| &status.holds);
    let ended = ended(policy, now).join(", ");
    if !ended.is_empty() {
        message.push(format!("the end of these holds has passed, so they hold nothing: {ended}"));
    }
    let kept: BTreeSet<_> =
        told().filter(|hold| hold.state == HoldState::Kept).map(|hold| hold.name.as_str()).collect();
    if !kept.is_empty() {
        let kept = Vec::from_iter(kept).join(", ");
        message.push(format!(
            "connections keep these holds until their own end, though it doesn't ask for them any more or not for so \
             long: {kept} (spec.endHolds ends them)"
        ));
    }
    let asked = policy.holds.iter().map(|hold| hold.name.as_str());
    let there: BTreeSet<_> = told().map(|hold| hold.name.as_str()).chain(asked).collect();
    let unknown: Vec<_> =
        policy.end_holds.iter().map(String::as_str).filter(|name| !there.contains(name)).collect();
    if !unknown.is_empty() {
        let there = Vec::from_iter(there).join(", ");
        let there = if there.is_empty() { "none".to_owned() } else { there };
        message.push(format!(
            "spec.endHolds: no connection has a hold of the name {}, or none any more; there are: {there}",
            unknown.join(", ")
        ));
    }
    let reason = if ended.is_empty() { Reason::Ready } else { Reason::HoldEnded };
    Verdict::new(Status::True, reason, message.join("; "))
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
        (None, None) => in_effect(&policy.spec, users, now),
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
    use marketrelay_api::{Duration, Hold, MarketplaceConnectionStatus, hold::HoldStatus};

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

    fn policy(holds: &[&str], end_holds: &[&str]) -> RetentionPolicy {
        let hold = |name: &&str| Hold {
            name: (*name).to_owned(),
            reason: "a court".to_owned(),
            digests: None,
            placed: None,
            until: "2027-01-31".parse().expect("a date"),
        };
        let spec = RetentionPolicySpec {
            holds: holds.iter().map(hold).collect(),
            end_holds: end_holds.iter().map(|name| (*name).to_owned()).collect(),
            ..RetentionPolicySpec::default()
        };
        RetentionPolicy::new("standard", spec)
    }

    fn user(name: &str, state: HoldState) -> Arc<MarketplaceConnection> {
        let until = Time(Timestamp::MAX);
        let hold = HoldStatus { name: name.to_owned(), until, orders: Some(1), state };
        let spec = serde_json::json!({"bol": {}, "credentialsSecretRef": {"name": "a"}, "destination": {"webhook": {
            "url": "https://erp.example/orders", "signingSecretRef": {"name": "b"}}}});
        let spec = serde_json::from_value(spec).expect("a spec");
        let status =
            MarketplaceConnectionStatus { holds: vec![hold], ..MarketplaceConnectionStatus::default() };
        Arc::new(MarketplaceConnection { status: Some(status), ..MarketplaceConnection::new("bol", spec) })
    }

    fn ready(
        policy: &RetentionPolicy,
        users: &[Arc<MarketplaceConnection>],
        now: &str,
    ) -> RetentionPolicyStatus {
        status(policy, users, None, now.parse().expect("a time"))
    }

    #[test]
    fn a_mistyped_name_in_end_holds_is_told_with_the_names_that_there_are() {
        let now = "2026-11-29T00:00:00Z";
        let users = [user("tax", HoldState::Kept)];
        let mistyped = ready(&policy(&["court"], &["tacks"]), &users, now);
        let message = &mistyped.conditions[0].message;
        assert!(message.contains("of the name tacks, or none any more; there are: court, tax"), "{message}");
        assert!(message.contains("not for so long: tax (spec.endHolds ends them)"), "{message}");
        let right = ready(&policy(&["court"], &["tax"]), &users, now);
        assert!(
            !right.conditions[0].message.contains("no connection has"),
            "{}",
            right.conditions[0].message
        );
        assert_eq!(right.conditions[0].reason, "Ready");
    }

    #[test]
    fn a_hold_that_has_ended_is_a_reason_of_its_own_and_an_event() {
        let policy = policy(&["court"], &[]);
        let before = ready(&policy, &[], "2026-11-29T00:00:00Z");
        assert_eq!(event(None, &before).map(|event| event.reason), None, "a new policy is no news");
        let after = ready(&policy, &[], "2027-02-01T00:00:00Z");
        assert_eq!(
            (after.conditions[0].status.as_str(), after.conditions[0].reason.as_str()),
            ("True", "HoldEnded")
        );
        let told = event(Some(&before), &after).expect("news");
        assert!(matches!(told.type_, EventType::Warning) && told.reason == "HoldEnded");
        assert!(event(Some(&after), &after).is_none(), "told once");
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
