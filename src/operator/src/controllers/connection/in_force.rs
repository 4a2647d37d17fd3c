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
    /// Of a backup, after it was taken; `None`: the connection has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_retention: Option<Duration>,
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
    /// What a policy says of one marketplace's orders, and of their backups if the connection has any.
    pub fn of(policy: &RetentionPolicySpec, marketplace: MarketplaceKind, has_backups: bool) -> Self {
        let effective = policy.effective(marketplace);
        Self {
            anonymize_after: effective.anonymize_after,
            delete_after_shipment: effective.delete_after_shipment,
            key_epoch: policy.key_epoch.clone(),
            backup_retention: has_backups.then(|| policy.effective_backup_retention()),
        }
    }

    fn longer_of_each(self, other: Self) -> Self {
        let longer = |one: Duration, other: Duration| if is_shorter(&one, &other) { other } else { one };
        Self {
            anonymize_after: longer(self.anonymize_after, other.anonymize_after),
            delete_after_shipment: longer(self.delete_after_shipment, other.delete_after_shipment),
            key_epoch: longer(self.key_epoch, other.key_epoch),
            // Whether there are backups takes effect at once.
            backup_retention: match (self.backup_retention, other.backup_retention) {
                (Some(one), Some(other)) => Some(longer(one, other)),
                (_, other) => other,
            },
        }
    }

    /// Whether it takes personal data away sooner than `other`.
    fn is_shorter_than(&self, other: &Self) -> bool {
        is_shorter(&self.anonymize_after, &other.anonymize_after)
            || is_shorter(&self.delete_after_shipment, &other.delete_after_shipment)
            || shortened(other.backup_retention.as_ref(), self.backup_retention.as_ref()).is_some()
    }
}

impl From<&Terms> for Retention {
    fn from(terms: &Terms) -> Self {
        Self {
            anonymize_after_seconds: terms.anonymize_after.as_secs(),
            delete_after_shipment_seconds: terms.delete_after_shipment.as_secs(),
            key_epoch_seconds: terms.key_epoch.as_secs(),
            backup_retention_seconds: terms.backup_retention.as_ref().map(Duration::as_secs),
        }
    }
}

impl From<&RetentionInEffect> for InForce {
    fn from(recorded: &RetentionInEffect) -> Self {
        let terms = Terms {
            anonymize_after: recorded.anonymize_after.clone(),
            delete_after_shipment: recorded.delete_after_shipment.clone(),
            key_epoch: recorded.key_epoch.clone(),
            backup_retention: recorded.backup_retention.clone(),
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
            backup_retention: terms.backup_retention,
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
    let terms = &known.terms;
    let anonymize_after = shortened(Some(&terms.anonymize_after), Some(&wanted.anonymize_after));
    let delete_after_shipment =
        shortened(Some(&terms.delete_after_shipment), Some(&wanted.delete_after_shipment));
    let backup_retention = shortened(terms.backup_retention.as_ref(), wanted.backup_retention.as_ref());
    let further = |to: &Option<Duration>, announced: &Option<Duration>| match (to, announced) {
        (Some(to), Some(announced)) => is_shorter(to, announced),
        (to, None) => to.is_some(),
        (None, _) => false,
    };
    let announced = known.pending.clone().filter(|pending| {
        !further(&anonymize_after, &pending.anonymize_after)
            && !further(&delete_after_shipment, &pending.delete_after_shipment)
            && !further(&backup_retention, &pending.backup_retention)
    });
    match announced {
        Some(pending) => {
            PendingRetention { anonymize_after, delete_after_shipment, backup_retention, ..pending }
        }
        None => PendingRetention {
            anonymize_after,
            delete_after_shipment,
            backup_retention,
            since: Time(whole_seconds(now, RoundMode::Trunc)),
            effective_at: Time(whole_seconds(now, RoundMode::Ceil) + delay),
            affected: None,
        },
    }
}

/// What the second is, if it is shorter.
fn shortened(from: Option<&Duration>, to: Option<&Duration>) -> Option<Duration> {
    from.zip(to).filter(|(from, to)| is_shorter(to, from)).map(|(_, to)| to.clone())
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
        let key_epoch = Duration::hours(key_epoch);
        Terms { anonymize_after, delete_after_shipment, key_epoch, backup_retention: None }
    }

    fn backed_up(terms: Terms, days: u16) -> Terms {
        Terms { backup_retention: Some(Duration::days(days)), ..terms }
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
    fn backups_come_and_go_at_once_and_live_shorter_only_after_the_delay() {
        let (none, long) = (terms(90, 30, 24), backed_up(terms(90, 30, 24), 30));
        let short = backed_up(terms(90, 30, 24), 7);
        let wanted =
            |known: &Terms, wanted: &Terms, hour| next(&InForce::at_once(known.clone()), wanted, hour);
        assert_eq!(wanted(&none, &short, 0), InForce::at_once(short.clone()));
        assert_eq!(wanted(&short, &none, 0), InForce::at_once(none.clone()));
        assert_eq!(wanted(&short, &long, 0), InForce::at_once(long.clone()));
        let waits = wanted(&long, &short, 0);
        assert_eq!(waits.terms, long);
        assert_eq!(waits.pending.as_ref().expect("it waits").backup_retention, Some(Duration::days(7)));
        assert_eq!(next(&waits, &short, 23), waits);
        assert_eq!(next(&waits, &short, 24), InForce::at_once(short.clone()));
        let further = next(&waits, &backed_up(terms(90, 30, 24), 6), 5).pending.expect("it waits");
        assert_eq!(further.effective_at.0, at(29));
        let first = wanted(&none, &backed_up(terms(10, 30, 24), 7), 0);
        assert_eq!(first.terms, short, "what is shorter waits, the first backups don't");
        assert_eq!(first.pending.expect("it waits").backup_retention, None);
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
            let backups = terms.backup_retention.as_ref();
            [&terms.anonymize_after, &terms.delete_after_shipment]
                .into_iter()
                .chain(backups)
                .all(|duration| (2 * epoch..=1_000 * epoch).contains(&duration.as_secs()))
        };
        let days = (1_u16..120, 1_u16..=30, proptest::option::of(1_u16..=30));
        (days, 1_u16..100)
            .prop_map(|((anonymize, delete, backups), epoch)| {
                let backup_retention = backups.map(|days| Duration::days(days.min(delete)));
                Terms { backup_retention, ..terms(anonymize, delete, epoch) }
            })
            .prop_filter("keys that fit a Secret", manageable)
    }

    fn durations(terms: &Terms) -> [i64; 2] {
        [terms.anonymize_after.as_secs(), terms.delete_after_shipment.as_secs()]
    }

    fn of_backups(terms: &Terms) -> Option<i64> {
        terms.backup_retention.as_ref().map(Duration::as_secs)
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
                if let (Some(old), Some(new)) = (of_backups(&before.terms), of_backups(&in_force.terms)) {
                    let at_most = |one: &Terms| of_backups(one).is_none_or(|wanted| wanted <= new);
                    let all = seen[first..].iter().all(|(_, wanted)| at_most(wanted));
                    prop_assert!(new >= old || all, "backups live {new} in hour {hour}: {seen:?}");
                }
                let kept = of_backups(&in_force.terms);
                prop_assert_eq!(kept.is_some(), wanted.backup_retention.is_some());
                prop_assert!(kept.is_none_or(|kept| kept <= in_force.terms.delete_after_shipment.as_secs()));
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
