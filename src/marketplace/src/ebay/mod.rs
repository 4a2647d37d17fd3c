//! eBay: Fulfillment API v1.

mod convert;
mod wire;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, RequestBuilder};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    CollectError, CollectFuture, Collector, Credentials, Cursor, Endpoints, Order, Page,
    cache::Cache,
    cursor::State,
    limits::Limit,
    seen::Seen,
    session::Session,
    token::{Grant, Tokens},
    window::Window,
};
use wire::{OrderSearchPagedCollection, ShippingFulfillment, ShippingFulfillmentPagedCollection};

/// More than 200 is an error.
const PAGE: u64 = 200;
const OVERLAP: SignedDuration = SignedDuration::from_mins(5);
/// eBay lists what changed with a short delay.
const DELAY: SignedDuration = SignedDuration::from_secs(5);
const SPAN: SignedDuration = SignedDuration::from_hours(24);
/// 100,000 calls a day for an application, as eBay documents for the order methods.
const PERIOD: Duration = Duration::from_millis(864);
const BURST: u32 = 50;

/// The official endpoints.
pub fn official_endpoints() -> Endpoints {
    let url = |text: &str| Url::parse(text).expect("a constant URL");
    Endpoints {
        api: url("https://api.ebay.com"),
        token: url("https://api.ebay.com/identity/v1/oauth2/token"),
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Position {
    window: Window,
    offset: u64,
    total: u64,
}

/// The client. Offsets count over a live list: an order that changes leaves its window, and those behind it move up. So
/// a window whose total shrinks is read again, narrower.
pub struct Ebay {
    session: Session,
    limit: Limit,
    seen: Seen,
    parcels: Cache<Vec<ShippingFulfillment>>,
}

impl Ebay {
    /// A client of the account that `credentials` belong to.
    pub fn new(http: Client, endpoints: Endpoints, credentials: Credentials) -> Self {
        let tokens = Tokens::new(endpoints.token, Grant::RefreshTokenBasic, credentials);
        Self {
            session: Session::new(http, endpoints.api, tokens, dress),
            limit: Limit::new(PERIOD, BURST),
            seen: Seen::default(),
            parcels: Cache::new(),
        }
    }

    async fn next(&mut self, cursor: &Cursor, now: Timestamp) -> Result<Page, CollectError> {
        let mut state = State::<Position>::read(cursor)?;
        let Some(at) = self.position(&state, now) else { return Ok(state.page(Vec::new(), false)) };
        let listed = self.list(&at, now).await?;
        let numbers: Vec<_> = listed.orders.iter().map(|order| order.order_id.as_str()).collect();
        if self.seen.repeats(&at.offset.to_string(), &numbers) {
            self.seen.clear();
            let detail = format!("offset {} shows what another page has shown", at.offset);
            return Err(CollectError::Gap { call: "getOrders", detail });
        }
        let count = listed.orders.len() as u64;
        let mut orders = Vec::with_capacity(listed.orders.len());
        for order in &listed.orders {
            orders.push(self.order(order, now).await?);
        }
        let next = after(&at, count, listed.total, state.watermark);
        if next.as_ref().is_none_or(|next| next.offset == 0) {
            self.seen.clear();
        }
        let mut more = next.is_some();
        if next.is_none() {
            state.watermark = at.window.to;
            state.known_until = Some(at.window.to);
            more = !at.window.newest;
        }
        state.position = next;
        Ok(state.page(orders, more))
    }

    /// A place whose earlier pages this process hasn't read starts again at the window's beginning.
    fn position(&mut self, state: &State<Position>, now: Timestamp) -> Option<Position> {
        if let Some(at) = &state.position {
            let known = at.offset == 0 || self.seen.has_page(&at.offset.saturating_sub(PAGE).to_string());
            if known {
                return Some(at.clone());
            }
            self.seen.clear();
            return Some(Position { window: at.window.clone(), offset: 0, total: 0 });
        }
        let window = Window::after(state.watermark, now - DELAY, OVERLAP, SPAN)?;
        Some(Position { window, offset: 0, total: 0 })
    }

    /// By change alone: with a creation date beside it, eBay ignores the change date.
    async fn list(
        &mut self,
        at: &Position,
        now: Timestamp,
    ) -> Result<OrderSearchPagedCollection, CollectError> {
        let time = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
        let filter = format!("lastmodifieddate:[{}..{}]", time(at.window.from), time(at.window.to));
        let (limit, offset) = (PAGE.to_string(), at.offset.to_string());
        let query = [("filter", filter.as_str()), ("limit", limit.as_str()), ("offset", offset.as_str())];
        let url = self.session.url(&["sell", "fulfillment", "v1", "order"], &query);
        self.session.get_ok(&mut self.limit, "getOrders", url, now).await?.parse("getOrders")
    }

    async fn order(&mut self, listed: &wire::Order, now: Timestamp) -> Result<Order, CollectError> {
        let parcels =
            if convert::has_shipped(listed) { self.parcels(listed, now).await? } else { Vec::new() };
        convert::order(listed, &parcels).map_err(|inexact| inexact.of("getOrders"))
    }

    async fn parcels(
        &mut self,
        order: &wire::Order,
        now: Timestamp,
    ) -> Result<Vec<ShippingFulfillment>, CollectError> {
        const CALL: &str = "getShippingFulfillments";
        if let Some(known) = self.parcels.get(&order.order_id, order.last_modified_date) {
            return Ok(known);
        }
        let path = ["sell", "fulfillment", "v1", "order", &order.order_id, "shipping_fulfillment"];
        let url = self.session.url(&path, &[]);
        let answer = self.session.get_ok(&mut self.limit, CALL, url, now).await?;
        let parcels = answer.parse::<ShippingFulfillmentPagedCollection>(CALL)?.fulfillments;
        self.parcels.keep(&order.order_id, order.last_modified_date, parcels.clone());
        Ok(parcels)
    }
}

impl Collector for Ebay {
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
    request.bearer_auth(token)
}

/// The place after a page; `None` if the window is complete.
fn after(at: &Position, orders: u64, total: u64, watermark: Timestamp) -> Option<Position> {
    if at.offset > 0 && total < at.total {
        let window = at.window.narrowed(watermark);
        return Some(Position { window, offset: 0, total: 0 });
    }
    let offset = at.offset + orders;
    (orders > 0 && offset < total).then(|| Position { window: at.window.clone(), offset, total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_whose_total_shrinks_is_read_again_and_narrower() {
        let watermark: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let window = Window { from: watermark - OVERLAP, to: watermark + SPAN, newest: true };
        let first = Position { window, offset: 0, total: 0 };
        let second = after(&first, 200, 450, watermark).expect("more");
        assert_eq!((second.offset, second.total), (200, 450));
        let again = after(&second, 200, 449, watermark).expect("again");
        assert_eq!(again.offset, 0);
        assert!(again.window.to < second.window.to && !again.window.newest);
        let third = after(&second, 200, 451, watermark).expect("more");
        assert_eq!(after(&third, 51, 451, watermark), None);
    }
}
