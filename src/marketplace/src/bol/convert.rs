//! From Bol.com's answers to the one typed order.

use jiff::Timestamp;
use marketrelay_keyring::Pii;

use super::wire::{Details, Order as Wire, OrderItem, ReducedOrder};
use crate::{
    Address, Buyer, Fulfilment, LinePii, Marketplace, Money, Order, OrderLine, OrderPii, OrderStatus,
    ShipmentPii, money,
    wire::{InField, Inexact, lines, quantity},
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

/// When the order last changed.
pub(crate) fn changed(order: &ReducedOrder) -> Timestamp {
    let items = order.order_items.iter().map(|item| item.latest_changed_date_time);
    items.max().unwrap_or(order.order_placed_date_time).max(order.order_placed_date_time)
}

/// Whether some of it has shipped.
pub(crate) fn has_shipped(order: &Wire) -> bool {
    order.order_items.iter().any(|item| item.quantity_shipped > 0)
}

pub(crate) fn order(listed: &ReducedOrder, wire: &Wire, parcels: &[Parcel]) -> Result<Order, Inexact> {
    let lines: Vec<_> = wire.order_items.iter().map(line).collect::<Result<_, _>>()?;
    let totals = lines.iter().filter_map(|line| line.total.clone()).map(Ok);
    let shipped = parcels.iter().filter_map(|parcel| parcel.at).min();
    let ship_to = &wire.shipment_details;
    Ok(Order {
        marketplace: Marketplace::Bol,
        placed_at: listed.order_placed_date_time,
        updated_at: changed(listed),
        // Shipped, but no parcel tells when: the order's last change at the latest.
        first_shipped_at: shipped.or_else(|| has_shipped(wire).then(|| changed(listed))),
        status: status(listed, wire),
        marketplace_status: words(listed),
        fulfilment: fulfilment(wire),
        sales_channel: None,
        country: Some(ship_to.country_code.clone()).filter(|code| !code.is_empty()),
        total: money::sum(totals).in_field("totalPrice")?,
        tax: None,
        pii: Pii::new(pii(wire, parcels)),
        lines,
    })
}

fn pii(wire: &Wire, parcels: &[Parcel]) -> OrderPii {
    let ship_to = &wire.shipment_details;
    let bill_to = wire.billing_details.as_ref();
    let buyer = bill_to.unwrap_or(ship_to);
    OrderPii {
        number: wire.order_id.clone(),
        buyer: Buyer {
            company: buyer.company.clone(),
            email: buyer.email.clone(),
            name: name(buyer),
            purchase_order: buyer.order_reference.clone(),
            tax_id: [&buyer.vat_number, &buyer.kvk_number]
                .into_iter()
                .find(|id| !id.is_empty())
                .cloned()
                .unwrap_or_default(),
            username: String::new(),
        },
        ship_to: Some(address(ship_to)),
        bill_to: bill_to.map(address),
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
    let euro = |amount: &money::Decimal, field| -> Result<Option<Money>, Inexact> {
        amount.money(CURRENCY).in_field(field).map(Some)
    };
    Ok(OrderLine {
        sku: item.offer.as_ref().map(|offer| offer.reference.clone()).unwrap_or_default(),
        title: item.product.as_ref().map(|product| product.title.clone()),
        product_id: item.product.as_ref().map(|product| product.ean.clone()),
        quantity: quantity(Some(item.quantity)),
        quantity_shipped: quantity(Some(item.quantity_shipped)),
        quantity_cancelled: quantity(Some(item.quantity_cancelled)),
        unit_price: euro(&item.unit_price, "unitPrice")?,
        total: euro(&item.total_price, "totalPrice")?,
        tax: None,
    })
}

fn name(details: &Details) -> String {
    format!("{} {}", details.first_name, details.surname).trim().to_owned()
}

fn address(details: &Details) -> Address {
    let street = format!("{} {}", details.street_name, details.house_number).trim().to_owned();
    let street = format!("{street} {}", details.house_number_extension).trim().to_owned();
    Address {
        city: details.city.clone(),
        company: details.company.clone(),
        country: details.country_code.clone(),
        email: details.email.clone(),
        lines: lines([details.pickup_point_name.clone(), street, details.extra_address_information.clone()]),
        name: name(details),
        phone: details.delivery_phone_number.clone(),
        postal_code: details.zip_code.clone(),
        region: String::new(),
    }
}

/// The different words of the lines, in their order.
fn words(listed: &ReducedOrder) -> String {
    let mut words: Vec<&str> = Vec::new();
    for item in &listed.order_items {
        if !words.contains(&item.fulfilment_status.as_str()) {
            words.push(&item.fulfilment_status);
        }
    }
    words.join(",")
}

fn status(listed: &ReducedOrder, wire: &Wire) -> OrderStatus {
    if listed.order_items.iter().any(|item| !matches!(item.fulfilment_status.as_str(), "OPEN" | "HANDLED")) {
        return OrderStatus::Unknown;
    }
    let sum = |of: fn(&OrderItem) -> i64| wire.order_items.iter().map(of).sum::<i64>();
    let (ordered, shipped, cancelled) =
        (sum(|item| item.quantity), sum(|item| item.quantity_shipped), sum(|item| item.quantity_cancelled));
    if ordered > 0 && cancelled >= ordered {
        OrderStatus::Cancelled
    } else if shipped == 0 {
        OrderStatus::Unshipped
    } else if shipped + cancelled < ordered {
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
