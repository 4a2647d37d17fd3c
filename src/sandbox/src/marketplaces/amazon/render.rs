//! An order in Amazon's words.

use serde_json::{Value, json};

use super::utc;
use crate::order::{Order, State as OrderState};

pub(super) fn render(order: &Order, included: &[String], site: &str) -> Value {
    let mut body = json!({
        "orderId": order.number, "createdTime": utc(order.placed), "lastUpdatedTime": utc(order.updated),
        "programs": [], "salesChannel": {"channelName": "AMAZON", "marketplaceId": site},
        "orderItems": (0..order.lines.len()).map(|n| item(order, n, included)).collect::<Vec<_>>(),
    });
    let person = &order.person;
    let name = format!("{} {}", person.first_name, person.surname);
    let wants = |part: &str| included.iter().any(|word| word == part);
    if wants("BUYER") {
        body["buyer"] = json!({"buyerName": name, "buyerEmail": person.email});
    }
    if wants("RECIPIENT") {
        body["recipient"] = json!({"deliveryAddress": {
            "name": name, "addressLine1": format!("{} {}", person.street, person.house_number), "city": person.city,
            "postalCode": person.postal_code, "countryCode": person.country, "phone": person.phone,
        }});
    }
    if wants("PROCEEDS") {
        body["proceeds"] = json!({"grandTotal": money(order, order.total())});
    }
    if wants("FULFILLMENT") {
        let status = order.odd_status.clone().unwrap_or_else(|| status(order).to_owned());
        body["fulfillment"] = json!({"fulfillmentStatus": status, "fulfilledBy": "MERCHANT"});
    }
    if let Some(shipped) = order.shipped.filter(|_| wants("PACKAGES")) {
        let lines = order.lines.iter().enumerate().filter(|(n, _)| order.quantity_shipped(*n) > 0);
        let items =
            lines.map(|(n, line)| json!({"orderItemId": line.id, "quantity": order.quantity_shipped(n)}));
        body["packages"] = json!([{
            "packageReferenceId": "1", "createdTime": utc(shipped), "packageStatus": {"status": "SHIPPED"},
            "carrier": "DHL", "shipTime": utc(shipped), "trackingNumber": format!("JJD{}", order.number.replace('-', "")),
            "packageItems": items.collect::<Vec<_>>(),
        }]);
    }
    body
}

fn money(order: &Order, minor: i64) -> Value {
    json!({"amount": order.amount(minor), "currencyCode": order.currency})
}

fn item(order: &Order, n: usize, included: &[String]) -> Value {
    let line = &order.lines[n];
    let shipped = order.quantity_shipped(n);
    let wants = |part: &str| included.iter().any(|word| word == part);
    let mut body = json!({
        "orderItemId": line.id, "quantityOrdered": line.quantity,
        "product": {"asin": format!("B{}", &line.product[4..]), "title": line.title, "sellerSku": line.sku,
                    "price": {"unitPrice": money(order, line.unit_price)}},
    });
    if wants("PROCEEDS") {
        body["proceeds"] = json!({"proceedsTotal": money(order, line.unit_price * i64::from(line.quantity))});
    }
    if wants("FULFILLMENT") {
        body["fulfillment"] = json!({
            "quantityFulfilled": shipped, "quantityUnfulfilled": line.quantity - shipped,
            "packing": {"giftOption": {"giftMessage": "With love", "giftWrapLevel": "classic"}},
        });
    }
    if wants("CANCELLATION") && order.state == OrderState::Cancelled {
        body["cancellation"] =
            json!({"cancellationExecution": {"cancelledBy": "BUYER", "cancelReason": "NO_LONGER_NEEDED"}});
    }
    body
}

pub(super) fn status(order: &Order) -> &'static str {
    match order.state {
        OrderState::New => "UNSHIPPED",
        OrderState::PartiallyShipped => "PARTIALLY_SHIPPED",
        OrderState::Shipped | OrderState::Refunded => "SHIPPED",
        OrderState::Cancelled => "CANCELLED",
    }
}
