//! What is news in a status: whatever begins or ceases to fail, and the first backup and drill of each site.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};
use marketrelay_api::{ConditionType, MarketplaceConnectionStatus, conditions::Reason};

use crate::conditions::find;

/// They pass by themselves, or are as somebody wants them.
const CALM: [Reason; 7] = [
    Reason::RelayStarting,
    Reason::FirstRun,
    Reason::ConfigurationPending,
    Reason::Suspended,
    Reason::BackupsSuspended,
    Reason::Closing,
    Reason::Closed,
];
/// Of backups and drills.
const OF_SITES: [ConditionType; 4] = [
    ConditionType::BackedUpOnSite,
    ConditionType::BackedUpOffSite,
    ConditionType::DrilledOnSite,
    ConditionType::DrilledOffSite,
];

/// A condition as it was, and as it is.
type Change<'a> = (Option<&'a Condition>, &'a Condition);

/// An event for each.
pub fn events(
    before: Option<&MarketplaceConnectionStatus>,
    after: &MarketplaceConnectionStatus,
) -> Vec<Event> {
    let changed = |kind| {
        let new = find(&after.conditions, kind)?;
        let old = before.and_then(|status| find(&status.conditions, kind));
        is_change((old, new)).then_some((old, new))
    };
    let ready = changed(ConditionType::Ready);
    let told = ready.map(|(_, new)| new.reason.as_str());
    let others = [ConditionType::RetentionEnforced, ConditionType::AuditIntact].into_iter().chain(OF_SITES);
    // Ready is False when one of a site's is: of a new reason there is one event.
    let beside = others.filter_map(|kind| {
        let change = changed(kind).filter(|change| is_news(kind, *change))?;
        (told != Some(change.1.reason.as_str())).then_some(change)
    });
    ready.into_iter().chain(beside).map(|(_, new)| event(new)).collect()
}

/// Of a new connection only what is wrong.
fn is_change((old, new): Change<'_>) -> bool {
    let is_same = old.is_some_and(|old| old.reason == new.reason && old.status == new.status);
    !is_same && (old.is_some() || !is_calm(new))
}

fn is_news(kind: ConditionType, (old, new): Change<'_>) -> bool {
    let fails = |one: &Condition| {
        one.status == "False" || kind == ConditionType::RetentionEnforced && is(one, Reason::DeliveriesAtRisk)
    };
    let is_first = || {
        OF_SITES.contains(&kind) && new.status == "True" && old.is_some_and(|old| is(old, Reason::FirstRun))
    };
    fails(new) || old.is_some_and(fails) || is_first()
}

fn is(condition: &Condition, reason: Reason) -> bool {
    condition.reason == reason.to_string()
}

fn is_calm(condition: &Condition) -> bool {
    condition.status == "True" || CALM.into_iter().any(|reason| is(condition, reason))
}

fn event(condition: &Condition) -> Event {
    let is_calm = is_calm(condition) && !is(condition, Reason::DeliveriesAtRisk);
    Event {
        type_: if is_calm { EventType::Normal } else { EventType::Warning },
        reason: condition.reason.clone(),
        note: Some(condition.message.chars().take(1_000).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::conditions::{Status, Verdict, condition};

    const READY: ConditionType = ConditionType::Ready;
    const BACKED_UP: ConditionType = ConditionType::BackedUpOnSite;
    const DRILLED: ConditionType = ConditionType::DrilledOnSite;
    const ENFORCED: ConditionType = ConditionType::RetentionEnforced;

    type Said<'a> = &'a [(ConditionType, Status, Reason)];

    fn status(said: Said<'_>) -> MarketplaceConnectionStatus {
        let condition = |(kind, status, reason): &(ConditionType, Status, Reason)| {
            let verdict = Verdict::new(*status, reason.to_string(), format!("because of {reason}"));
            condition(*kind, verdict, &[], Some(1), Timestamp::UNIX_EPOCH)
        };
        let conditions = said.iter().map(condition).collect();
        MarketplaceConnectionStatus { conditions, ..MarketplaceConnectionStatus::default() }
    }

    fn told(before: Option<Said<'_>>, after: Said<'_>) -> Vec<String> {
        let events = events(before.map(status).as_ref(), &status(after));
        events.into_iter().map(|event| format!("{:?} {}", event.type_, event.reason)).collect()
    }

    #[test]
    fn a_new_connection_tells_only_what_is_wrong() {
        let starts = [
            (READY, Status::False, Reason::RelayStarting),
            (BACKED_UP, Status::Unknown, Reason::FirstRun),
            (DRILLED, Status::Unknown, Reason::FirstRun),
        ];
        assert_eq!(told(None, &starts), [""; 0]);
        assert_eq!(told(None, &[(READY, Status::False, Reason::PolicyNotReady)]), ["Warning PolicyNotReady"]);
        assert_eq!(told(Some(&starts), &starts), [""; 0]);
    }

    #[test]
    fn the_first_backup_and_the_first_drill_are_told_and_later_ones_are_not() {
        let before = [
            (READY, Status::True, Reason::Ready),
            (BACKED_UP, Status::Unknown, Reason::FirstRun),
            (DRILLED, Status::Unknown, Reason::FirstRun),
        ];
        let backed_up = [before[0], (BACKED_UP, Status::True, Reason::BackedUp), before[2]];
        assert_eq!(told(Some(&before), &backed_up), ["Normal BackedUp"]);
        let drilled = [before[0], backed_up[1], (DRILLED, Status::True, Reason::Drilled)];
        assert_eq!(told(Some(&before), &drilled), ["Normal BackedUp", "Normal Drilled"]);
        assert_eq!(told(Some(&drilled), &drilled), [""; 0]);
        let suspended = [before[0], (BACKED_UP, Status::Unknown, Reason::BackupsSuspended), drilled[2]];
        assert_eq!(told(Some(&suspended), &drilled), [""; 0], "as somebody wants it");
        let enforced = [(ENFORCED, Status::True, Reason::Enforced)];
        assert_eq!(told(Some(&[(ENFORCED, Status::Unknown, Reason::FirstRun)]), &enforced), [""; 0]);
    }

    #[test]
    fn what_begins_or_ceases_to_fail_is_told_once() {
        let good = [(READY, Status::True, Reason::Ready), (BACKED_UP, Status::True, Reason::BackedUp)];
        let bad = [(READY, Status::False, Reason::StoreFull), (BACKED_UP, Status::False, Reason::StoreFull)];
        assert_eq!(told(Some(&good), &bad), ["Warning StoreFull"]);
        assert_eq!(told(Some(&bad), &good), ["Normal Ready", "Normal BackedUp"]);
        let beside = [good[0], bad[1]];
        assert_eq!(told(Some(&good), &beside), ["Warning StoreFull"]);
    }

    #[test]
    fn deliveries_at_risk_are_a_warning_though_keys_die_on_time() {
        let good = [(ENFORCED, Status::True, Reason::Enforced)];
        let at_risk = [(ENFORCED, Status::True, Reason::DeliveriesAtRisk)];
        assert_eq!(told(Some(&good), &at_risk), ["Warning DeliveriesAtRisk"]);
        assert_eq!(told(Some(&at_risk), &good), ["Normal Enforced"]);
    }
}
