//! From Amazon's answers to the one typed order.

use marketrelay_keyring::Pii;

use super::wire::{Breakdown, CustomerAddress, Money as WireMoney, Order as Wire, OrderItem, Recipient};
use crate::{
    Address, Buyer, Fulfilment, LinePii, Marketplace, Money, Order, OrderLine, OrderPii, OrderStatus,
    ShipmentPii, money,
    wire::{InField, Inexact, exact, lines, quantity},
};

pub(crate) fn order(wire: &Wire) -> Result<Order, Inexact> {
    let status = status(wire);
    let shipped = wire.packages.iter().filter_map(|package| package.ship_time).min();
    let has_shipped = matches!(status, OrderStatus::Shipped | OrderStatus::PartiallyShipped);
    let proceeds = wire.proceeds.as_ref();
    let address = wire.recipient.as_ref().and_then(|to| to.delivery_address.as_ref());
    Ok(Order {
        marketplace: Marketplace::Amazon,
        placed_at: wire.created_time,
        updated_at: wire.last_updated_time,
        // Shipped, but no package tells when (Amazon's own are reported late): the last change at the latest.
        first_shipped_at: shipped.or_else(|| has_shipped.then_some(wire.last_updated_time)),
        status,
        marketplace_status: wire
            .fulfillment
            .as_ref()
            .map(|by| by.fulfillment_status.clone())
            .unwrap_or_default(),
        fulfilment: fulfilment(wire),
        sales_channel: Some(
            wire.sales_channel
                .marketplace_id
                .clone()
                .unwrap_or_else(|| wire.sales_channel.channel_name.clone()),
        ),
        country: address.map(|at| at.country_code.clone()).filter(|code| !code.is_empty()),
        total: amount(proceeds.and_then(|sum| sum.grand_total.as_ref()), "proceeds.grandTotal")?,
        tax: tax(proceeds.map_or(&[][..], |sum| &sum.breakdowns))?,
        pii: Pii::new(pii(wire, address)),
        lines: wire.order_items.iter().map(|item| line(item, status)).collect::<Result<_, _>>()?,
    })
}

fn pii(wire: &Wire, address: Option<&CustomerAddress>) -> OrderPii {
    let tax_id =
        wire.tax.iter().flat_map(|tax| &tax.tax_registrations).map(|one| one.tax_registration_number.clone());
    OrderPii {
        number: wire.order_id.clone(),
        buyer: Buyer {
            company: wire.buyer.buyer_company_name.clone(),
            email: wire.buyer.buyer_email.clone(),
            name: wire.buyer.buyer_name.clone(),
            purchase_order: wire.buyer.buyer_purchase_order_number.clone(),
            tax_id: tax_id.into_iter().find(|id| !id.is_empty()).unwrap_or_default(),
            username: String::new(),
        },
        ship_to: address.map(to_address),
        bill_to: None,
        lines: wire.order_items.iter().map(line_pii).collect(),
        shipments: wire
            .packages
            .iter()
            .map(|package| ShipmentPii {
                carrier: package.carrier.clone(),
                id: package.package_reference_id.clone(),
                tracking_number: package.tracking_number.clone(),
            })
            .collect(),
        notes: wire.recipient.as_ref().map(notes).unwrap_or_default(),
    }
}

fn notes(recipient: &Recipient) -> String {
    let preference = recipient.delivery_preference.as_ref();
    let parts = preference.map(|one| [one.drop_off_location.clone(), one.address_instruction.clone()]);
    parts.map(|parts| lines(parts).join("\n")).unwrap_or_default()
}

fn line_pii(item: &OrderItem) -> LinePii {
    let gift = item.fulfillment.as_ref().and_then(|by| by.packing.as_ref()?.gift_option.as_ref());
    LinePii {
        id: item.order_item_id.clone(),
        gift_message: gift.map(|gift| gift.gift_message.clone()).unwrap_or_default(),
        customization_url: item
            .product
            .customization
            .as_ref()
            .map(|one| one.customized_url.clone())
            .unwrap_or_default(),
    }
}

fn to_address(at: &CustomerAddress) -> Address {
    Address {
        city: if at.city.is_empty() { at.municipality.clone() } else { at.city.clone() },
        company: at.company_name.clone(),
        country: at.country_code.clone(),
        email: String::new(),
        lines: lines([
            at.address_line1.clone(),
            at.address_line2.clone(),
            at.address_line3.clone(),
            at.district_or_county.clone(),
        ]),
        name: at.name.clone(),
        phone: at.phone.clone(),
        postal_code: at.postal_code.clone(),
        region: at.state_or_region.clone(),
    }
}

fn amount(amount: Option<&WireMoney>, field: &'static str) -> Result<Option<Money>, Inexact> {
    amount.map(|amount| amount.money().in_field(field)).transpose()
}

fn tax(breakdowns: &[Breakdown]) -> Result<Option<Money>, Inexact> {
    let taxes = breakdowns.iter().filter(|part| part.kind == "TAX").map(|part| part.subtotal.money());
    money::sum(taxes).in_field("proceeds.breakdowns")
}

fn line(item: &OrderItem, status: OrderStatus) -> Result<OrderLine, Inexact> {
    let ordered = quantity(Some(item.quantity_ordered));
    let price = item.product.price.as_ref().and_then(|price| price.unit_price.as_ref());
    let proceeds = item.proceeds.as_ref();
    let shipped = quantity(item.fulfillment.as_ref().and_then(|by| by.quantity_fulfilled));
    let executed = item.cancellation.as_ref().is_some_and(|one| one.cancellation_execution.is_some());
    let cancelled = executed || status == OrderStatus::Cancelled;
    Ok(OrderLine {
        sku: item.product.seller_sku.clone(),
        title: item.product.title.clone(),
        product_id: item.product.asin.clone(),
        quantity: ordered,
        quantity_shipped: shipped,
        quantity_cancelled: if cancelled { ordered.saturating_sub(shipped) } else { 0 },
        unit_price: price
            .map(WireMoney::money)
            .and_then(exact)
            .transpose()
            .in_field("product.price.unitPrice")?,
        total: amount(proceeds.and_then(|sum| sum.proceeds_total.as_ref()), "proceeds.proceedsTotal")?,
        tax: tax(proceeds.map_or(&[][..], |sum| &sum.breakdowns))?,
    })
}

fn status(wire: &Wire) -> OrderStatus {
    match wire.fulfillment.as_ref().map(|by| by.fulfillment_status.as_str()) {
        Some("PENDING" | "PENDING_AVAILABILITY") => OrderStatus::Pending,
        Some("UNSHIPPED") => OrderStatus::Unshipped,
        Some("PARTIALLY_SHIPPED") => OrderStatus::PartiallyShipped,
        Some("SHIPPED") => OrderStatus::Shipped,
        Some("CANCELLED") => OrderStatus::Cancelled,
        _ => OrderStatus::Unknown,
    }
}

fn fulfilment(wire: &Wire) -> Fulfilment {
    match wire.fulfillment.as_ref().map(|by| by.fulfilled_by.as_str()) {
        Some("MERCHANT") => Fulfilment::Merchant,
        Some("AMAZON") => Fulfilment::Marketplace,
        _ => Fulfilment::Unknown,
    }
}
