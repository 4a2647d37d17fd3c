//! What time it is, and whether the API server agrees: keys die by this clock.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, Request, header};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, client::Body};

use crate::names;

/// More is no agreement.
pub const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);
/// A `Date` header has no fractions.
const DATE_STEP: SignedDuration = SignedDuration::from_secs(1);

/// Tells the time, and knows how far it is from the API server's.
pub struct Clock {
    tell: Box<dyn Fn() -> Timestamp + Send + Sync>,
    ahead: Mutex<Option<SignedDuration>>,
}

impl Clock {
    /// The system's time.
    pub fn system() -> Self {
        Self::of(Timestamp::now)
    }

    /// The time that `tell` tells.
    pub fn of(tell: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { tell: Box::new(tell), ahead: Mutex::default() }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        (self.tell)()
    }

    /// A time that no operator's clock has reached that agrees with the API server's. Keys are made beyond it: none
    /// that may have been destroyed already is made anew.
    pub fn unreached(&self) -> Timestamp {
        unreached(self.now(), self.ahead())
    }

    /// How far it was ahead of the API server's when they were last compared; `None`: never yet.
    pub fn ahead(&self) -> Option<SignedDuration> {
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether keys may be destroyed by it.
    pub fn agrees(&self) -> bool {
        self.ahead().is_some_and(|ahead| ahead.abs() <= TOLERANCE)
    }

    /// A client that compares with every answer that it gets.
    pub fn compared(self: &Arc<Self>, client: &Client) -> Client {
        let (clock, inner) = (self.clone(), client.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (clock, client) = (clock.clone(), inner.clone());
            async move {
                let before = clock.now();
                let answer = client.send(request).await?;
                if answer.status().is_success() {
                    clock.compare(before, answer.headers());
                }
                Ok::<_, kube::Error>(answer)
            }
        });
        Client::new(service, client.default_namespace())
    }

    fn compare(&self, before: Timestamp, headers: &HeaderMap) {
        let date = headers.get(header::DATE).and_then(|value| value.to_str().ok());
        let Some(server) = date.and_then(|date| rfc2822::parse(date).ok()) else { return };
        let found = ahead(before, server.timestamp(), self.now());
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("ahead", &self.ahead()).finish_non_exhaustive()
    }
}

/// [`Clock::unreached`], for a clock that says `now` and is so far ahead.
pub fn unreached(now: Timestamp, ahead: Option<SignedDuration>) -> Timestamp {
    let behind = ahead.map_or(SignedDuration::ZERO, |ahead| -ahead);
    now + behind.clamp(SignedDuration::ZERO, TOLERANCE) + TOLERANCE
}

/// Has the clock of a [`Clock::compared`] client compared, by the cheapest request that the operator may make.
pub async fn ask(compared: &Client, namespace: &str) -> kube::Result<()> {
    Api::<Lease>::namespaced(compared.clone(), namespace).get(names::LEASE).await.map(drop)
}

/// The least difference that explains a `server`'s time in an answer to what was asked at `before` and had arrived at
/// `after`.
fn ahead(before: Timestamp, server: Timestamp, after: Timestamp) -> SignedDuration {
    if before > server + DATE_STEP {
        before.duration_since(server + DATE_STEP)
    } else {
        after.duration_since(server).min(SignedDuration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn a_slow_answer_is_no_difference() {
        for (before, server, after, expected) in [
            (100, 100, 101, 0),
            (100, 110, 120, 0),
            (101, 100, 101, 0),
            (460, 100, 461, 359),
            (0, 100, 1, -99),
        ] {
            assert_eq!(
                ahead(at(before), at(server), at(after)).as_secs(),
                expected,
                "{before} {server} {after}"
            );
        }
    }

    #[test]
    fn nothing_is_agreed_before_the_first_answer_nor_beyond_five_minutes() {
        let clock = Clock::of(|| at(1_000_000));
        assert!(!clock.agrees());
        let answered = |second: i64| {
            let date = rfc2822::to_string(&at(second).to_zoned(jiff::tz::TimeZone::UTC)).expect("a date");
            let headers = [(header::DATE, date.parse().expect("a header"))].into_iter().collect();
            clock.compare(clock.now(), &headers);
        };
        answered(1_000_299);
        assert!(clock.agrees());
        assert_eq!(clock.unreached(), at(1_000_599));
        answered(1_000_301);
        assert!(!clock.agrees());
        answered(999_699);
        assert!(clock.agrees());
        assert_eq!(clock.unreached(), at(1_000_300));
        answered(999_698);
        assert!(!clock.agrees());
    }
}
