//! Whether keys die on time, and the relay confirms it. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use marketrelay_api::{ConditionType, Reason, relay::RelayStatus};
use marketrelay_keyring::DestroyAt;

use super::status::{Relay, unchanged};
use crate::{
    conditions::{Status, Verdict, find},
    controllers::keyring::{LATE, facts::KeyringFacts, identities::facts::Held},
};

/// A changed Secret reaches a pod's mount within two minutes.
const MOUNTED: SignedDuration = SignedDuration::from_mins(5);

/// Whether the operator's clock and the API server's agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Else no key is destroyed.
    pub agree: bool,
    /// How far ours was ahead of the API server's; `None`: never compared.
    pub ahead: Option<SignedDuration>,
}

/// The condition `RetentionEnforced`, and whether a deadline of personal data was missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enforced {
    /// The condition.
    pub verdict: Verdict,
    /// Ready can't be true then.
    pub missed: bool,
}

impl Enforced {
    fn missed(reason: Reason, message: String) -> Self {
        Self { verdict: Verdict::new(Status::False, reason, message), missed: true }
    }

    /// With what backups miss, unless the live data misses something already.
    pub fn and(self, backups: Option<(Reason, String)>) -> Self {
        match backups {
            Some((reason, message)) if !self.missed => Self::missed(reason, message),
            _ => self,
        }
    }
}

/// Judges.
pub fn enforced(
    keyring: Option<&KeyringFacts>,
    identities: Option<&Held>,
    relay: &Relay,
    clocks: Clocks,
    before: &[Condition],
    now: Timestamp,
) -> Enforced {
    let firsts = [keyring.and_then(KeyringFacts::first), identities.and_then(Held::first)];
    let late = firsts.into_iter().flatten().min().and_then(|first| late(first, now));
    if !clocks.agree {
        let verdict = Verdict::new(Status::False, Reason::ClockDisagrees, disagreement(clocks));
        return Enforced { verdict, missed: late.is_some() };
    }
    if let Some(late) = late {
        let message = format!(
            "a key that had to be destroyed {late:#} ago still exists: the operator tries again and again, its log and \
             metrics (marketrelay_reconcile_errors_total) say what hinders it"
        );
        return Enforced::missed(Reason::DestructionLate, message);
    }
    let status = match relay {
        Relay::Answered(status) => Some(status.as_ref()),
        _ => None,
    };
    if let Some(overdue) = status.map(|status| status.overdue).filter(|overdue| *overdue > 0) {
        let message = format!(
            "{overdue} orders in the relay's database still have personal data after their deadline, which nobody can \
             read any more if their keys died on time: look at the relay's log, and restart its pod if it hangs"
        );
        return Enforced::missed(Reason::PersonalDataOverdue, message);
    }
    if let Some(message) = status.and_then(|status| hindered(status, now)) {
        let verdict = Verdict::new(Status::False, Reason::KeepingDeadlinesFails, message);
        return Enforced { verdict, missed: false };
    }
    let unconfirmed =
        status.and_then(|status| held(status, now)).or_else(|| keyring.and_then(|facts| old(facts, now)));
    let verdict = match unconfirmed {
        Some(message) => Verdict::new(Status::False, Reason::KeyNotConfirmed, message),
        None => confirmed(keyring, relay, before),
    };
    Enforced { verdict, missed: false }
}

/// The relay says that it can't do its part, and not for a moment only.
fn hindered(status: &RelayStatus, now: Timestamp) -> Option<String> {
    let keeping = &status.keeping_deadlines;
    let lasts = keeping.failing_since.is_some_and(|since| now.duration_since(since) >= LATE);
    lasts.then(|| keeping.message.clone().unwrap_or_default())
}

fn disagreement(clocks: Clocks) -> String {
    let difference = match clocks.ahead {
        Some(ahead) if ahead.is_negative() => format!("is {:#} behind the API server's", whole(ahead.abs())),
        Some(ahead) => format!("is {:#} ahead of the API server's", whole(ahead)),
        None => "could not be compared with the API server's".to_owned(),
    };
    format!(
        "the operator's clock {difference}, so no key is destroyed and none is made: correct the time of the \
         operator's node or of the API server's (at most 5 minutes apart)"
    )
}

/// How long the first key has outlived its time, if that is too long.
fn late(first: DestroyAt, now: Timestamp) -> Option<SignedDuration> {
    let first = Timestamp::from_second(first.as_second()).ok()?;
    let late = now.duration_since(first);
    (late >= LATE).then(|| whole(late))
}

/// The relay has a key mounted that is destroyed in the cluster.
fn held(status: &RelayStatus, now: Timestamp) -> Option<String> {
    let first = status.keyring.as_ref()?.first_mounted?;
    (now.duration_since(first) >= MOUNTED).then(|| {
        "the relay's pod still has a key mounted whose time has come, though the relay doesn't use it any more: the \
         kubelet of its node doesn't renew mounted Secrets, look at the node, or delete the pod"
            .to_owned()
    })
}

/// The volume key's replacement isn't finished within an epoch.
fn old(facts: &KeyringFacts, now: Timestamp) -> Option<String> {
    let since = facts.volume_key_since?;
    let longest = facts.key_epoch.max(MOUNTED);
    (facts.generations.len() > 1 && now.duration_since(since) > longest).then(|| {
        format!(
            "the volume's key was replaced at {since}, and the relay hasn't confirmed yet that nothing needs the old \
             one: it is kept until the relay runs and has rewritten its records (status.conditions Ready, the relay's \
             log)"
        )
    })
}

fn confirmed(keyring: Option<&KeyringFacts>, relay: &Relay, before: &[Condition]) -> Verdict {
    let kind = ConditionType::RetentionEnforced;
    let told = find(before, kind).is_some_and(|old| old.reason != Reason::FirstRun.to_string());
    match (keyring, relay) {
        (None, _) => Verdict::new(Status::Unknown, Reason::FirstRun, "there is no keyring that can be used"),
        (Some(_), Relay::Answered(status)) if status.deliveries_at_risk > 0 => {
            let message = "keys die on time; the personal data of orders that still wait for the destination must go \
                           soon, and they will be given up then: mend the destination (see Delivering)";
            Verdict::new(Status::True, Reason::DeliveriesAtRisk, message)
        }
        (Some(_), Relay::Answered(status)) if status.keyring.is_some() => {
            Verdict::new(Status::True, Reason::Enforced, "keys die on time, and the relay confirms it")
        }
        (Some(_), Relay::Answered(_)) => {
            let message = "the relay doesn't tell how it uses its keys: see Collecting, or the relay is an older version";
            Verdict::new(Status::Unknown, Reason::KeyNotConfirmed, message)
        }
        (Some(_), Relay::Silent) => unchanged(before, kind),
        (Some(_), Relay::Unreachable(_) | Relay::NotAsked) if told => {
            let message = "keys die on time; the relay's status can't be read, so it doesn't confirm it";
            Verdict::new(Status::Unknown, Reason::NotRunning, message)
        }
        (Some(_), _) => Verdict::new(Status::Unknown, Reason::FirstRun, "the relay has not been heard yet"),
    }
}

fn whole(duration: SignedDuration) -> SignedDuration {
    SignedDuration::from_secs(duration.as_secs())
}

#[cfg(test)]
mod tests {

    use marketrelay_api::relay::KeyringUse;
    use marketrelay_keyring::BackupKey;

    use super::*;
    use crate::problem::Problem;

    const NOW: i64 = 1_800_000_000;
    const AGREED: Clocks = Clocks { agree: true, ahead: Some(SignedDuration::ZERO) };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn keyring(first: i64, generations: &[u32], since: i64) -> KeyringFacts {
        KeyringFacts {
            destroy_at: vec![DestroyAt::from_second(NOW + first)],
            generations: generations.to_vec(),
            volume_key_since: Some(at(NOW + since)),
            ..KeyringFacts::sample()
        }
    }

    fn relay(first_mounted: i64, overdue: u64) -> Relay {
        Relay::Answered(Box::new(RelayStatus {
            overdue,
            keyring: Some(KeyringUse {
                mounted_generation: 1,
                oldest_generation: 1,
                first_mounted: Some(at(NOW + first_mounted)),
                audit_key_missing: false,
                recipients: Some(1),
            }),
            ..RelayStatus::default()
        }))
    }

    fn told(change: fn(&mut RelayStatus)) -> Relay {
        let Relay::Answered(mut status) = relay(60, 0) else { unreachable!("it answers") };
        change(&mut status);
        Relay::Answered(status)
    }

    #[test]
    fn each_way_of_missing_it_has_its_reason_and_ready_is_false_for_a_missed_deadline_alone() {
        let fine = keyring(60, &[1], -60);
        let far = Clocks { agree: false, ahead: Some(SignedDuration::from_mins(-7)) };
        for (keyring, relay, clocks, expected, missed) in [
            (&fine, relay(60, 0), AGREED, Reason::Enforced, false),
            (&keyring(-59, &[1], -60), relay(60, 0), AGREED, Reason::Enforced, false),
            (&keyring(-60, &[1], -60), relay(60, 0), AGREED, Reason::DestructionLate, true),
            (&fine, relay(60, 0), far, Reason::ClockDisagrees, false),
            (&keyring(-60, &[1], -60), relay(60, 0), far, Reason::ClockDisagrees, true),
            (&fine, relay(60, 1), AGREED, Reason::PersonalDataOverdue, true),
            (&fine, relay(-299, 0), AGREED, Reason::Enforced, false),
            (&fine, relay(-300, 0), AGREED, Reason::KeyNotConfirmed, false),
            (&keyring(60, &[1, 2], -86_400), relay(60, 0), AGREED, Reason::Enforced, false),
            (&keyring(60, &[1, 2], -86_401), relay(60, 0), AGREED, Reason::KeyNotConfirmed, false),
            (&keyring(60, &[1, 2], -86_401), Relay::NotAsked, AGREED, Reason::KeyNotConfirmed, false),
            (&fine, Relay::NotAsked, AGREED, Reason::FirstRun, false),
            (&fine, told(|status| status.deliveries_at_risk = 1), AGREED, Reason::DeliveriesAtRisk, false),
            (
                &fine,
                told(|status| status.keeping_deadlines.failing_since = Some(at(NOW - 60))),
                AGREED,
                Reason::KeepingDeadlinesFails,
                false,
            ),
        ] {
            let found = enforced(Some(keyring), None, &relay, clocks, &[], at(NOW));
            assert_eq!(
                (found.verdict.reason.as_str(), found.missed),
                (expected.to_string().as_str(), missed)
            );
        }
        let unheard = enforced(Some(&fine), None, &Relay::NotAsked, far, &[], at(NOW));
        assert!(unheard.verdict.message.contains("7m behind"), "{}", unheard.verdict.message);
    }

    #[test]
    fn an_identity_that_outlives_its_time_is_late_too() {
        let names = vec![BackupKey::new(DestroyAt::from_second(NOW - 60))];
        let identities =
            Held { names, identities: Err(Problem::new(Reason::BackupIdentitiesLost, "damaged")) };
        let fine = keyring(60, &[1], -60);
        let found = enforced(Some(&fine), Some(&identities), &relay(60, 0), AGREED, &[], at(NOW));
        assert_eq!((found.verdict.reason, found.missed), (Reason::DestructionLate.to_string(), true));
    }
}
