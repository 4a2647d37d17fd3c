//! Bol.com: Retailer API v10.

mod convert;
mod limits;
mod wire;

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use reqwest::{Client, RequestBuilder, header::ACCEPT};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    CollectError, CollectFuture, Collector, Credentials, Cursor, Endpoints, Order, Page,
    cache::Cache,
    cursor::State,
    seen::Seen,
    session::Session,
    token::{Grant, Tokens},
};
use convert::Parcel;
use limits::Limits;
use wire::{ReducedOrder, ReducedOrders, Shipment, ShipmentsResponse};

const MEDIA_TYPE: &str = "application/vnd.retailer.v10+json";
const PAGE: usize = 50;
/// Windows overlap by this, since a change may be listed late.
const OVERLAP: SignedDuration = SignedDuration::from_mins(5);
/// `change-interval-minute` goes no further back.
const LONGEST_INTERVAL: i64 = 60;

/// The official endpoints.
pub fn official_endpoints() -> Endpoints {
    let url = |text: &str| Url::parse(text).expect("a constant URL");
    Endpoints { api: url("https://api.bol.com"), token: url("https://login.bol.com/token") }
}

/// The place inside a window: the listing of one day, or, without a day, of the last minutes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Position {
    /// When the window began: it is complete up to then.
    began: Timestamp,
    day: Option<Date>,
    page: u32,
    /// This pass over the listing has shown an order for the first time.
    fresh: bool,
}

/// The client. A listing moves while its pages are read: an order that changes leaves its place, and the ones behind it
/// move up. So a listing of several pages is read again until a pass shows nothing new.
pub struct Bol {
    session: Session,
    limits: Limits,
    seen: Seen,
    parcels: Cache<Vec<Parcel>>,
}

impl Bol {
    /// A client of the account that `credentials` belong to.
    pub fn new(http: Client, endpoints: Endpoints, credentials: Credentials) -> Self {
        let tokens = Tokens::new(endpoints.token, Grant::ClientCredentials, credentials);
        Self {
            session: Session::new(http, endpoints.api, tokens, dress),
            limits: Limits::published(),
            seen: Seen::default(),
            parcels: Cache::new(),
        }
    }

    async fn next(&mut self, cursor: &Cursor, now: Timestamp) -> Result<Page, CollectError> {
        self.limits.refresh(&self.session, now).await;
        let mut state = State::<Position>::read(cursor)?;
        let mut position = self.position(&state, now);
        let listed = self.list(&position, state.watermark, now).await?;
        let numbers: Vec<_> = listed.iter().map(|order| order.order_id.as_str()).collect();
        position.fresh |= numbers.iter().any(|number| !self.seen.has_order(number));
        if self.seen.repeats(&place(&position, position.page), &numbers) {
            self.seen.clear();
            let detail = format!("page {} shows what another page has shown", position.page);
            return Err(CollectError::Gap { call: "getOrders", detail });
        }
        let mut orders = Vec::with_capacity(listed.len());
        for order in &listed {
            orders.push(self.order(order, now).await?);
        }
        let next = after(&position, listed.len());
        if next.as_ref().is_none_or(|next| next.day != position.day) {
            self.seen.clear();
        }
        if next.is_none() {
            state.watermark = position.began;
            state.known_until = Some(position.began);
        }
        let more = next.is_some();
        state.position = next;
        Ok(state.page(orders, more))
    }

    /// Where to read. A place whose earlier pages this process hasn't read starts again at the first page.
    fn position(&mut self, state: &State<Position>, now: Timestamp) -> Position {
        let resumed = state
            .position
            .clone()
            .filter(|at| at.day.is_some() || minutes(state.watermark, now) <= LONGEST_INTERVAL);
        let mut position = resumed.unwrap_or_else(|| begin(state.watermark, now));
        if position.page > 1 && !self.seen.has_page(&place(&position, position.page - 1)) {
            self.seen.clear();
            position = Position { page: 1, fresh: false, ..position };
        }
        position
    }

    async fn list(
        &mut self,
        at: &Position,
        watermark: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<ReducedOrder>, CollectError> {
        let window = match at.day {
            Some(day) => ("latest-change-date", day.to_string()),
            None => ("change-interval-minute", minutes(watermark, now).to_string()),
        };
        let page = at.page.to_string();
        let query = [
            ("fulfilment-method", "ALL"),
            ("status", "ALL"),
            ("page", page.as_str()),
            (window.0, window.1.as_str()),
        ];
        let url = self.session.url(&["retailer", "orders"], &query);
        let answer = self.session.get_ok(&mut self.limits.orders, "getOrders", url, now).await?;
        Ok(answer.parse::<ReducedOrders>("getOrders")?.orders)
    }

    async fn order(&mut self, listed: &ReducedOrder, now: Timestamp) -> Result<Order, CollectError> {
        let url = self.session.url(&["retailer", "orders", &listed.order_id], &[]);
        let answer = self.session.get_ok(&mut self.limits.order, "getOrder", url, now).await?;
        let wire: wire::Order = answer.parse("getOrder")?;
        let parcels = if convert::has_shipped(&wire) { self.parcels(listed, now).await? } else { Vec::new() };
        convert::order(listed, &wire, &parcels).map_err(|inexact| inexact.of("getOrder"))
    }

    async fn parcels(&mut self, listed: &ReducedOrder, now: Timestamp) -> Result<Vec<Parcel>, CollectError> {
        let changed = convert::changed(listed);
        if let Some(known) = self.parcels.get(&listed.order_id, changed) {
            return Ok(known);
        }
        let url = self.session.url(&["retailer", "shipments"], &[("order-id", &listed.order_id)]);
        let answer = self.session.get_ok(&mut self.limits.shipments, "getShipments", url, now).await?;
        let mut parcels = Vec::new();
        for shipment in answer.parse::<ShipmentsResponse>("getShipments")?.shipments {
            let url = self.session.url(&["retailer", "shipments", &shipment.shipment_id], &[]);
            let answer = self.session.get_ok(&mut self.limits.shipment, "getShipment", url, now).await?;
            let transport = answer.parse::<Shipment>("getShipment")?.transport.unwrap_or_default();
            parcels.push(Parcel {
                id: shipment.shipment_id,
                at: shipment.shipment_date_time,
                carrier: transport.transporter_code,
                tracking_number: transport.track_and_trace,
            });
        }
        self.parcels.keep(&listed.order_id, changed, parcels.clone());
        Ok(parcels)
    }
}

impl Collector for Bol {
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
    request.bearer_auth(token).header(ACCEPT, MEDIA_TYPE)
}

fn place(position: &Position, page: u32) -> String {
    format!("{:?} {page}", position.day)
}

/// How many minutes back the listing must reach.
fn minutes(watermark: Timestamp, now: Timestamp) -> i64 {
    (now.duration_since(watermark) + OVERLAP).as_secs().div_euclid(60) + 1
}

fn begin(watermark: Timestamp, now: Timestamp) -> Position {
    let day = (minutes(watermark, now) > LONGEST_INTERVAL).then(|| day_of(watermark - OVERLAP));
    Position { began: now, day, page: 1, fresh: false }
}

/// Bol.com's days are those of Amsterdam.
fn day_of(at: Timestamp) -> Date {
    let zone = TimeZone::get("Europe/Amsterdam").unwrap_or(TimeZone::UTC);
    at.to_zoned(zone).date()
}

/// The place after a page with so many orders; `None` if the window is complete.
fn after(at: &Position, orders: usize) -> Option<Position> {
    if orders >= PAGE {
        return Some(Position { page: at.page + 1, ..at.clone() });
    }
    if at.page > 1 && at.fresh {
        return Some(Position { page: 1, fresh: false, ..at.clone() });
    }
    let tomorrow = at.day?.tomorrow().ok()?;
    (tomorrow <= day_of(at.began)).then(|| Position {
        day: Some(tomorrow),
        page: 1,
        fresh: false,
        ..at.clone()
    })
}
