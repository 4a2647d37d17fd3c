//! The body of a message: canonical JSON, every object's names in alphabetical order, no white space.

use jiff::Timestamp;
use marketrelay_marketplace::{
    Address, Buyer, Fulfilment, LinePii, Marketplace, Money, Order, OrderLine, OrderStatus, ShipmentPii,
};
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::Serialize;
use serde_json::value::RawValue;
use snafu::ResultExt;
use zeroize::Zeroizing;

use crate::store::{RenderSnafu, Result, outbox::Content};

/// What is posted to the customer's endpoint.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "Orders")]
pub struct OrdersMessage<'a, E> {
    /// The events.
    pub data: OrdersData<'a, E>,
    /// When the message was put together, RFC 3339.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub timestamp: Timestamp,
    /// What the message is.
    #[serde(rename = "type")]
    pub kind: MessageType,
}

/// What a message is.
#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MessageType {
    /// New, changed and erased orders.
    Orders,
}

/// The events of one connection.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrdersData<'a, E> {
    /// The connection's identity, `status.connectionId`.
    pub connection_id: &'a str,
    /// One at least.
    pub events: Vec<E>,
    /// Where the orders were placed.
    pub marketplace: Marketplace,
}

/// What happened to one order.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Event<'a> {
    /// It is new or changed.
    Upserted(Box<OrderEvent<'a>>),
    /// Somebody in it asked to be forgotten.
    Erased(ErasedEvent<'a>),
}

/// One order in its newest revision.
#[derive(Serialize, JsonSchema)]
pub struct OrderEvent<'a> {
    /// The idempotency key: the same whenever this revision of this order is sent.
    pub id: String,
    /// The order as it is now; it replaces every earlier revision.
    pub order: DeliveredOrder<'a>,
    /// Grows with every change of the order, and may jump: it needs 64 bits. Revisions of one order arrive in order; some
    /// may be left out.
    pub revision: u64,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
}

/// What happened.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub enum EventType {
    /// The order is new or changed.
    #[serde(rename = "order.upserted")]
    OrderUpserted,
}

/// An order whose personal data is to be erased, because somebody in it asked for that: erase it too, and whatever was
/// made of it.
#[derive(Serialize, JsonSchema)]
pub struct ErasedEvent<'a> {
    /// The idempotency key: the same whenever this event is sent.
    pub id: String,
    /// Which one.
    pub order: ErasedOrder<'a>,
    /// Higher than every earlier revision of the order; nothing follows it.
    pub revision: u64,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: ErasedEventType,
}

/// What happened.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub enum ErasedEventType {
    /// The order was erased.
    #[serde(rename = "order.erased")]
    OrderErased,
}

/// Which order was erased.
#[derive(Serialize, JsonSchema)]
pub struct ErasedOrder<'a> {
    /// The marketplace's order number.
    pub number: &'a str,
}

/// An order. Texts that the marketplace doesn't tell are empty, other values are absent.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveredOrder<'a> {
    /// Who pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bill_to: Option<&'a Address>,
    /// Who bought.
    pub buyer: &'a Buyer,
    /// Destination country, ISO 3166-1 alpha-2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<&'a str>,
    /// Of the first shipment, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub first_shipped_at: Option<Timestamp>,
    /// Who ships.
    pub fulfilment: Fulfilment,
    /// In the marketplace's order.
    pub lines: Vec<DeliveredLine<'a>>,
    /// The marketplace's own word for the status.
    pub marketplace_status: &'a str,
    /// Notes of the buyer, instructions for the delivery.
    pub notes: &'a str,
    /// The marketplace's order number.
    pub number: &'a str,
    /// The marketplace's time of the purchase, RFC 3339.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub placed_at: Timestamp,
    /// The marketplace's site, if it tells one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sales_channel: Option<&'a str>,
    /// Where it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ship_to: Option<&'a Address>,
    /// The parcels that are known.
    pub shipments: &'a [ShipmentPii],
    /// In common words.
    pub status: OrderStatus,
    /// VAT or sales tax in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tax: Option<&'a Money>,
    /// What the buyer pays in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<&'a Money>,
    /// The marketplace's time of the last change, RFC 3339.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub updated_at: Timestamp,
}

/// One line of an order.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveredLine<'a> {
    /// Where the buyer's customisation is to be had.
    pub customization_url: &'a str,
    /// Gift message.
    pub gift_message: &'a str,
    /// The marketplace's id of the line, as fulfilment calls want it.
    pub id: &'a str,
    /// The marketplace's product id (ASIN, eBay item id, EAN).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_id: Option<&'a str>,
    /// Ordered.
    pub quantity: u32,
    /// Cancelled so far.
    pub quantity_cancelled: u32,
    /// Shipped so far.
    pub quantity_shipped: u32,
    /// The seller's stock keeping unit; empty if the marketplace gives none.
    pub sku: &'a str,
    /// VAT or sales tax of the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tax: Option<&'a Money>,
    /// The product's title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<&'a str>,
    /// Price of the line without shipping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<&'a Money>,
    /// Price of one, as charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit_price: Option<&'a Money>,
}

impl<'a> Event<'a> {
    /// The event of what was opened.
    pub fn new(id: String, revision: u64, content: &'a Content) -> Self {
        match content {
            Content::Order(order) => Self::Upserted(Box::new(OrderEvent {
                id,
                order: DeliveredOrder::new(order),
                revision,
                kind: EventType::OrderUpserted,
            })),
            Content::Erased(number) => Self::Erased(ErasedEvent {
                id,
                order: ErasedOrder { number: number.expose() },
                revision,
                kind: ErasedEventType::OrderErased,
            }),
        }
    }

    /// As canonical JSON.
    pub fn render(&self) -> Result<Zeroizing<Vec<u8>>> {
        serde_json::to_vec(self).map(Zeroizing::new).context(RenderSnafu)
    }
}

impl<'a> DeliveredOrder<'a> {
    fn new(order: &'a Order) -> Self {
        let pii = order.pii.expose();
        let identified = pii.lines.iter().map(Some).chain(std::iter::repeat(None));
        Self {
            bill_to: pii.bill_to.as_ref(),
            buyer: &pii.buyer,
            country: order.country.as_deref(),
            first_shipped_at: order.first_shipped_at,
            fulfilment: order.fulfilment,
            lines: order.lines.iter().zip(identified).map(|(line, pii)| delivered_line(line, pii)).collect(),
            marketplace_status: &order.marketplace_status,
            notes: &pii.notes,
            number: &pii.number,
            placed_at: order.placed_at,
            sales_channel: order.sales_channel.as_deref(),
            ship_to: pii.ship_to.as_ref(),
            shipments: &pii.shipments,
            status: order.status,
            tax: order.tax.as_ref(),
            total: order.total.as_ref(),
            updated_at: order.updated_at,
        }
    }
}

fn delivered_line<'a>(line: &'a OrderLine, pii: Option<&'a LinePii>) -> DeliveredLine<'a> {
    DeliveredLine {
        customization_url: pii.map_or("", |pii| &pii.customization_url),
        gift_message: pii.map_or("", |pii| &pii.gift_message),
        id: pii.map_or("", |pii| &pii.id),
        product_id: line.product_id.as_deref(),
        quantity: line.quantity,
        quantity_cancelled: line.quantity_cancelled,
        quantity_shipped: line.quantity_shipped,
        sku: &line.sku,
        tax: line.tax.as_ref(),
        title: line.title.as_deref(),
        total: line.total.as_ref(),
        unit_price: line.unit_price.as_ref(),
    }
}

/// An order alone, as in its event.
pub fn render_order(order: &Order) -> Result<Zeroizing<Vec<u8>>> {
    serde_json::to_vec(&DeliveredOrder::new(order)).map(Zeroizing::new).context(RenderSnafu)
}

/// Puts rendered events together.
pub fn render(
    connection_id: &str,
    marketplace: Marketplace,
    timestamp: Timestamp,
    events: &[Zeroizing<Vec<u8>>],
) -> Result<Zeroizing<Vec<u8>>> {
    let events = events.iter().map(|event| serde_json::from_slice::<&RawValue>(event));
    let events = events.collect::<Result<_, _>>().context(RenderSnafu)?;
    let data = OrdersData { connection_id, events, marketplace };
    let message = OrdersMessage { data, timestamp, kind: MessageType::Orders };
    serde_json::to_vec(&message).map(Zeroizing::new).context(RenderSnafu)
}

/// The published schema of a message.
pub fn schema() -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<OrdersMessage<'_, Event<'_>>>()
}

/// The published schema as a file.
pub fn schema_text() -> String {
    let mut schema = schema().to_value();
    schema.sort_all_objects();
    format!("{schema:#}\n")
}
