//! From what was found and answered to the status. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use marketrelay_api::{
    ConditionType, ErasureRequest, ErasureRequestStatus, Reason,
    erasure::{ErasureAtConnection, ErasureState, SubjectSecret},
};

use super::{apply::Answers, validate::Validated};
use crate::{
    conditions::{Status, Verdict, condition, seconds},
    problem::Problem,
};

/// The request can't be carried out.
pub(super) fn refused(
    request: &ErasureRequest,
    before: ErasureRequestStatus,
    problem: Problem,
    now: Timestamp,
) -> ErasureRequestStatus {
    with(request, before, Verdict::new(Status::False, problem.reason, problem.message), now)
}

/// The subject's Secret is read: its digests, before it is deleted.
pub(super) fn known(
    request: &ErasureRequest,
    before: ErasureRequestStatus,
    validated: &Validated,
    secret: &SubjectSecret,
    now: Timestamp,
) -> ErasureRequestStatus {
    let verdict =
        Verdict::new(Status::False, Reason::Erasing, "the subject is known, and the relays are being asked");
    let known = ErasureRequestStatus {
        digests: validated.subject.clone(),
        subject_secret: Some(secret.clone()),
        ..before
    };
    with(request, known, verdict, now)
}

/// After the relays were asked.
pub(super) fn status(
    request: &ErasureRequest,
    known: &ErasureRequestStatus,
    validated: &Validated,
    answers: Answers,
    now: Timestamp,
) -> ErasureRequestStatus {
    let sealed =
        answers.iter().filter_map(|(_, answer)| answer.sealed_until).map(|until| seconds(until).0).max();
    let before = known.sealed_copies_until.as_ref().map(|time| time.0);
    let connections = connections(known, validated, answers);
    let verdict = verdict(&connections, &validated.closed);
    let complete = verdict.status == Status::True;
    let sum = |of: fn(&ErasureAtConnection) -> Option<i64>| {
        connections.iter().filter_map(of).reduce(i64::saturating_add)
    };
    let sealed_copies_until = before.max(sealed);
    let is_needed = !complete || validated.restorable && sealed_copies_until.is_some_and(|until| until > now);
    let status = ErasureRequestStatus {
        matched: sum(|at| at.matched),
        erased: sum(|at| at.erased),
        held: sum(|at| at.held),
        completed_at: complete.then(|| seconds(now)),
        sealed_copies_until: sealed_copies_until.map(Time),
        // Whoever restores a backup erases once more.
        digests: if is_needed { known.digests.clone() } else { Vec::new() },
        subject_secret: if complete { None } else { known.subject_secret.clone() },
        conditions: known.conditions.clone(),
        observed_generation: known.observed_generation,
        connections,
    };
    with(request, status, verdict, now)
}

/// Of a finished request: without its subject, once no copy is left that could hold it.
pub(super) fn forgotten(before: &ErasureRequestStatus, now: Timestamp) -> Option<ErasureRequestStatus> {
    let is_needed = before.sealed_copies_until.as_ref().is_some_and(|until| until.0 > now);
    let forgets = before.completed_at.is_some() && !before.digests.is_empty() && !is_needed;
    forgets.then(|| ErasureRequestStatus { digests: Vec::new(), ..before.clone() })
}

/// What was confirmed stays so, also if the connection is deleted meanwhile.
fn connections(
    known: &ErasureRequestStatus,
    validated: &Validated,
    answers: Answers,
) -> Vec<ErasureAtConnection> {
    let pending = |state| {
        move |name: &String| ErasureAtConnection {
            name: name.clone(),
            state,
            matched: None,
            erased: None,
            held: None,
        }
    };
    let answered = answers.into_iter().map(|(name, answer)| ErasureAtConnection {
        name,
        state: ErasureState::Erased,
        matched: Some(count(answer.matched)),
        erased: Some(count(answer.erased)),
        held: Some(count(answer.held)),
    });
    let confirmed = known.connections.iter().filter(|at| at.state == ErasureState::Erased).cloned();
    let mut all: Vec<_> = confirmed.chain(answered).collect();
    let waiting = validated.connections.iter().map(pending(ErasureState::Waiting));
    let retained = validated.retained.iter().map(pending(ErasureState::Retained));
    for at in waiting.chain(retained) {
        if all.iter().all(|known| known.name != at.name) {
            all.push(at);
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn verdict(connections: &[ErasureAtConnection], closed: &BTreeSet<String>) -> Verdict {
    let names = |state| {
        let of = connections.iter().filter(|at| at.state == state).map(|at| at.name.as_str());
        of.collect::<Vec<_>>().join(", ")
    };
    let (waiting, retained) = (names(ErasureState::Waiting), names(ErasureState::Retained));
    if !waiting.is_empty() {
        let message = format!(
            "waiting for the relays of {waiting}: they are asked again until they answer; look at these connections \
             (kubectl get mconn). What doesn't answer erases nothing before the orders' own deadlines"
        );
        return Verdict::new(Status::False, Reason::WaitingForRelay, message);
    }
    if !retained.is_empty() {
        let message = format!(
            "the volumes of {retained} are retained, though these connections are deleted, and no relay runs that could \
             erase anything in them: apply the connections again, or close these accounts on their records"
        );
        return Verdict::new(Status::False, Reason::VolumeRetained, message);
    }
    let sum = |of: fn(&ErasureAtConnection) -> Option<i64>| connections.iter().filter_map(of).sum::<i64>();
    let verdict = match (sum(|at| at.erased), sum(|at| at.held)) {
        (0, 0) if connections.is_empty() => Verdict::new(
            Status::True,
            Reason::SubjectUnknown,
            "there is no connection left that could be asked",
        ),
        (0, 0) => Verdict::new(
            Status::True,
            Reason::SubjectUnknown,
            "no order with this subject is stored in any of the connections that were asked: nothing was to be erased",
        ),
        (orders, 0) => Verdict::new(
            Status::True,
            Reason::Erased,
            format!("the personal data of {orders} orders is erased, and the destinations are told"),
        ),
        (orders, held) => Verdict::new(
            Status::True,
            Reason::Held,
            format!(
                "the personal data of {orders} orders is erased, and the destinations are told; holds keep {held} of the \
                 orders that were found until they end (status.holds of the connections)"
            ),
        ),
    };
    if closed.is_empty() {
        return verdict;
    }
    let closed = closed.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let message = format!(
        "{}; accounts of this namespace that are closed, {closed}, can't be asked: their keys are destroyed, so whatever \
         they held of the subject can't be read any more",
        verdict.message
    );
    Verdict { message, ..verdict }
}

fn with(
    request: &ErasureRequest,
    status: ErasureRequestStatus,
    verdict: Verdict,
    now: Timestamp,
) -> ErasureRequestStatus {
    let generation = request.metadata.generation;
    let complete = condition(ConditionType::Complete, verdict, &status.conditions, generation, now);
    ErasureRequestStatus { observed_generation: generation, conditions: vec![complete], ..status }
}

#[cfg(test)]
mod tests {
    use marketrelay_api::{ErasureRequestSpec, SubjectDigest, erasure::Subject, relay::ErasureAnswer};

    use super::*;

    const SUBJECT: SubjectDigest = SubjectDigest::Order([7; 32]);

    fn request() -> ErasureRequest {
        let subject = Subject { digests: Some(vec![SUBJECT]), secret_ref: None };
        let ttl = "1d".parse().expect("a duration");
        let spec = ErasureRequestSpec { subject, connections: Vec::new(), ttl_after_completion: ttl };
        ErasureRequest::new("case", spec)
    }

    fn validated(connections: &[&str], retained: &[&str]) -> Validated {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        Validated {
            connections: names(connections),
            retained: names(retained),
            closed: BTreeSet::new(),
            restorable: false,
            subject: vec![SUBJECT],
            consume: None,
        }
    }

    fn answer(name: &str, orders: u64, until: Option<i64>) -> (String, ErasureAnswer) {
        let sealed_until = until.map(|second| Timestamp::from_second(second).expect("in range"));
        (name.to_owned(), ErasureAnswer { matched: orders, erased: orders, held: 0, sealed_until })
    }

    fn after(known: &ErasureRequestStatus, validated: &Validated, answers: Answers) -> ErasureRequestStatus {
        status(&request(), known, validated, answers, Timestamp::UNIX_EPOCH)
    }

    fn reason(status: &ErasureRequestStatus) -> (&str, &str) {
        (&status.conditions[0].status, &status.conditions[0].reason)
    }

    #[test]
    fn a_request_is_complete_once_every_relay_has_confirmed_and_not_before() {
        let known = ErasureRequestStatus { digests: vec![SUBJECT], ..ErasureRequestStatus::default() };
        let both = validated(&["bol", "ebay"], &[]);
        let first = after(&known, &both, vec![answer("bol", 2, Some(90))]);
        assert_eq!(reason(&first), ("False", "WaitingForRelay"));
        assert!(first.conditions[0].message.contains("relays of ebay:"), "{}", first.conditions[0].message);
        assert_eq!((first.erased, first.completed_at.clone(), first.digests.len()), (Some(2), None, 1));
        let second = after(&first, &both, vec![answer("ebay", 1, Some(70))]);
        assert_eq!(reason(&second), ("True", "Erased"));
        assert_eq!((second.matched, second.erased), (Some(3), Some(3)));
        assert_eq!(second.sealed_copies_until.map(|time| time.0.as_second()), Some(90));
        assert!(second.completed_at.is_some() && second.digests.is_empty(), "the subject is forgotten");
        let restorable = Validated { restorable: true, ..both };
        let kept = after(&first, &restorable, vec![answer("ebay", 1, Some(70))]);
        assert_eq!(kept.digests, [SUBJECT], "a restore erases once more");
        let at = |second| Timestamp::from_second(second).expect("in range");
        assert_eq!(forgotten(&kept, at(89)), None);
        assert_eq!(forgotten(&kept, at(90)).expect("no copy is left").digests, []);
    }

    #[test]
    fn a_connection_that_is_deleted_after_it_confirmed_is_not_waited_for() {
        let none = ErasureRequestStatus::default();
        let first = after(&none, &validated(&["bol", "ebay"], &[]), vec![answer("bol", 2, None)]);
        let second = after(&first, &validated(&["ebay"], &["bol"]), vec![answer("ebay", 0, None)]);
        assert_eq!((reason(&second), second.erased), (("True", "Erased"), Some(2)));
    }

    #[test]
    fn a_retained_volume_is_told_and_an_unknown_subject_too() {
        let none = ErasureRequestStatus::default();
        let retained = after(&none, &validated(&["bol"], &["ebay"]), vec![answer("bol", 0, None)]);
        assert_eq!(reason(&retained), ("False", "VolumeRetained"));
        let unknown = after(&none, &validated(&["bol"], &[]), vec![answer("bol", 0, None)]);
        assert_eq!((reason(&unknown), unknown.erased), (("True", "SubjectUnknown"), Some(0)));
        assert_eq!(unknown.sealed_copies_until, None);
    }

    #[test]
    fn an_account_that_was_closed_meanwhile_is_told_and_not_taken_for_one_that_held_nothing() {
        let waits = after(&ErasureRequestStatus::default(), &validated(&["bol"], &[]), Vec::new());
        let gone = Validated { closed: ["bol".to_owned()].into(), ..validated(&[], &[]) };
        let status = after(&waits, &gone, Vec::new());
        assert_eq!(reason(&status), ("True", "SubjectUnknown"));
        let message = &status.conditions[0].message;
        assert!(message.starts_with("there is no connection left"), "{message}");
        assert!(
            message.contains("that are closed, bol,") && !message.contains("nothing was to be"),
            "{message}"
        );
    }

    #[test]
    fn what_holds_keep_is_told_and_completes_the_request_all_the_same() {
        let (name, answer) = answer("bol", 2, Some(90));
        let answer = ErasureAnswer { matched: 3, held: 2, ..answer };
        let status = after(&ErasureRequestStatus::default(), &validated(&["bol"], &[]), vec![(name, answer)]);
        assert_eq!((reason(&status), status.held), (("True", "Held"), Some(2)));
        assert!(status.conditions[0].message.contains("2 of the orders"), "{}", status.conditions[0].message);
        let known = [status.connections[0].matched, status.connections[0].erased, status.connections[0].held];
        assert_eq!(known, [Some(3), Some(2), Some(2)]);
    }
}
