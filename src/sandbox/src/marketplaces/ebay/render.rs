//! An order in eBay's words.

use serde_json::{Value, json};

use super::utc;
use crate::order::{Order, State as OrderState};

pub(super) fn render(order: &Order) -> Value {
    let money = |minor| json!({"value": order.amount(minor), "currency": order.currency});
    let person = &order.person;
    let name = format!("{} {}", person.first_name, person.surname);
    let status = order.odd_status.clone().unwrap_or_else(|| status(order).to_owned());
    let lines: Vec<_> = order
        .lines
        .iter()
        .map(|line| {
            json!({
                "lineItemId": line.id, "legacyItemId": line.product, "sku": line.sku, "title": line.title,
                "quantity": line.quantity, "lineItemCost": money(line.unit_price * i64::from(line.quantity)),
                "total": money(line.unit_price * i64::from(line.quantity)), "taxes": [], "lineItemFulfillmentStatus": status,
                "listingMarketplaceId": "EBAY_DE", "purchaseMarketplaceId": "EBAY_DE", "soldFormat": "FIXED_PRICE",
            })
        })
        .collect();
    json!({
        "orderId": order.number, "creationDate": utc(order.placed), "lastModifiedDate": utc(order.updated),
        "orderFulfillmentStatus": status,
        "orderPaymentStatus": if order.state == OrderState::Refunded { "FULLY_REFUNDED" } else { "PAID" },
        "cancelStatus": {"cancelState": if order.state == OrderState::Cancelled { "CANCELED" } else { "NONE_REQUESTED" }, "cancelRequests": []},
        "buyer": {"username": order.username(),
                  "buyerRegistrationAddress": {"fullName": name, "email": person.email}},
        "buyerCheckoutNotes": "Please ring twice",
        "pricingSummary": {"priceSubtotal": money(order.total()), "total": money(order.total())},
        "fulfillmentStartInstructions": [{
            "fulfillmentInstructionsType": "SHIP_TO",
            "shippingStep": {"shipTo": {
                "fullName": name, "email": person.email, "primaryPhone": {"phoneNumber": person.phone},
                "contactAddress": {
                    "addressLine1": format!("{} {}", person.street, person.house_number), "city": person.city,
                    "postalCode": person.postal_code, "countryCode": person.country,
                },
            }},
        }],
        "lineItems": lines, "sellerId": "sandbox-seller",
    })
}

pub(super) fn status(order: &Order) -> &'static str {
    match order.state {
        OrderState::New | OrderState::Cancelled => "NOT_STARTED",
        OrderState::PartiallyShipped => "IN_PROGRESS",
        OrderState::Shipped | OrderState::Refunded => "FULFILLED",
    }
}

/// The answer to `getShippingFulfillments`.
pub(super) fn parcels(order: &Order) -> Value {
    let parcels: Vec<_> = order
        .shipped
        .map(|at| {
            let items = order.lines.iter().enumerate().filter(|(n, _)| order.quantity_shipped(*n) > 0);
            let items: Vec<_> = items.map(|(n, line)| json!({"lineItemId": line.id, "quantity": order.quantity_shipped(n)})).collect();
            json!({
                "fulfillmentId": format!("9{}", order.number.replace('-', "")), "shippedDate": utc(at),
                "shippingCarrierCode": "DHL", "shipmentTrackingNumber": format!("JJD{}", order.number.replace('-', "")),
                "lineItems": items,
            })
        })
        .into_iter()
        .collect();
    json!({"fulfillments": parcels, "total": parcels.len(), "warnings": []})
}
