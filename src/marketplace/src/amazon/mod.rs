//! Amazon: Selling Partner API, Orders 2026-01-01.

pub(crate) mod convert;
pub(crate) mod wire;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, RequestBuilder};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    CollectError, CollectFuture, Collector, Credentials, Cursor, Endpoints, Order, Page,
    cursor::State,
    http::Answer,
    limits::Limit,
    seen::Seen,
    session::Session,
    token::{Grant, Tokens},
    window::{Window, earlier},
};
use wire::SearchOrdersResponse;

const CALL: &str = "searchOrders";
/// `lastUpdatedBefore` must be at least two minutes ago; the rest is for clocks that differ.
const DELAY: SignedDuration = SignedDuration::from_secs(125);
const OVERLAP: SignedDuration = SignedDuration::from_mins(5);
const SPAN: SignedDuration = SignedDuration::from_hours(24 * 7);
/// 0.0056 calls a second, 20 at once, as documented; the answers tell the account's own rate.
const PERIOD: Duration = Duration::from_millis(178_571);
const BURST: u32 = 20;
/// A pagination token is good for 24 hours.
const TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(23);
/// PII comes with the roles of the application; no restricted data token is needed in this version.
const INCLUDED: &str = "BUYER,RECIPIENT,PROCEEDS,FULFILLMENT,PACKAGES,TAX,CANCELLATION";

/// The official endpoints of a region: `na`, `eu` or `fe`.
pub fn official_endpoints(region: &str) -> Endpoints {
    let url = |text: &str| Url::parse(text).expect("a constant URL");
    let api = match region {
        "na" => url("https://sellingpartnerapi-na.amazon.com"),
        "fe" => url("https://sellingpartnerapi-fe.amazon.com"),
        _ => url("https://sellingpartnerapi-eu.amazon.com"),
    };
    Endpoints { api, token: url("https://api.amazon.com/auth/o2/token") }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Position {
    window: Window,
    began: Timestamp,
    token: Option<String>,
}

/// The client.
pub struct Amazon {
    session: Session,
    limit: Limit,
    seen: Seen,
    marketplace_ids: String,
}

impl Amazon {
    /// A client of the account that `credentials` belong to, for at most 50 of its sites.
    pub fn new(
        http: Client,
        endpoints: Endpoints,
        credentials: Credentials,
        marketplace_ids: &[String],
    ) -> Self {
        let tokens = Tokens::new(endpoints.token, Grant::RefreshTokenForm, credentials);
        Self {
            session: Session::new(http, endpoints.api, tokens, dress),
            limit: Limit::new(PERIOD, BURST),
            seen: Seen::default(),
            marketplace_ids: marketplace_ids.join(","),
        }
    }

    async fn next(&mut self, cursor: &Cursor, now: Timestamp) -> Result<Page, CollectError> {
        let mut state = State::<Position>::read(cursor)?;
        let Some(at) = position(&state, now) else { return Ok(state.page(Vec::new(), false)) };
        if at.token.is_none() {
            self.seen.clear();
        }
        let answer = self.search(&at).await?;
        self.adapt(&answer);
        if answer.status.as_u16() == 400 && at.token.is_some() {
            // The token expired or is refused.
            state.position = Some(again(&state, &at, now));
            return Ok(state.page(Vec::new(), true));
        }
        if let Some(failure) = answer.failure(CALL) {
            return Err(failure);
        }
        let found: SearchOrdersResponse = answer.parse(CALL)?;
        let next = found.pagination.and_then(|page| page.next_token).filter(|token| !token.is_empty());
        let place = at.token.as_deref().unwrap_or_default();
        let numbers: Vec<_> = found.orders.iter().map(|order| order.order_id.as_str()).collect();
        self.check(place, &numbers, next.as_deref())?;
        let orders: Vec<Order> = found
            .orders
            .iter()
            .map(|order| convert::order(order).map_err(|inexact| inexact.of(CALL)))
            .collect::<Result<_, _>>()?;
        self.seen.note(place, &numbers);
        let mut more = next.is_some();
        if next.is_none() {
            self.seen.clear();
            state.watermark = at.window.to;
            state.known_until = Some(at.window.to);
            more = !at.window.newest;
        }
        state.position = next.map(|token| Position { token: Some(token), ..at });
        Ok(state.page(orders, more))
    }

    /// A page must bring what no other page of the window has brought, and a token that leads on.
    fn check(&mut self, place: &str, numbers: &[&str], next: Option<&str>) -> Result<(), CollectError> {
        let leads_back = next.is_some_and(|next| next == place || self.seen.has_page(next));
        if leads_back || self.seen.repeats(place, numbers) {
            self.seen.clear();
            let detail = "a page shows what another page has shown".to_owned();
            return Err(CollectError::Gap { call: CALL, detail });
        }
        Ok(())
    }

    async fn search(&mut self, at: &Position) -> Result<Answer, CollectError> {
        let (from, to) = (at.window.from.to_string(), at.window.to.to_string());
        let mut query = vec![
            ("lastUpdatedAfter", from.as_str()),
            ("lastUpdatedBefore", to.as_str()),
            ("marketplaceIds", self.marketplace_ids.as_str()),
            ("maxResultsPerPage", "100"),
            ("includedData", INCLUDED),
        ];
        query.extend(at.token.as_deref().map(|token| ("paginationToken", token)));
        let url = self.session.url(&["orders", "2026-01-01", "orders"], &query);
        self.session.get(&mut self.limit, CALL, url).await
    }

    /// The rate of this account; absent on 429.
    fn adapt(&mut self, answer: &Answer) {
        let told =
            answer.headers.get("x-amzn-ratelimit-limit").and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(rate) = told {
            self.limit.adapt_rate(rate);
        }
    }
}

impl Collector for Amazon {
    fn start(&self, since: Timestamp) -> Cursor {
        State::<Position>::start(since).write()
    }

    fn page<'a>(&'a mut self, cursor: &'a Cursor, now: Timestamp) -> CollectFuture<'a> {
        Box::pin(self.next(cursor, now))
    }

    fn set_credentials(&mut self, credentials: Credentials) {
        self.session.set_credentials(credentials);
    }
}

fn dress(request: RequestBuilder, token: &str) -> RequestBuilder {
    request.header("x-amz-access-token", token)
}

/// Where to read: on from the stored token while it is good, else a window's beginning.
fn position(state: &State<Position>, now: Timestamp) -> Option<Position> {
    match &state.position {
        Some(at) if at.token.is_none() || now.duration_since(at.began) < TOKEN_LIFE => Some(at.clone()),
        Some(at) => Some(again(state, at, now)),
        None => {
            let window = Window::after(state.watermark, earlier(now, DELAY), OVERLAP, SPAN)?;
            Some(Position { window, began: now, token: None })
        }
    }
}

/// The window's beginning. It is narrower, or what took longer than a token's life would take as long again.
fn again(state: &State<Position>, at: &Position, now: Timestamp) -> Position {
    Position { token: None, began: now, window: at.window.narrowed(state.watermark) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_token_starts_its_window_again() {
        let now: Timestamp = "2026-01-02T12:00:00Z".parse().expect("a time");
        let window = Window { from: now - SPAN, to: now - DELAY, newest: true };
        let at = |hours| Position {
            window: window.clone(),
            began: now - SignedDuration::from_hours(hours),
            token: Some("t".to_owned()),
        };
        let state = |at| {
            let mut state = State::start(now - SPAN);
            state.position = Some(at);
            state
        };
        assert_eq!(position(&state(at(1)), now), Some(at(1)));
        let again = position(&state(at(24)), now).expect("a place");
        assert_eq!((again.token, again.began, again.window.from), (None, now, window.from));
        assert!(again.window.to < window.to, "what didn't fit into a token's life is read in two");
    }

    #[test]
    fn a_window_ends_two_minutes_ago_at_the_latest() {
        let now: Timestamp = "2026-01-02T12:00:00Z".parse().expect("a time");
        let at = position(&State::start(now - SignedDuration::from_hours(1)), now).expect("a place");
        assert!(now.duration_since(at.window.to) >= SignedDuration::from_mins(2));
        assert_eq!(position(&State::start(now), now), None, "nothing can be asked for yet");
    }
}
