//! The marketplaces' rate limits, kept before they have to be enforced.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::CollectError;

/// The shortest period: more than a thousand calls a second is no limit.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_hours(1);
/// A used up budget is back by then, whatever the answer says: if not, a 429 tells.
const LONGEST_REST: Duration = Duration::from_mins(1);

/// One call's limit.
pub(crate) struct Limit {
    limiter: DefaultDirectRateLimiter,
    period: Duration,
    burst: NonZeroU32,
    closed_until: Option<Instant>,
    rests_until: Option<Instant>,
}

fn limiter(period: Duration, burst: NonZeroU32) -> DefaultDirectRateLimiter {
    // `with_period` refuses zero alone, and the period is never below `SHORTEST`.
    let quota = Quota::with_period(period).unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN));
    RateLimiter::direct(quota.allow_burst(burst))
}

fn spread(calls: u32, window: Duration) -> (Duration, u32) {
    let burst = (calls / 5).max(1);
    (window / calls.saturating_sub(burst).max(1), burst)
}

impl Limit {
    /// One call a `period`, and `burst` at once after a pause.
    pub(crate) fn new(period: Duration, burst: u32) -> Self {
        let period = period.clamp(SHORTEST, LONGEST);
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        Self { limiter: limiter(period, burst), period, burst, closed_until: None, rests_until: None }
    }

    /// `calls` in any `window`: a fifth of them at once, the rest spread, so that no window of that length sees more.
    pub(crate) fn per_window(calls: u32, window: Duration) -> Self {
        let (period, burst) = spread(calls, window);
        Self::new(period, burst)
    }

    /// Waits for the next call's turn; an error while the marketplace asked for a pause.
    pub(crate) async fn turn(&self, call: &'static str) -> Result<(), CollectError> {
        if let Some(left) = self.closed_until.and_then(|at| at.checked_duration_since(Instant::now())) {
            return Err(CollectError::Throttled { call, retry_after: Some(left) });
        }
        if let Some(until) = self.rests_until {
            sleep_until(until).await;
        }
        while let Err(early) = self.limiter.check() {
            sleep(early.wait_time_from(DefaultClock::default().now())).await;
        }
        Ok(())
    }

    /// The marketplace told another rate. The burst of a new rate is earned, not given.
    pub(crate) fn adapt(&mut self, period: Duration, burst: Option<u32>) {
        let period = period.clamp(SHORTEST, LONGEST);
        let burst = burst.and_then(NonZeroU32::new).unwrap_or(self.burst);
        if period.abs_diff(self.period) * 100 < self.period && burst == self.burst {
            return;
        }
        let fresh = limiter(period, burst);
        // All of a full burst can always be taken from a new limiter.
        let _taken = burst.get().checked_sub(1).and_then(NonZeroU32::new).map(|most| fresh.check_n(most));
        (self.limiter, self.period, self.burst) = (fresh, period, burst);
    }

    /// As [`per_window`](Self::per_window), told by the marketplace.
    pub(crate) fn adapt_window(&mut self, calls: u32, window: Duration) {
        if calls > 0 && !window.is_zero() {
            let (period, burst) = spread(calls, window);
            self.adapt(period, Some(burst));
        }
    }

    /// As [`adapt`](Self::adapt), from calls a second, as `x-amzn-RateLimit-Limit` tells.
    pub(crate) fn adapt_rate(&mut self, per_second: f64) {
        if per_second.is_finite() && per_second > 0.0 {
            let seconds = (1.0 / per_second).min(LONGEST.as_secs_f64());
            self.adapt(Duration::from_secs_f64(seconds), None);
        }
    }

    /// A 429: no call before the pause that the marketplace asks for, else one period. Returns the pause.
    pub(crate) fn close(&mut self, asked: Option<Duration>) -> Duration {
        let pause = asked.unwrap_or(self.period);
        self.closed_until = Some(Instant::now() + pause);
        pause
    }

    /// The budget is used up for a while: the next call waits that long for its turn.
    pub(crate) fn rest(&mut self, pause: Duration) {
        self.rests_until = Some(Instant::now() + pause.min(LONGEST_REST));
    }

    #[cfg(test)]
    pub(crate) fn period(&self) -> Duration {
        self.period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_beyond_the_burst_wait_for_their_turn() {
        let limit = Limit::new(Duration::from_millis(40), 2);
        let start = std::time::Instant::now();
        for _ in 0..4 {
            limit.turn("x").await.expect("a turn");
        }
        assert!(start.elapsed() >= Duration::from_millis(75), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn no_call_is_made_before_the_pause_that_was_asked_for() {
        let mut limit = Limit::new(Duration::from_millis(1), 1);
        limit.close(Some(Duration::from_mins(1)));
        let error = limit.turn("getOrders").await.expect_err("closed");
        assert_eq!(error.category(), "Throttled");
        assert!(error.retry_after().is_some_and(|wait| wait > Duration::from_secs(50)));
        assert_eq!(Limit::new(Duration::from_secs(3), 1).close(None), Duration::from_secs(3));
    }

    #[tokio::test]
    async fn a_used_up_budget_makes_the_next_call_wait() {
        let mut limit = Limit::new(Duration::from_millis(1), 5);
        limit.rest(Duration::from_millis(50));
        let start = Instant::now();
        limit.turn("x").await.expect("a turn");
        assert!(start.elapsed() >= Duration::from_millis(50), "{:?}", start.elapsed());
    }

    #[test]
    fn no_window_sees_more_calls_than_were_told() {
        for calls in 1..200 {
            let window = Duration::from_mins(1);
            let (period, burst) = spread(calls, window);
            let most = u128::from(burst) + window.as_nanos() / period.as_nanos();
            assert!(most <= u128::from(calls).max(2), "{calls}: {most}");
        }
    }

    #[test]
    fn a_told_rate_replaces_the_documented_one() {
        let mut limit = Limit::new(Duration::from_secs(178), 20);
        limit.adapt_rate(2.0);
        assert_eq!(limit.period(), Duration::from_millis(500));
        for nonsense in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            limit.adapt_rate(nonsense);
            assert_eq!(limit.period(), Duration::from_millis(500));
        }
    }
}
