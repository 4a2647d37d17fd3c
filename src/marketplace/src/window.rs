//! Windows of change time with fixed bounds, so that what is listed doesn't move while it is read.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Never narrower, so that a window always moves the watermark.
const NARROWEST: SignedDuration = SignedDuration::from_mins(1);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    /// It reaches to the newest time that the marketplace lets us ask for.
    pub(crate) newest: bool,
}

impl Window {
    /// The window after `watermark`, reaching back by `overlap`, `span` wide at most; `None` if nothing is new.
    pub(crate) fn after(
        watermark: Timestamp,
        latest: Timestamp,
        overlap: SignedDuration,
        span: SignedDuration,
    ) -> Option<Self> {
        let to = latest.min(later(watermark, span));
        (watermark < latest).then(|| Self { from: earlier(watermark, overlap), to, newest: to == latest })
    }

    /// A narrower window, because this one couldn't be read to its end.
    pub(crate) fn narrowed(&self, watermark: Timestamp) -> Self {
        let half = self.to.duration_since(watermark) / 2;
        let to = self.to.min(later(watermark, half.max(NARROWEST)));
        Self { from: self.from, to, newest: self.newest && to == self.to }
    }
}

/// `at + by`, or the end of time.
pub(crate) fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// `at - by`, or the beginning of time.
pub(crate) fn earlier(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    proptest! {
        #[test]
        fn windows_overlap_leave_nothing_out_and_end(behind in 0_i64..1_000_000, overlap in 0_i64..3_600) {
            let latest: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
            let start = latest - SignedDuration::from_secs(behind);
            let overlap = SignedDuration::from_secs(overlap);
            let (mut watermark, mut rounds) = (start, 0);
            while let Some(window) = Window::after(watermark, latest, overlap, HOUR) {
                prop_assert_eq!(window.from, watermark - overlap);
                prop_assert!(window.to > watermark && window.to <= latest);
                prop_assert_eq!(window.newest, window.to == latest);
                watermark = window.to;
                rounds += 1;
            }
            prop_assert_eq!(watermark, latest);
            prop_assert_eq!(rounds, (behind + 3_599) / 3_600);
        }

        #[test]
        fn no_stored_time_is_a_crash(at in Timestamp::MIN.as_second()..=Timestamp::MAX.as_second(), ago in 0_i64..1_000_000) {
            let latest = Timestamp::from_second(at).expect("in range");
            for watermark in [Timestamp::MIN, earlier(latest, SignedDuration::from_secs(ago)), Timestamp::MAX] {
                if let Some(window) = Window::after(watermark, latest, HOUR, HOUR) {
                    prop_assert!(window.from <= watermark && watermark < window.to && window.to <= latest);
                    prop_assert!(window.narrowed(watermark).to > watermark);
                }
            }
        }

        #[test]
        fn a_narrowed_window_still_moves_the_watermark(width in 1_i64..1_000_000) {
            let watermark: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
            let mut window = Window { from: watermark - HOUR, to: watermark + SignedDuration::from_secs(width), newest: true };
            for _ in 0..40 {
                let narrowed = window.narrowed(watermark);
                prop_assert!(narrowed.to > watermark && narrowed.to <= window.to);
                prop_assert_eq!(narrowed.from, window.from);
                window = narrowed;
            }
            prop_assert!(window.to <= watermark + NARROWEST);
        }
    }
}
