//! The documented rate limits, enforced.

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Amazon's `searchOrders`: calls a second, and at once.
pub(crate) const SEARCH: (f64, f64) = (0.0056, 20.0);
/// Amazon's `getOrder`.
const GET: (f64, f64) = (0.5, 30.0);

/// One of Bol.com's limits: so many calls in so many seconds.
pub(crate) struct Documented {
    path: &'static str,
    calls: u32,
    unit: (&'static str, i64),
}

const SECONDS: (&str, i64) = ("SECONDS", 1);
const MINUTES: (&str, i64) = ("MINUTES", 60);
/// Bol.com's limits of the calls that are simulated.
pub(crate) const ORDERS: Documented = Documented { path: "/retailer/orders", calls: 25, unit: MINUTES };
pub(crate) const ORDER: Documented =
    Documented { path: "/retailer/orders/{order-id}", calls: 25, unit: SECONDS };
pub(crate) const SHIPMENTS: Documented = Documented { path: "/retailer/shipments", calls: 25, unit: MINUTES };
pub(crate) const SHIPMENT: Documented =
    Documented { path: "/retailer/shipments/{shipment-id}", calls: 50, unit: MINUTES };

/// The limits in effect.
#[derive(Clone, Copy)]
pub(crate) struct Rates {
    search: (f64, f64),
}

impl Rates {
    pub(crate) fn new(search: (f64, f64)) -> Self {
        Self { search }
    }

    fn factor(&self) -> f64 {
        (self.search.0 / SEARCH.0).max(1.0)
    }

    /// Calls a second and at once of an operation of Amazon.
    pub(crate) fn amazon(&self, operation: &str) -> (f64, f64) {
        if operation == "searchOrders" { self.search } else { (GET.0 * self.factor(), GET.1 * self.factor()) }
    }

    fn bol(&self, limit: &Documented) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at least one, saturating"
        )]
        let calls = (f64::from(limit.calls) * self.factor()) as u64;
        calls.min(1_000_000)
    }

    /// `/retailer/public/ratelimits`.
    pub(crate) fn resource(&self) -> Value {
        let all = [ORDERS, ORDER, SHIPMENTS, SHIPMENT];
        let list = all.iter().map(|limit| {
            json!({"path": limit.path, "methods": "GET", "maxCapacity": self.bol(limit), "timeToLive": 1, "timeUnit": limit.unit.0})
        });
        list.collect()
    }
}

/// An account's calls so far.
#[derive(Default)]
pub(crate) struct Calls {
    /// Of Amazon's operations: tokens left, and when they were counted.
    buckets: HashMap<&'static str, (f64, Timestamp)>,
    /// Of Bol.com's paths: the calls of the last seconds.
    windows: HashMap<&'static str, VecDeque<Timestamp>>,
}

/// What Bol.com tells of a limit on every answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Budget {
    pub(crate) allowed: bool,
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    /// Seconds until there is budget again.
    pub(crate) reset: i64,
}

impl Calls {
    /// Takes one call from the token bucket of an operation of Amazon.
    pub(crate) fn take(&mut self, rates: Rates, operation: &'static str, now: Timestamp) -> bool {
        let (rate, burst) = rates.amazon(operation);
        let (tokens, since) = self.buckets.get(operation).copied().unwrap_or((burst, now));
        let tokens = (tokens + now.duration_since(since).as_secs_f64() * rate).min(burst);
        let enough = tokens >= 1.0;
        self.buckets.insert(operation, (if enough { tokens - 1.0 } else { tokens }, now));
        enough
    }

    /// Takes one call of the budget of a path of Bol.com.
    pub(crate) fn spend(&mut self, rates: Rates, of: &Documented, now: Timestamp) -> Budget {
        let (limit, length) = (rates.bol(of), SignedDuration::from_secs(of.unit.1));
        let window = self.windows.entry(of.path).or_default();
        while window.front().is_some_and(|at| now.duration_since(*at) >= length) {
            window.pop_front();
        }
        let allowed = (window.len() as u64) < limit;
        if allowed {
            window.push_back(now);
        }
        let remaining = limit.saturating_sub(window.len() as u64);
        let first = window.front().map_or(SignedDuration::ZERO, |at| length - now.duration_since(*at));
        let reset = first.as_secs() + i64::from(first.subsec_nanos() > 0);
        Budget { allowed, limit, remaining, reset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    #[test]
    fn amazons_bucket_empties_and_fills_at_the_documented_rate() {
        let (mut calls, rates) = (Calls::default(), Rates::new(SEARCH));
        let taken = (0..30).filter(|_| calls.take(rates, "searchOrders", at(0))).count();
        assert_eq!(taken, 20);
        assert!(!calls.take(rates, "searchOrders", at(178)));
        assert!(calls.take(rates, "searchOrders", at(179)));
        assert!(calls.take(rates, "getOrder", at(179)), "each operation has its own");
    }

    #[test]
    fn bols_window_allows_no_more_than_documented_and_tells_when_there_is_budget_again() {
        let (mut calls, rates) = (Calls::default(), Rates::new(SEARCH));
        for used in 1..=25 {
            let budget = calls.spend(rates, &ORDERS, at(10));
            assert_eq!((budget.allowed, budget.remaining), (true, 25 - used));
        }
        let refused = calls.spend(rates, &ORDERS, at(30));
        assert_eq!(refused, Budget { allowed: false, limit: 25, remaining: 0, reset: 40 });
        assert!(calls.spend(rates, &ORDERS, at(70)).allowed);
        assert!(calls.spend(rates, &ORDER, at(30)).allowed, "each path has its own");
    }

    #[test]
    fn a_faster_sandbox_is_faster_everywhere_and_a_slower_one_isn_t_below_the_documents() {
        let list = Rates::new((0.56, 20.0)).resource();
        assert_eq!(
            (list[0]["maxCapacity"].as_u64(), list[1]["maxCapacity"].as_u64()),
            (Some(2500), Some(2500))
        );
        assert_eq!(Rates::new((0.0001, 1.0)).resource()[0]["maxCapacity"], 25);
    }
}
