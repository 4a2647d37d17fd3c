//! Bol.com: Retailer API v10.

pub(crate) mod convert;
mod limits;
mod place;
pub(crate) mod wire;

use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, RequestBuilder, header::ACCEPT};
use url::Url;

use crate::{
    CollectError, CollectFuture, Collector, Credentials, Cursor, Endpoints, Order, Page,
    cache::Cache,
    cursor::State,
    limits::Limit,
    seen::Seen,
    session::Session,
    token::{Grant, Tokens},
    window::earlier,
};
use convert::{Listed, Parcel};
use limits::Limits;
use place::{Listing, OVERLAP, Position, minutes};
use wire::{ReducedOrders, Shipment, ShipmentsResponse};

const MEDIA_TYPE: &str = "application/vnd.retailer.v10+json";
const PAGE: usize = 50;
/// An order that was listed must be there by then; one that is older may be gone for good.
const SETTLED: SignedDuration = SignedDuration::from_hours(1);

/// The official endpoints.
pub fn official_endpoints() -> Endpoints {
    let url = |text: &str| Url::parse(text).expect("a constant URL");
    Endpoints { api: url("https://api.bol.com"), token: url("https://login.bol.com/token") }
}

/// One page of a listing.
struct Shown {
    orders: Vec<Known>,
    /// Nothing that the window needs follows.
    last: bool,
}

/// What a listing tells of an order: the shipments' listing only its number.
struct Known {
    number: String,
    listed: Option<Listed>,
}

impl Known {
    /// What tells this state of the order from another.
    fn key(&self) -> String {
        match &self.listed {
            Some(listed) => format!("{} {}", self.number, listed.changed),
            None => self.number.clone(),
        }
    }
}

/// The client. A listing moves while its pages are read: new orders push the others down, and one that leaves lets them
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
        let mut at = self.position(&state, now);
        let shown = self.list(&at, state.watermark, now).await?;
        let place = at.name(at.page);
        let keys: Vec<_> = shown.orders.iter().map(Known::key).collect();
        if self.seen.repeats(&place, &keys) {
            self.seen.clear();
            let detail = format!("page {} shows what another page has shown", at.page);
            return Err(CollectError::Gap { call: at.listing.call(), detail });
        }
        let mut orders = Vec::new();
        for (known, key) in shown.orders.iter().zip(&keys) {
            if self.seen.elsewhere(&place, key) {
                continue;
            }
            at.fresh |= known.listed.as_ref().is_none_or(|listed| listed.changed <= at.began);
            orders.extend(self.order(known, now).await?);
        }
        self.seen.note(&place, &keys);
        shown.orders.iter().for_each(|known| self.seen.note_as(&place, &known.number));
        at.full |= keys.len() >= PAGE;
        let next = at.after(shown.last, state.watermark);
        match &next {
            Some(next) if next.listing == at.listing && next.pass == at.pass => {}
            Some(_) => self.seen.next_pass(),
            None => {
                self.seen.clear();
                state.watermark = at.began;
                state.known_until = Some(at.began);
            }
        }
        let more = next.is_some();
        state.position = next;
        Ok(state.page(orders, more))
    }

    /// Where to read. A place whose earlier pages this process hasn't read starts again at the first page.
    fn position(&mut self, state: &State<Position>, now: Timestamp) -> Position {
        let stored = state.position.clone().filter(|at| at.is_in_reach(state.watermark, now));
        let at = stored.unwrap_or_else(|| Position::begin(state.watermark, now));
        if at.page > 1 && !self.seen.has_page(&at.name(at.page - 1)) {
            self.seen.clear();
            return at.again();
        }
        at
    }

    async fn list(
        &mut self,
        at: &Position,
        watermark: Timestamp,
        now: Timestamp,
    ) -> Result<Shown, CollectError> {
        let page = at.page.to_string();
        let window = match &at.listing {
            Listing::Shipments(method) => return self.list_shipments(method, &page, watermark).await,
            Listing::Day(day) => ("latest-change-date", day.to_string()),
            Listing::Recent => ("change-interval-minute", minutes(watermark, now).to_string()),
        };
        let query = [
            ("fulfilment-method", "ALL"),
            ("status", "ALL"),
            ("page", page.as_str()),
            (window.0, window.1.as_str()),
        ];
        let url = self.session.url(&["retailer", "orders"], &query);
        let answer = self.session.get_ok(&mut self.limits.orders, "getOrders", url).await?;
        let orders = answer.parse::<ReducedOrders>("getOrders")?.orders.into_iter();
        let orders = orders.map(|order| Known { listed: Some(Listed::new(&order)), number: order.order_id });
        let orders: Vec<_> = orders.collect();
        Ok(Shown { last: orders.is_empty(), orders })
    }

    /// The orders of the shipments since the watermark: newest first.
    async fn list_shipments(
        &mut self,
        method: &str,
        page: &str,
        watermark: Timestamp,
    ) -> Result<Shown, CollectError> {
        let query = [("fulfilment-method", method), ("page", page)];
        let url = self.session.url(&["retailer", "shipments"], &query);
        let answer = self.session.get_ok(&mut self.limits.shipments, "getShipments", url).await?;
        let shipments = answer.parse::<ShipmentsResponse>("getShipments")?.shipments;
        let since = earlier(watermark, OVERLAP);
        let last = shipments.iter().all(|one| one.shipment_date_time.is_some_and(|at| at < since));
        let numbers = shipments.into_iter().filter_map(|one| one.order);
        let orders: Vec<_> = numbers.map(|order| Known { number: order.order_id, listed: None }).collect();
        Ok(Shown { orders, last })
    }

    async fn order(&mut self, known: &Known, now: Timestamp) -> Result<Option<Order>, CollectError> {
        let url = self.session.url(&["retailer", "orders", &known.number], &[]);
        let answer = self.session.get(&mut self.limits.order, "getOrder", url).await?;
        let settled = known.listed.as_ref().is_none_or(|listed| now.duration_since(listed.changed) > SETTLED);
        if answer.status.as_u16() == 404 && settled {
            return Ok(None);
        }
        if let Some(failure) = answer.failure("getOrder") {
            return Err(failure);
        }
        let wire: wire::Order = answer.parse("getOrder")?;
        let listed = known.listed.clone().unwrap_or_else(|| Listed::from_details(&wire));
        let parcels = if convert::has_shipped(&wire) {
            self.parcels(&wire.order_id, listed.changed).await?
        } else {
            Vec::new()
        };
        convert::order(&listed, &wire, &parcels).map(Some).map_err(|inexact| inexact.of("getOrder"))
    }

    async fn parcels(&mut self, number: &str, changed: Timestamp) -> Result<Vec<Parcel>, CollectError> {
        if let Some(known) = self.parcels.get(number, changed) {
            return Ok(known);
        }
        let (mut parcels, mut page) = (Vec::new(), 1);
        loop {
            let text = page.to_string();
            let url = self.session.url(&["retailer", "shipments"], &[("order-id", number), ("page", &text)]);
            let shipments: ShipmentsResponse =
                read(&mut self.session, &mut self.limits.shipments, "getShipments", url).await?;
            let count = shipments.shipments.len();
            for shipment in shipments.shipments {
                let url = self.session.url(&["retailer", "shipments", &shipment.shipment_id], &[]);
                let detail: Shipment =
                    read(&mut self.session, &mut self.limits.shipment, "getShipment", url).await?;
                let transport = detail.transport.unwrap_or_default();
                parcels.push(Parcel {
                    id: shipment.shipment_id,
                    at: shipment.shipment_date_time,
                    carrier: transport.transporter_code,
                    tracking_number: transport.track_and_trace,
                });
            }
            if count < PAGE {
                break;
            }
            page += 1;
        }
        self.parcels.keep(number, changed, parcels.clone());
        Ok(parcels)
    }
}

/// Gets and parses.
async fn read<T: serde::de::DeserializeOwned>(
    session: &mut Session,
    limit: &mut Limit,
    call: &'static str,
    url: Url,
) -> Result<T, CollectError> {
    session.get_ok(limit, call, url).await?.parse(call)
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
