//! From eBay's answers to the one typed order.

use marketrelay_keyring::Pii;

use super::wire::{Amount, ExtendedContact, LineItem, Order as Wire, ShippingFulfillment};
use crate::{
    Address, Buyer, Fulfilment, LinePii, Marketplace, Order, OrderLine, OrderPii, OrderStatus, ShipmentPii,
    money,
    wire::{InField, Inexact, lines, quantity},
};

/// Whether some of it has shipped.
pub(crate) fn has_shipped(order: &Wire) -> bool {
    !matches!(order.order_fulfillment_status.as_str(), "NOT_STARTED" | "")
}

fn cancelled(order: &Wire) -> bool {
    order.cancel_status.as_ref().is_some_and(|status| status.cancel_state == "CANCELED")
}

pub(crate) fn order(wire: &Wire, parcels: &[ShippingFulfillment]) -> Result<Order, Inexact> {
    let lines: Vec<_> =
        wire.line_items.iter().map(|item| line(wire, item, parcels)).collect::<Result<_, _>>()?;
    let amount =
        |amount: Option<&Amount>, field| amount.map(|amount| amount.money().in_field(field)).transpose();
    let pricing = wire.pricing_summary.as_ref();
    let ship_to = ship_to(wire);
    let shipped = parcels.iter().filter_map(|parcel| parcel.shipped_date).min();
    Ok(Order {
        marketplace: Marketplace::Ebay,
        placed_at: wire.creation_date,
        updated_at: wire.last_modified_date,
        // Shipped, but no parcel tells when: the order's last change at the latest.
        first_shipped_at: shipped.or_else(|| has_shipped(wire).then_some(wire.last_modified_date)),
        status: status(wire),
        marketplace_status: wire.order_fulfillment_status.clone(),
        fulfilment: fulfilment(wire),
        sales_channel: wire.line_items.iter().find_map(|item| item.purchase_marketplace_id.clone()),
        country: ship_to.map(|to| to.contact_address.country_code.clone()).filter(|code| !code.is_empty()),
        total: amount(pricing.and_then(|sum| sum.total.as_ref()), "pricingSummary.total")?,
        tax: amount(pricing.and_then(|sum| sum.tax.as_ref()), "pricingSummary.tax")?,
        pii: Pii::new(pii(wire, ship_to, parcels)),
        lines,
    })
}

fn ship_to(wire: &Wire) -> Option<&ExtendedContact> {
    wire.fulfillment_start_instructions.iter().find_map(|step| step.shipping_step.as_ref()?.ship_to.as_ref())
}

fn pii(wire: &Wire, ship_to: Option<&ExtendedContact>, parcels: &[ShippingFulfillment]) -> OrderPii {
    let buyer = wire.buyer.as_ref();
    let registered = buyer.and_then(|buyer| buyer.buyer_registration_address.as_ref());
    let person = registered.or(ship_to);
    OrderPii {
        number: wire.order_id.clone(),
        buyer: Buyer {
            company: person.map(|person| person.company_name.clone()).unwrap_or_default(),
            email: person.map(|person| person.email.clone()).unwrap_or_default(),
            name: person.map(|person| person.full_name.clone()).unwrap_or_default(),
            purchase_order: String::new(),
            tax_id: buyer
                .and_then(|buyer| buyer.tax_identifier.as_ref())
                .map(|id| id.taxpayer_id.clone())
                .unwrap_or_default(),
            username: buyer.map(|buyer| buyer.username.clone()).unwrap_or_default(),
        },
        ship_to: ship_to.map(address),
        bill_to: registered.map(address),
        lines: wire.line_items.iter().map(line_pii).collect(),
        shipments: parcels
            .iter()
            .map(|parcel| ShipmentPii {
                carrier: parcel.shipping_carrier_code.clone(),
                id: parcel.fulfillment_id.clone(),
                tracking_number: parcel.shipment_tracking_number.clone(),
            })
            .collect(),
        notes: wire.buyer_checkout_notes.clone(),
    }
}

fn line_pii(item: &LineItem) -> LinePii {
    LinePii {
        id: item.line_item_id.clone(),
        gift_message: item.gift_details.as_ref().map(|gift| gift.message.clone()).unwrap_or_default(),
        customization_url: String::new(),
    }
}

fn address(contact: &ExtendedContact) -> Address {
    let at = &contact.contact_address;
    Address {
        city: at.city.clone(),
        company: contact.company_name.clone(),
        country: at.country_code.clone(),
        email: contact.email.clone(),
        lines: lines([at.address_line1.clone(), at.address_line2.clone(), at.county.clone()]),
        name: contact.full_name.clone(),
        phone: contact.primary_phone.as_ref().map(|phone| phone.phone_number.clone()).unwrap_or_default(),
        postal_code: at.postal_code.clone(),
        region: at.state_or_province.clone(),
    }
}

fn line(wire: &Wire, item: &LineItem, parcels: &[ShippingFulfillment]) -> Result<OrderLine, Inexact> {
    let ordered = quantity(item.quantity);
    let cost = item.line_item_cost.as_ref().map(|cost| cost.money().in_field("lineItemCost")).transpose()?;
    let taxes = item.taxes.iter().filter_map(|tax| tax.amount.as_ref()).map(Amount::money);
    // `lineItemCost` is the price of one times the quantity; a division with a remainder would invent a price.
    let unit_price = cost.clone().filter(|_| ordered > 0).and_then(|mut price| {
        let (each, rest) = (price.minor / i64::from(ordered), price.minor % i64::from(ordered));
        price.minor = each;
        (rest == 0).then_some(price)
    });
    Ok(OrderLine {
        sku: item.sku.clone(),
        title: item.title.clone(),
        product_id: item.legacy_item_id.clone(),
        quantity: ordered,
        quantity_shipped: shipped(item, ordered, parcels),
        quantity_cancelled: if cancelled(wire) { ordered } else { 0 },
        unit_price,
        total: cost,
        tax: money::sum(taxes).in_field("taxes")?,
    })
}

/// A parcel may name a line without a quantity: then all of it.
fn shipped(item: &LineItem, ordered: u32, parcels: &[ShippingFulfillment]) -> u32 {
    let parts = parcels.iter().flat_map(|parcel| &parcel.line_items);
    let of_this = parts.filter(|part| part.line_item_id == item.line_item_id);
    let sum: u32 = of_this.map(|part| part.quantity.map_or(ordered, |n| quantity(Some(n)))).sum();
    if sum == 0 && item.line_item_fulfillment_status == "FULFILLED" { ordered } else { sum.min(ordered) }
}

fn status(wire: &Wire) -> OrderStatus {
    if cancelled(wire) {
        return OrderStatus::Cancelled;
    }
    match (wire.order_fulfillment_status.as_str(), wire.order_payment_status.as_str()) {
        ("NOT_STARTED" | "IN_PROGRESS" | "FULFILLED", "FULLY_REFUNDED") => OrderStatus::Refunded,
        ("NOT_STARTED", "PENDING" | "FAILED") => OrderStatus::Pending,
        ("NOT_STARTED", _) => OrderStatus::Unshipped,
        ("IN_PROGRESS", _) => OrderStatus::PartiallyShipped,
        ("FULFILLED", _) => OrderStatus::Shipped,
        _ => OrderStatus::Unknown,
    }
}

fn fulfilment(wire: &Wire) -> Fulfilment {
    let program = wire.program.as_ref().and_then(|program| program.fulfillment_program.as_ref());
    if let Some(program) = program {
        return if program.fulfilled_by == "EBAY" { Fulfilment::Marketplace } else { Fulfilment::Unknown };
    }
    let by_ebay = wire.fulfillment_start_instructions.iter().any(|step| step.ebay_supported_fulfillment);
    if by_ebay { Fulfilment::Unknown } else { Fulfilment::Merchant }
}
