//! eBay: Fulfillment API v1, and what of the Notification API v1 is needed to trust eBay's notices.

pub(crate) mod convert;
mod public_key;
pub(crate) mod wire;

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
    window::{Window, earlier},
};
pub use public_key::{PublicKey, PublicKeys};
use wire::{OrderSearchPagedCollection, ShippingFulfillment, ShippingFulfillmentPagedCollection};

/// More than 200 is an error.
const PAGE: u64 = 200;
/// So many orders may leave the list between two pages before a window is read again.
const PAGE_OVERLAP: u64 = 10;
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
    /// Offset of the page before.
    previous: u64,
    /// So many of the orders at the beginning of this page ended the page before.
    overlap: u64,
}

/// The client. Offsets count over a live list: an order that changes leaves its window, and those behind it move up. So
/// a page begins with the last orders of the one before; if it doesn't, the window is read again, narrower.
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
        let listed = self.list(&at).await?;
        let place = at.offset.to_string();
        let numbers: Vec<_> = listed.orders.iter().map(|order| order.order_id.as_str()).collect();
        if self.seen.repeats(&place, &numbers) {
            self.seen.clear();
            let detail = format!("offset {place} shows what another page has shown");
            return Err(CollectError::Gap { call: "getOrders", detail });
        }
        let joined = numbers.first().is_some_and(|first| self.seen.elsewhere(&place, first));
        if at.overlap > 0 && !joined {
            self.seen.clear();
            state.position = Some(begin(at.window.narrowed(state.watermark)));
            return Ok(state.page(Vec::new(), true));
        }
        let next = after(&at, numbers.len() as u64, listed.total, listed.next.is_some())?;
        let mut orders = Vec::with_capacity(listed.orders.len());
        for order in &listed.orders {
            orders.push(self.order(order).await?);
        }
        let mut more = next.is_some();
        if next.is_some() {
            self.seen.note(&place, &numbers);
        } else {
            self.seen.clear();
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
            if at.offset == 0 || self.seen.has_page(&at.previous.to_string()) {
                return Some(at.clone());
            }
            self.seen.clear();
            return Some(begin(at.window.clone()));
        }
        Window::after(state.watermark, earlier(now, DELAY), OVERLAP, SPAN).map(begin)
    }

    /// By change alone: with a creation date beside it, eBay ignores the change date. Only with the breakdown of taxes
    /// is the total what the buyer pays.
    async fn list(&mut self, at: &Position) -> Result<OrderSearchPagedCollection, CollectError> {
        let time = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
        let filter = format!("lastmodifieddate:[{}..{}]", time(at.window.from), time(at.window.to));
        let (limit, offset) = (PAGE.to_string(), at.offset.to_string());
        let query = [
            ("filter", filter.as_str()),
            ("limit", limit.as_str()),
            ("offset", offset.as_str()),
            ("fieldGroups", "TAX_BREAKDOWN"),
        ];
        let url = self.session.url(&["sell", "fulfillment", "v1", "order"], &query);
        self.session.get_ok(&mut self.limit, "getOrders", url).await?.parse("getOrders")
    }

    async fn order(&mut self, listed: &wire::Order) -> Result<Order, CollectError> {
        let parcels = if convert::has_shipped(listed) { self.parcels(listed).await? } else { Vec::new() };
        convert::order(listed, &parcels).map_err(|inexact| inexact.of("getOrders"))
    }

    async fn parcels(&mut self, order: &wire::Order) -> Result<Vec<ShippingFulfillment>, CollectError> {
        const CALL: &str = "getShippingFulfillments";
        if let Some(known) = self.parcels.get(&order.order_id, order.last_modified_date) {
            return Ok(known);
        }
        let path = ["sell", "fulfillment", "v1", "order", &order.order_id, "shipping_fulfillment"];
        let url = self.session.url(&path, &[]);
        let answer = self.session.get_ok(&mut self.limit, CALL, url).await?;
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

fn begin(window: Window) -> Position {
    Position { window, offset: 0, previous: 0, overlap: 0 }
}

/// The place after a page with so many orders; `None` if the window is complete.
fn after(
    at: &Position,
    orders: u64,
    total: Option<u64>,
    has_next: bool,
) -> Result<Option<Position>, CollectError> {
    let end = at.offset.saturating_add(orders);
    let complete = !has_next && total.map_or(orders < PAGE, |total| end >= total);
    if complete {
        return Ok(None);
    }
    if orders == 0 {
        let detail = format!("offset {} shows nothing, although more was promised", at.offset);
        return Err(CollectError::Gap { call: "getOrders", detail });
    }
    let overlap = PAGE_OVERLAP.min(orders / 2);
    Ok(Some(Position { window: at.window.clone(), offset: end - overlap, previous: at.offset, overlap }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64) -> Position {
        let from: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        Position { offset, ..begin(Window { from, to: from + SPAN, newest: true }) }
    }

    fn next(at: &Position, orders: u64, total: Option<u64>, has_next: bool) -> Option<(u64, u64, u64)> {
        let next = after(at, orders, total, has_next).expect("no gap");
        next.map(|next| (next.offset, next.previous, next.overlap))
    }

    #[test]
    fn a_page_begins_with_the_last_orders_of_the_one_before() {
        assert_eq!(next(&place(0), 200, Some(450), true), Some((190, 0, 10)));
        assert_eq!(next(&place(190), 200, Some(450), true), Some((380, 190, 10)));
        assert_eq!(next(&place(380), 70, Some(450), false), None);
        assert_eq!(next(&place(0), 3, Some(5), true), Some((2, 0, 1)), "a short page still leads on");
        assert_eq!(next(&place(0), 1, Some(5), true), Some((1, 0, 0)));
    }

    #[test]
    fn a_missing_total_doesn_t_end_the_paging() {
        assert!(next(&place(0), 200, None, false).is_some());
        assert!(next(&place(0), 10, None, true).is_some());
        assert_eq!(next(&place(0), 10, None, false), None);
    }

    #[test]
    fn an_empty_page_before_the_end_is_a_gap() {
        assert!(after(&place(190), 0, Some(450), false).is_err());
        assert!(after(&place(190), 0, None, true).is_err());
        assert_eq!(next(&place(0), 0, Some(0), false), None);
    }
}
