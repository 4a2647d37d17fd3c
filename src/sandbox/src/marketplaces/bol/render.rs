//! An order in Bol.com's words.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use crate::order::{Order, State as OrderState};

/// Bol.com writes local time with its offset.
pub(super) fn amsterdam(at: Timestamp) -> String {
    let zone = TimeZone::get("Europe/Amsterdam").unwrap_or_else(|_| TimeZone::fixed(jiff::tz::offset(1)));
    at.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

pub(super) fn reduced(order: &Order) -> Value {
    let handled = !matches!(order.state, OrderState::New | OrderState::PartiallyShipped);
    let status =
        order.odd_status.clone().unwrap_or_else(|| if handled { "HANDLED" } else { "OPEN" }.to_owned());
    let items: Vec<_> = (0..order.lines.len())
        .map(|n| {
            let line = &order.lines[n];
            json!({
                "orderItemId": line.id, "ean": line.product, "fulfilmentMethod": "FBR", "fulfilmentStatus": status,
                "quantity": line.quantity, "quantityShipped": order.quantity_shipped(n),
                "quantityCancelled": order.quantity_cancelled(n), "cancellationRequest": false,
                "latestChangedDateTime": amsterdam(order.updated),
            })
        })
        .collect();
    json!({"orderId": order.number, "orderPlacedDateTime": amsterdam(order.placed), "orderItems": items})
}

fn address(order: &Order) -> Value {
    let person = &order.person;
    json!({
        "salutation": "UNKNOWN", "firstName": person.first_name, "surname": person.surname,
        "streetName": person.street, "houseNumber": person.house_number, "zipCode": person.postal_code,
        "city": person.city, "countryCode": person.country, "email": person.email,
    })
}

pub(super) fn full(order: &Order) -> Value {
    let mut delivery = address(order);
    delivery["deliveryPhoneNumber"] = json!(order.person.phone);
    delivery["language"] = json!("nl");
    let items: Vec<_> = (0..order.lines.len())
        .map(|n| {
            let line = &order.lines[n];
            #[expect(clippy::cast_precision_loss, reason = "prices of the simulator are small")]
            let (price, total) =
                (line.unit_price as f64 / 100.0, (line.unit_price * i64::from(line.quantity)) as f64 / 100.0);
            json!({
                "orderItemId": line.id, "cancellationRequest": false,
                "fulfilment": {"method": "FBR", "distributionParty": "RETAILER", "timeFrameType": "REGULAR"},
                "offer": {"offerId": "6ff736b5-cdd0-4150-8c67-78269ee986f5", "reference": line.sku},
                "product": {"ean": line.product, "title": line.title},
                "quantity": line.quantity, "quantityShipped": order.quantity_shipped(n),
                "quantityCancelled": order.quantity_cancelled(n), "unitPrice": price, "totalPrice": total,
                "discounts": [], "commission": 1.25, "additionalServices": [],
                "latestChangedDateTime": amsterdam(order.updated),
            })
        })
        .collect();
    json!({
        "orderId": order.number, "pickupPoint": false, "orderPlacedDateTime": amsterdam(order.placed),
        "shipmentDetails": delivery, "billingDetails": address(order), "orderItems": items,
    })
}

pub(super) fn shipment_id(order: &Order) -> String {
    format!("9{}", order.number.trim_start_matches('A'))
}

pub(super) fn shipment_of(order: &Order, detail: bool) -> Value {
    let transport_id = format!("8{}", order.number.trim_start_matches('A'));
    let mut shipment = json!({
        "shipmentId": shipment_id(order), "shipmentDateTime": order.shipped.map(amsterdam), "shipmentReference": "",
        "order": {"orderId": order.number, "orderPlacedDateTime": amsterdam(order.placed)},
        "transport": {"transportId": transport_id},
    });
    let items = order.lines.iter().enumerate().filter(|(n, _)| order.quantity_shipped(*n) > 0);
    if detail {
        shipment["transport"] = json!({"transportId": transport_id, "transporterCode": "TNT", "trackAndTrace": format!("3SSANDBOX{transport_id}")});
        let items = items.map(|(n, line)| {
            json!({
                "orderItemId": line.id, "fulfilment": {"method": "FBR", "distributionParty": "RETAILER"},
                "offer": {"offerId": "6ff736b5-cdd0-4150-8c67-78269ee986f5", "reference": line.sku},
                "product": {"ean": line.product, "title": line.title}, "quantity": line.quantity,
                "quantityShipped": order.quantity_shipped(n), "unitPrice": 1.0, "commission": 1.0,
            })
        });
        shipment["shipmentItems"] = items.collect();
    } else {
        shipment["shipmentItems"] =
            items.map(|(_, line)| json!({"orderItemId": line.id, "ean": line.product})).collect();
    }
    shipment
}
