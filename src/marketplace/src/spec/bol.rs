use serde_json::{Value, json};

use super::{Official, follow};
use crate::{
    Money, Order, OrderStatus,
    bol::{
        convert::{self, Listed, Parcel},
        wire,
    },
};

pub(super) fn official() -> Official {
    Official::read("bol/retailer.json")
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, String> {
    serde_json::from_str(&value.to_string()).map_err(|error| error.to_string())
}

/// An order as it is listed, and in detail, made of the official examples.
pub(super) fn examples() -> (Value, Value) {
    (official().instance("ReducedOrder"), official().instance("Order"))
}

pub(super) fn convert_values(listed: &Value, details: &Value) -> Result<Order, String> {
    let (listed, details): (wire::ReducedOrder, wire::Order) = (read(listed)?, read(details)?);
    let shipments: wire::ShipmentsResponse = read(&official().instance("ShipmentsResponse"))?;
    let transport = read::<wire::Shipment>(&official().instance("Shipment"))?.transport.unwrap_or_default();
    let parcels = shipments.shipments.into_iter().map(|one| Parcel {
        id: one.shipment_id,
        at: one.shipment_date_time,
        carrier: transport.transporter_code.clone(),
        tracking_number: transport.track_and_trace.clone(),
    });
    let parcels: Vec<_> = parcels.collect();
    convert::order(&Listed::new(&listed), &details, &parcels).map_err(|error| error.to_string())
}

#[test]
fn bols_wire_types_follow_the_official_description() {
    follow! { official(),
        "ReducedOrders" => wire::ReducedOrders,
        "ReducedOrder" => wire::ReducedOrder,
        "ReducedOrderItem" => wire::ReducedOrderItem,
        "Order" => wire::Order,
        "OrderOrderItem" => wire::OrderItem,
        "OrderFulfilment" => wire::Fulfilment,
        "OrderOffer" => wire::Offer,
        "OrderProduct" => wire::Product,
        "ShipmentsResponse" => wire::ShipmentsResponse,
        "ReducedShipment" => wire::ReducedShipment,
        "ReducedShipmentOrder" => wire::ReducedShipmentOrder,
        "ShipmentDetails" => wire::ShipmentDetails,
        "BillingDetails" => wire::BillingDetails,
        "Shipment" => wire::Shipment,
        "ShipmentTransport" => wire::Transport,
    }
}

#[test]
fn bols_examples_become_an_order() {
    let (listed, details) = examples();
    let order = convert_values(&listed, &details).expect("an order");
    assert_eq!(order.pii.expose().number, "A2K8290LP8");
    assert_eq!(order.country.as_deref(), Some("NL"));
    assert_eq!(order.total, Some(Money { currency: "EUR".into(), minor: 11_891 }));
    assert_eq!(order.lines[0].unit_price, Some(Money { currency: "EUR".into(), minor: 1299 }));
    let pii = order.pii.expose();
    assert_eq!(pii.shipments[0].tracking_number, "3SBOL0987654321");
    let to = pii.ship_to.as_ref().expect("an address");
    assert_eq!(to.lines, ["Albert Heijn: UTRECHT", "Dorpstraat 1 B", "Apartment"]);
    assert_eq!((to.name.as_str(), to.phone.as_str()), ("Billie Jansen", "012123456"));
    assert_eq!(
        (pii.buyer.tax_id.as_str(), pii.buyer.purchase_order.as_str()),
        ("NL999999999B99", "MijnReferentie")
    );
    assert_eq!(order.placed_at.to_string(), "2026-01-02T02:04:05.678Z", "Amsterdam's time, with its offset");
}

#[test]
fn an_order_that_is_no_longer_listed_has_the_same_words() {
    let (_, mut details) = examples();
    for (shipped, cancelled, word, status) in [
        (0, 0, "OPEN", OrderStatus::Unshipped),
        (2, 0, "HANDLED", OrderStatus::Shipped),
        (0, 2, "HANDLED", OrderStatus::Cancelled),
        (1, 0, "OPEN", OrderStatus::PartiallyShipped),
    ] {
        let item = &mut details["orderItems"][0];
        (item["quantityShipped"], item["quantityCancelled"]) = (json!(shipped), json!(cancelled));
        let wire: wire::Order = read(&details).expect("an order");
        let order = convert::order(&Listed::from_details(&wire), &wire, &[]).expect("an order");
        assert_eq!((order.marketplace_status.as_str(), order.status), (word, status));
        assert_eq!(order.first_shipped_at.is_some(), shipped > 0);
    }
}

#[test]
fn a_price_that_went_through_floating_point_is_the_price_that_was_meant() {
    let (listed, details) = examples();
    let text = details.to_string().replace("118.91", "118.91000000000001");
    let wire: wire::Order = serde_json::from_str(&text).expect("an order");
    let listed = Listed::new(&read(&listed).expect("an order"));
    let order = convert::order(&listed, &wire, &[]).expect("an order");
    assert_eq!(order.total.map(|total| total.minor), Some(11_891));
}
