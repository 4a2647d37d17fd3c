//! Which retention is in force at a connection: a shorter one waits, everything else applies at once. Pure.

use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use marketrelay_api::{
    Duration, RetentionPolicySpec,
    connection::{MarketplaceKind, PendingRetention, RetentionInEffect},
    relay::Retention,
};
use serde::{Deserialize, Serialize};

/// A retention, as policies write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Terms {
    /// After the order was placed.
    pub anonymize_after: Duration,
    /// After the order's first shipment.
    pub delete_after_shipment: Duration,
    /// How finely keys die.
    pub key_epoch: Duration,
}

/// What is in force, and what waits.
#[derive(Clone, Debug, PartialEq)]
pub struct InForce {
    /// In force.
    pub terms: Terms,
    /// What becomes shorter, and when.
    pub pending: Option<PendingRetention>,
}

/// What a decision means for the personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A shorter retention waits, or another one than before.
    Waits,
    /// It was taken back.
    Cancelled,
    /// It is in force now.
    Effective,
}

impl Terms {
    /// What a policy says of one marketplace's orders.
    pub fn of(policy: &RetentionPolicySpec, marketplace: MarketplaceKind) -> Self {
        let effective = policy.effective(marketplace);
        Self {
            anonymize_after: effective.anonymize_after,
            delete_after_shipment: effective.delete_after_shipment,
            key_epoch: policy.key_epoch.clone(),
        }
    }

    fn longer_of_each(self, other: Self) -> Self {
        let longer = |one: Duration, other: Duration| if is_shorter(&one, &other) { other } else { one };
        Self {
            anonymize_after: longer(self.anonymize_after, other.anonymize_after),
            delete_after_shipment: longer(self.delete_after_shipment, other.delete_after_shipment),
            key_epoch: longer(self.key_epoch, other.key_epoch),
        }
    }

    /// Whether it takes personal data away sooner than `other`.
    fn is_shorter_than(&self, other: &Self) -> bool {
        is_shorter(&self.anonymize_after, &other.anonymize_after)
            || is_shorter(&self.delete_after_shipment, &other.delete_after_shipment)
    }
}

impl From<&Terms> for Retention {
    fn from(terms: &Terms) -> Self {
        Self {
            anonymize_after_seconds: terms.anonymize_after.as_secs(),
            delete_after_shipment_seconds: terms.delete_after_shipment.as_secs(),
            key_epoch_seconds: terms.key_epoch.as_secs(),
            backup_retention_seconds: None,
        }
    }
}

impl From<&RetentionInEffect> for InForce {
    fn from(recorded: &RetentionInEffect) -> Self {
        let terms = Terms {
            anonymize_after: recorded.anonymize_after.clone(),
            delete_after_shipment: recorded.delete_after_shipment.clone(),
            key_epoch: recorded.key_epoch.clone(),
        };
        Self { terms, pending: recorded.pending.clone() }
    }
}

impl InForce {
    /// Nothing waits.
    pub fn at_once(terms: Terms) -> Self {
        Self { terms, pending: None }
    }

    /// For the status, with the figures of the keyring.
    pub fn recorded(self, keys_live: i64, next_key_destruction: Option<Time>) -> RetentionInEffect {
        let Self { terms, pending } = self;
        RetentionInEffect {
            anonymize_after: terms.anonymize_after,
            delete_after_shipment: terms.delete_after_shipment,
            key_epoch: terms.key_epoch,
            keys_live,
            next_key_destruction,
            pending,
        }
    }

    /// What differs from `before`, if a person must know.
    pub fn change(&self, before: &Self) -> Option<Change> {
        let announced = |pending: &PendingRetention| PendingRetention { affected: None, ..pending.clone() };
        let [was, is] = [before, self].map(|one| one.pending.as_ref().map(announced));
        match (was, is) {
            (was, is) if was == is => None,
            (_, Some(_)) => Some(Change::Waits),
            (_, None) if self.terms.is_shorter_than(&before.terms) => Some(Change::Effective),
            (_, None) => Some(Change::Cancelled),
        }
    }
}

/// What is in force at `now` where `known` was, if the policy wants `wanted`; `None`: what it wants isn't known, or can't
/// be carried out, and everything stays as it is.
///
/// There is one announcement. Durations that become shorter wait for it together, and a new one, with the whole `delay`
/// before it, takes its place once any of them is to become shorter than was announced. A finer key epoch waits with
/// them: the keys of the longer retention would be too many.
pub fn decide(
    known: Option<InForce>,
    wanted: Option<Terms>,
    delay: SignedDuration,
    now: Timestamp,
) -> Option<InForce> {
    let (known, wanted) = match (known, wanted) {
        (Some(known), Some(wanted)) => (known, wanted),
        (known, wanted) => return known.or(wanted.map(InForce::at_once)),
    };
    if !wanted.is_shorter_than(&known.terms) {
        return Some(InForce::at_once(wanted));
    }
    let pending = announce(&known, &wanted, delay, now);
    if pending.effective_at.0 <= now {
        return Some(InForce::at_once(wanted));
    }
    Some(InForce { terms: known.terms.longer_of_each(wanted), pending: Some(pending) })
}

fn announce(known: &InForce, wanted: &Terms, delay: SignedDuration, now: Timestamp) -> PendingRetention {
    let shortened = |from: &Duration, to: &Duration| is_shorter(to, from).then(|| to.clone());
    let terms = &known.terms;
    let anonymize_after = shortened(&terms.anonymize_after, &wanted.anonymize_after);
    let delete_after_shipment = shortened(&terms.delete_after_shipment, &wanted.delete_after_shipment);
    let further = |to: &Option<Duration>, announced: &Option<Duration>| match (to, announced) {
        (Some(to), Some(announced)) => is_shorter(to, announced),
        (to, None) => to.is_some(),
        (None, _) => false,
    };
    let announced = known.pending.clone().filter(|pending| {
        !further(&anonymize_after, &pending.anonymize_after)
            && !further(&delete_after_shipment, &pending.delete_after_shipment)
    });
    match announced {
        Some(pending) => PendingRetention { anonymize_after, delete_after_shipment, ..pending },
        None => PendingRetention {
            anonymize_after,
            delete_after_shipment,
            since: Time(whole_seconds(now, RoundMode::Trunc)),
            effective_at: Time(whole_seconds(now, RoundMode::Ceil) + delay),
            affected: None,
        },
    }
}

fn is_shorter(one: &Duration, than: &Duration) -> bool {
    one.as_secs() < than.as_secs()
}

/// As Kubernetes writes times.
fn whole_seconds(at: Timestamp, mode: RoundMode) -> Timestamp {
    at.round(TimestampRound::new().smallest(Unit::Second).mode(mode)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600;
    const DELAY: SignedDuration = SignedDuration::from_hours(24);

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hour * HOUR).expect("in range")
    }

    fn terms(anonymize_after: u16, delete_after_shipment: u16, key_epoch: u16) -> Terms {
        let [anonymize_after, delete_after_shipment] =
            [anonymize_after, delete_after_shipment].map(Duration::days);
        Terms { anonymize_after, delete_after_shipment, key_epoch: Duration::hours(key_epoch) }
    }

    fn next(known: &InForce, wanted: &Terms, hour: i64) -> InForce {
        decide(Some(known.clone()), Some(wanted.clone()), DELAY, at(hour)).expect("known")
    }

    type Waits = (Option<i64>, Option<i64>, i64);

    /// In force, what waits of both durations in days, and until which hour.
    fn shown(in_force: &InForce) -> (Terms, Option<Waits>) {
        let days = |duration: &Option<Duration>| duration.as_ref().map(|one| one.as_secs() / 86_400);
        let pending = in_force.pending.as_ref().map(|pending| {
            let hour = pending.effective_at.0.duration_since(at(0)).as_secs() / HOUR;
            (days(&pending.anonymize_after), days(&pending.delete_after_shipment), hour)
        });
        (in_force.terms.clone(), pending)
    }

    #[test]
    fn a_shorter_retention_waits_and_everything_else_applies_at_once() {
        let long = terms(90, 30, 24);
        for (promise, wanted, expected) in [
            ("nothing", vec![(0, long.clone())], (long.clone(), None)),
            ("longer", vec![(0, terms(91, 30, 24))], (terms(91, 30, 24), None)),
            ("finer", vec![(0, terms(90, 30, 1))], (terms(90, 30, 1), None)),
            ("shorter", vec![(0, terms(10, 30, 24))], (long.clone(), Some((Some(10), None, 24)))),
            ("both ways", vec![(0, terms(91, 9, 24))], (terms(91, 30, 24), Some((None, Some(9), 24)))),
            ("finer with shorter", vec![(0, terms(10, 9, 1))], (long.clone(), Some((Some(10), Some(9), 24)))),
            (
                "coarser with shorter",
                vec![(0, terms(80, 30, 48))],
                (terms(90, 30, 48), Some((Some(80), None, 24))),
            ),
            (
                "not yet",
                vec![(0, terms(10, 9, 1)), (23, terms(10, 9, 1))],
                (long.clone(), Some((Some(10), Some(9), 24))),
            ),
            ("now", vec![(0, terms(10, 9, 1)), (24, terms(10, 9, 1))], (terms(10, 9, 1), None)),
            ("taken back", vec![(0, terms(10, 9, 1)), (23, long.clone())], (long.clone(), None)),
            (
                "partly",
                vec![(0, terms(10, 9, 24)), (5, terms(10, 30, 24))],
                (long.clone(), Some((Some(10), None, 24))),
            ),
            (
                "less",
                vec![(0, terms(10, 30, 24)), (5, terms(20, 30, 24))],
                (long.clone(), Some((Some(20), None, 24))),
            ),
            ("less, now", vec![(0, terms(10, 30, 24)), (24, terms(20, 30, 24))], (terms(20, 30, 24), None)),
            (
                "further",
                vec![(0, terms(10, 30, 24)), (5, terms(9, 30, 24))],
                (long.clone(), Some((Some(9), None, 29))),
            ),
            (
                "another",
                vec![(0, terms(10, 30, 24)), (5, terms(10, 9, 24))],
                (long.clone(), Some((Some(10), Some(9), 29))),
            ),
            (
                "further, late",
                vec![(0, terms(10, 30, 24)), (24, terms(9, 30, 24))],
                (long.clone(), Some((Some(9), None, 48))),
            ),
        ] {
            let start = InForce::at_once(long.clone());
            let end = wanted.iter().fold(start, |known, (hour, wanted)| next(&known, wanted, *hour));
            assert_eq!(shown(&end), expected, "{promise}");
        }
    }

    #[test]
    fn what_a_new_connection_wants_is_in_force_at_once_and_the_unknown_changes_nothing() {
        let long = InForce::at_once(terms(90, 30, 24));
        assert_eq!(decide(None, Some(terms(1, 1, 1)), DELAY, at(0)), Some(InForce::at_once(terms(1, 1, 1))));
        assert_eq!(decide(None, None, DELAY, at(0)), None);
        let waits = next(&long, &terms(10, 30, 24), 0);
        assert_eq!(decide(Some(waits.clone()), None, DELAY, at(100)), Some(waits.clone()));
        assert_eq!(shown(&next(&waits, &terms(10, 30, 24), 100)), (terms(10, 30, 24), None));
    }

    #[test]
    fn each_change_of_what_waits_is_told_once() {
        let long = InForce::at_once(terms(90, 30, 24));
        let waits = next(&long, &terms(10, 30, 24), 0);
        assert_eq!(waits.change(&long), Some(Change::Waits));
        let mut counted = next(&waits, &terms(10, 30, 24), 1);
        counted.pending.as_mut().expect("it waits").affected = Some(7);
        assert_eq!(counted.change(&waits), None);
        assert_eq!(next(&waits, &terms(20, 30, 24), 1).change(&waits), Some(Change::Waits));
        assert_eq!(next(&waits, &terms(90, 30, 24), 1).change(&waits), Some(Change::Cancelled));
        assert_eq!(next(&waits, &terms(10, 30, 24), 24).change(&waits), Some(Change::Effective));
        assert_eq!(next(&long, &terms(91, 30, 24), 0).change(&long), None);
    }

    #[test]
    fn a_delay_is_never_cut_short_by_whole_seconds() {
        let now = at(0) + SignedDuration::from_millis(1);
        let long = InForce::at_once(terms(90, 30, 24));
        let waits = decide(Some(long), Some(terms(10, 30, 24)), DELAY, now).expect("known");
        let written = serde_json::to_value(waits.pending.expect("it waits")).expect("JSON");
        assert_eq!(written["effectiveAt"], (at(24) + SignedDuration::from_secs(1)).to_string());
    }

    /// As the API server lets it through.
    fn any_terms() -> impl Strategy<Value = Terms> {
        let manageable = |terms: &Terms| {
            let epoch = terms.key_epoch.as_secs();
            [&terms.anonymize_after, &terms.delete_after_shipment]
                .iter()
                .all(|duration| (2 * epoch..=1_000 * epoch).contains(&duration.as_secs()))
        };
        (1_u16..120, 1_u16..=30, 1_u16..100)
            .prop_map(|(anonymize, delete, epoch)| terms(anonymize, delete, epoch))
            .prop_filter("keys that fit a Secret", manageable)
    }

    fn durations(terms: &Terms) -> [i64; 2] {
        [terms.anonymize_after.as_secs(), terms.delete_after_shipment.as_secs()]
    }

    proptest! {
        /// Changes of policies, times at which they can't be used, restarts (the status is all that is left).
        #[test]
        fn nothing_becomes_shorter_before_its_delay_nor_stays_longer_after_it(
            steps in proptest::collection::vec((proptest::option::weighted(0.8, any_terms()), 0_i64..20, 0_usize..4), 1..60),
        ) {
            let (mut hour, mut wanted) = (0, terms(90, 30, 24));
            let mut in_force = InForce::at_once(wanted.clone());
            let mut seen: Vec<(i64, Terms)> = vec![(-100, wanted.clone())];
            for (change, hours, what) in steps {
                hour += hours;
                if let (Some(change), 0) = (&change, what) {
                    wanted = change.clone();
                }
                let told = change.is_some().then(|| wanted.clone());
                let before = in_force.clone();
                in_force = decide(Some(before.clone()), told.clone(), DELAY, at(hour)).expect("known");
                let Some(told) = told else {
                    prop_assert_eq!(&in_force, &before);
                    continue;
                };
                seen.push((hour, told));
                let window = |time: &i64| hour - time < 24;
                let first = seen.iter().rposition(|(time, _)| !window(time)).unwrap_or(0);
                for (n, (old, new)) in durations(&before.terms).into_iter().zip(durations(&in_force.terms)).enumerate() {
                    let all = seen[first..].iter().all(|(_, wanted)| durations(wanted)[n] <= new);
                    prop_assert!(new >= old || all, "duration {n} became {new} in hour {hour}: {seen:?}");
                    prop_assert!(new >= durations(&wanted)[n]);
                }
                let same = seen[first..].iter().all(|(_, one)| *one == wanted);
                if same && hour - seen[first].0 >= 24 {
                    prop_assert_eq!(&in_force, &InForce::at_once(wanted.clone()));
                }
                let shortest = durations(&in_force.terms).into_iter().min().unwrap_or_default();
                prop_assert!(shortest <= 1_000 * in_force.terms.key_epoch.as_secs(), "too many keys: {in_force:?}");
                prop_assert_eq!(in_force.pending.is_some(), in_force.terms != wanted);
            }
        }
    }
}
