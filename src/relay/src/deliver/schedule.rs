//! When to try again: the schedule that the Standard Webhooks specification recommends, then daily.

use jiff::SignedDuration;

const DELAYS: [SignedDuration; 9] = [
    SignedDuration::from_secs(5),
    SignedDuration::from_mins(5),
    SignedDuration::from_mins(30),
    SignedDuration::from_hours(2),
    SignedDuration::from_hours(5),
    SignedDuration::from_hours(10),
    SignedDuration::from_hours(14),
    SignedDuration::from_hours(20),
    SignedDuration::from_hours(24),
];
/// A destination can't silence us for longer than this.
const LONGEST_RETRY_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// The delay after the attempt that made `failures` failures in a row, of which `unit` (0 to 1) spreads the tenants by
/// a tenth each way. What the destination asks for counts if it is longer than 0.
pub fn delay(failures: u32, retry_after: Option<SignedDuration>, unit: f64) -> SignedDuration {
    if let Some(asked) = retry_after.filter(jiff::SignedDuration::is_positive) {
        return asked.min(LONGEST_RETRY_AFTER);
    }
    let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX).min(DELAYS.len() - 1);
    let seconds = DELAYS[index].as_secs_f64() * (0.9 + 0.2 * unit.clamp(0.0, 1.0));
    SignedDuration::from_secs_f64(seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attempts_go_on_for_days_and_then_daily() {
        let total: i64 = (1..=9).map(|failures| delay(failures, None, 0.5).as_secs()).sum();
        assert_eq!(total, 5 + 300 + 1_800 + 75 * 3_600);
        assert_eq!(delay(500, None, 0.5), SignedDuration::from_hours(24));
    }

    #[test]
    fn retry_after_is_honoured_within_a_day() {
        assert_eq!(delay(1, Some(SignedDuration::from_secs(120)), 0.0), SignedDuration::from_mins(2));
        assert_eq!(delay(1, Some(SignedDuration::from_hours(900)), 0.0), SignedDuration::from_hours(24));
        assert_eq!(delay(1, Some(SignedDuration::ZERO), 0.5), SignedDuration::from_secs(5));
    }

    proptest! {
        #[test]
        fn jitter_spreads_by_a_tenth_each_way(failures in 1_u32..20, unit in -1.0..2.0_f64) {
            let (middle, spread) = (delay(failures, None, 0.5).as_secs_f64(), delay(failures, None, unit).as_secs_f64());
            prop_assert!((spread - middle).abs() <= middle * 0.1 + 0.001);
        }
    }
}
