//! From Bol.com's answers to the one typed order.

use jiff::Timestamp;
use marketrelay_keyring::Pii;

use super::wire::{BillingDetails, Order as Wire, OrderItem, ReducedOrder, ShipmentDetails};
use crate::{
    Address, Buyer, Fulfilment, LinePii, Marketplace, Order, OrderLine, OrderPii, OrderStatus, ShipmentPii,
    money,
    wire::{InField, Inexact, exact, lines, quantity},
};

/// Prices carry no currency: Bol.com sells in euro alone.
const CURRENCY: &str = "EUR";

/// A parcel, as far as it is known.
#[derive(Clone)]
pub(crate) struct Parcel {
    pub(crate) id: String,
    pub(crate) at: Option<Timestamp>,
    pub(crate) carrier: String,
    pub(crate) tracking_number: String,
}

/// What the listing tells of an order and its details don't.
#[derive(Clone)]
pub(crate) struct Listed {
    pub(crate) placed: Timestamp,
    /// When the order last changed.
    pub(crate) changed: Timestamp,
    /// The lines' states, in their order, each once.
    words: Vec<String>,
}

impl Listed {
    pub(crate) fn new(order: &ReducedOrder) -> Self {
        let placed = order.order_placed_date_time;
        let changes = order.order_items.iter().map(|item| item.latest_changed_date_time);
        let words = order.order_items.iter().map(|item| item.fulfilment_status.as_str());
        Self { placed, changed: changes.fold(placed, Timestamp::max), words: distinct(words) }
    }

    /// Of an order that is no longer listed: handled is what has been shipped or cancelled.
    pub(crate) fn from_details(order: &Wire) -> Self {
        let changes = order.order_items.iter().map(|item| item.latest_changed_date_time);
        let first = changes.clone().min().unwrap_or_default();
        let placed = order.order_placed_date_time.unwrap_or(first);
        let open =
            |item: &OrderItem| item.quantity_shipped.saturating_add(item.quantity_cancelled) < item.quantity;
        let words = order.order_items.iter().map(|item| if open(item) { "OPEN" } else { "HANDLED" });
        Self { placed, changed: changes.fold(placed, Timestamp::max), words: distinct(words) }
    }
}

fn distinct<'a>(all: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in all {
        if !words.iter().any(|known| known == word) {
            words.push(word.to_owned());
        }
    }
    words
}

/// Whether some of it has shipped.
pub(crate) fn has_shipped(order: &Wire) -> bool {
    order.order_items.iter().any(|item| item.quantity_shipped > 0)
}

pub(crate) fn order(listed: &Listed, wire: &Wire, parcels: &[Parcel]) -> Result<Order, Inexact> {
    let lines: Vec<_> = wire.order_items.iter().map(line).collect::<Result<_, _>>()?;
    let totals = lines.iter().filter_map(|line| line.total.clone()).map(Ok);
    let shipped = parcels.iter().filter_map(|parcel| parcel.at).min();
    let ship_to = &wire.shipment_details;
    Ok(Order {
        marketplace: Marketplace::Bol,
        placed_at: listed.placed,
        updated_at: listed.changed,
        // Shipped, but no parcel tells when: the order's last change at the latest.
        first_shipped_at: shipped.or_else(|| has_shipped(wire).then_some(listed.changed)),
        status: status(listed, wire),
        marketplace_status: listed.words.join(","),
        fulfilment: fulfilment(wire),
        sales_channel: None,
        country: Some(ship_to.country_code.clone()).filter(|code| !code.is_empty()),
        total: money::sum(totals).in_field("totalPrice")?,
        tax: None,
        pii: Pii::new(pii(wire, parcels)),
        lines,
    })
}

/// The part of an address that both kinds have.
macro_rules! address {
    ($details:expr) => {{
        let details = $details;
        Address {
            city: details.city.clone(),
            company: details.company.clone(),
            country: details.country_code.clone(),
            email: details.email.clone(),
            lines: lines([
                joined([&details.street_name, &details.house_number, &details.house_number_extension]),
                details.extra_address_information.clone(),
            ]),
            name: joined([&details.first_name, &details.surname]),
            phone: String::new(),
            postal_code: details.zip_code.clone(),
            region: String::new(),
        }
    }};
}

fn joined<const N: usize>(parts: [&String; N]) -> String {
    lines(parts.map(|part| part.trim().to_owned())).join(" ")
}

fn ship_to(details: &ShipmentDetails) -> Address {
    let mut address = address!(details);
    address.lines.splice(0..0, lines([details.pickup_point_name.clone()]));
    address.phone.clone_from(&details.delivery_phone_number);
    address
}

fn buyer(details: Option<&BillingDetails>, address: &Address) -> Buyer {
    let tax_ids = details.map(|details| lines([details.vat_number.clone(), details.kvk_number.clone()]));
    Buyer {
        company: address.company.clone(),
        email: address.email.clone(),
        name: address.name.clone(),
        purchase_order: details.map(|details| details.order_reference.clone()).unwrap_or_default(),
        tax_id: tax_ids.into_iter().flatten().next().unwrap_or_default(),
        username: String::new(),
    }
}

fn pii(wire: &Wire, parcels: &[Parcel]) -> OrderPii {
    let ship_to = ship_to(&wire.shipment_details);
    let billing = wire.billing_details.as_ref();
    let bill_to = billing.map(|details| address!(details));
    OrderPii {
        number: wire.order_id.clone(),
        buyer: buyer(billing, bill_to.as_ref().unwrap_or(&ship_to)),
        ship_to: Some(ship_to),
        bill_to,
        lines: wire
            .order_items
            .iter()
            .map(|item| LinePii { id: item.order_item_id.clone(), ..LinePii::default() })
            .collect(),
        shipments: parcels
            .iter()
            .map(|parcel| ShipmentPii {
                carrier: parcel.carrier.clone(),
                id: parcel.id.clone(),
                tracking_number: parcel.tracking_number.clone(),
            })
            .collect(),
        notes: String::new(),
    }
}

fn line(item: &OrderItem) -> Result<OrderLine, Inexact> {
    Ok(OrderLine {
        sku: item.offer.as_ref().map(|offer| offer.reference.clone()).unwrap_or_default(),
        title: item.product.as_ref().map(|product| product.title.clone()),
        product_id: item.product.as_ref().map(|product| product.ean.clone()),
        quantity: quantity(Some(item.quantity)),
        quantity_shipped: quantity(Some(item.quantity_shipped)),
        quantity_cancelled: quantity(Some(item.quantity_cancelled)),
        unit_price: exact(item.unit_price.money(CURRENCY)).transpose().in_field("unitPrice")?,
        total: item.total_price.money(CURRENCY).in_field("totalPrice").map(Some)?,
        tax: None,
    })
}

fn status(listed: &Listed, wire: &Wire) -> OrderStatus {
    if listed.words.iter().any(|word| !matches!(word.as_str(), "OPEN" | "HANDLED")) {
        return OrderStatus::Unknown;
    }
    let sum = |of: fn(&OrderItem) -> i64| wire.order_items.iter().map(of).fold(0, i64::saturating_add);
    let (ordered, shipped, cancelled) =
        (sum(|item| item.quantity), sum(|item| item.quantity_shipped), sum(|item| item.quantity_cancelled));
    if ordered > 0 && cancelled >= ordered {
        OrderStatus::Cancelled
    } else if shipped == 0 {
        OrderStatus::Unshipped
    } else if shipped.saturating_add(cancelled) < ordered {
        OrderStatus::PartiallyShipped
    } else {
        OrderStatus::Shipped
    }
}

fn fulfilment(wire: &Wire) -> Fulfilment {
    let mut methods =
        wire.order_items.iter().map(|item| item.fulfilment.as_ref().map(|by| by.method.as_str()));
    let first = methods.next().flatten();
    if methods.any(|method| method != first) {
        return Fulfilment::Unknown;
    }
    match first {
        Some("FBR") => Fulfilment::Merchant,
        Some("FBB") => Fulfilment::Marketplace,
        _ => Fulfilment::Unknown,
    }
}
