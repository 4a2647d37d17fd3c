use jiff::{SignedDuration, Timestamp};

/// The retention that applies to one marketplace's orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// After the order was placed.
    pub anonymize_after: SignedDuration,
    /// After the order's first shipment.
    pub delete_after_shipment: SignedDuration,
    /// How finely keys die: a deadline is met early by less than this.
    pub key_epoch: SignedDuration,
}

/// When an order's PII must be gone: `min(placed + anonymizeAfter, shipped + deleteAfterShipment)`.
///
/// `shipped` is the order's first shipment. An order that isn't known to have shipped counts as shipped at
/// `known_until`, the time up to which the marketplace has told every shipment.
pub fn deadline(
    placed: Timestamp,
    shipped: Option<Timestamp>,
    known_until: Timestamp,
    limits: Limits,
) -> Timestamp {
    let by_age = saturating_add(placed, limits.anonymize_after);
    let by_shipment = saturating_add(shipped.unwrap_or(known_until), limits.delete_after_shipment);
    by_age.min(by_shipment)
}

fn saturating_add(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn day(n: i32) -> Timestamp {
        Timestamp::UNIX_EPOCH.checked_add(DAY * n).expect("in range")
    }

    #[test]
    fn the_earlier_of_age_and_shipment_counts() {
        let limits = Limits { anonymize_after: DAY * 90, delete_after_shipment: DAY * 30, key_epoch: DAY };
        assert_eq!(deadline(day(0), Some(day(2)), day(50), limits), day(32));
        assert_eq!(deadline(day(0), Some(day(80)), day(85), limits), day(90));
    }

    #[test]
    fn not_knowing_counts_as_shipped() {
        let limits = Limits { anonymize_after: DAY * 90, delete_after_shipment: DAY * 30, key_epoch: DAY };
        assert_eq!(deadline(day(0), None, day(10), limits), day(40));
    }

    proptest! {
        #[test]
        fn no_deadline_is_later_than_either_limit(
            placed in 0_i32..400, shipped in proptest::option::of(0_i32..400), known in 0_i32..400,
            age in 1_i32..400, after in 1_i32..400,
        ) {
            let limits = Limits { anonymize_after: DAY * age, delete_after_shipment: DAY * after, key_epoch: DAY };
            let at = deadline(day(placed), shipped.map(day), day(known), limits);
            prop_assert!(at <= day(placed + age) && at <= day(shipped.unwrap_or(known) + after));
            prop_assert!(at == day(placed + age) || at == day(shipped.unwrap_or(known) + after));
        }

        #[test]
        fn an_earlier_shipment_or_a_shorter_limit_never_makes_a_deadline_later(
            shipped in 0_i32..400, earlier in 0_i32..400, age in 1_i32..400, shorter in 1_i32..400,
        ) {
            let limits = |days| Limits { anonymize_after: DAY * days, delete_after_shipment: DAY * days, key_epoch: DAY };
            let (first, second) = (day(shipped.min(earlier)), day(shipped));
            let (short, long) = (limits(age.min(shorter)), limits(age));
            prop_assert!(
                deadline(day(0), Some(first), day(0), short) <= deadline(day(0), Some(second), day(0), long)
            );
        }
    }
}
