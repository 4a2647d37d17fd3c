use serde_json::{Value, json};

use super::{Official, follow};
use crate::{
    Fulfilment, Money, Order, OrderStatus,
    ebay::{PublicKey, convert, wire},
};

pub(super) fn official() -> Official {
    Official::read("ebay/sell_fulfillment_v1_oas3.json")
}

/// The official file has no examples: an order with every field that it describes.
pub(super) fn example() -> Value {
    let mut order = official().instance("Order");
    order["cancelStatus"]["cancelState"] = json!("NONE_REQUESTED");
    order["orderFulfillmentStatus"] = json!("FULFILLED");
    order["orderPaymentStatus"] = json!("PAID");
    order
}

pub(super) fn convert_value(value: &Value) -> Result<Order, String> {
    let wire: wire::Order = serde_json::from_str(&value.to_string()).map_err(|error| error.to_string())?;
    let parcels = official().instance("ShippingFulfillmentPagedCollection").to_string();
    let parcels: wire::ShippingFulfillmentPagedCollection =
        serde_json::from_str(&parcels).map_err(|error| error.to_string())?;
    convert::order(&wire, &parcels.fulfillments).map_err(|error| error.to_string())
}

#[test]
fn ebays_public_key_follows_the_official_description() {
    follow! { Official::read("ebay/commerce_notification_v1_oas3.json"), "PublicKey" => PublicKey, }
}

/// Nothing is required by eBay's description. An order without number and times, and an amount without its parts,
/// mean nothing.
#[test]
fn ebays_wire_types_follow_the_official_description() {
    follow! { official(),
        "OrderSearchPagedCollection" => wire::OrderSearchPagedCollection,
        "Order" ["orderId", "creationDate", "lastModifiedDate"] => wire::Order,
        "CancelStatus" => wire::CancelStatus,
        "Buyer" => wire::Buyer,
        "TaxIdentifier" => wire::TaxIdentifier,
        "ExtendedContact" => wire::ExtendedContact,
        "Address" => wire::Address,
        "PhoneNumber" => wire::PhoneNumber,
        "PricingSummary" => wire::PricingSummary,
        "Amount" ["currency", "value"] => wire::Amount,
        "FulfillmentStartInstruction" => wire::FulfillmentStartInstruction,
        "ShippingStep" => wire::ShippingStep,
        "LineItem" => wire::LineItem,
        "Tax" => wire::Tax,
        "GiftDetails" => wire::GiftDetails,
        "Program" => wire::Program,
        "EbayFulfillmentProgram" => wire::EbayFulfillmentProgram,
        "ShippingFulfillmentPagedCollection" => wire::ShippingFulfillmentPagedCollection,
        "ShippingFulfillment" => wire::ShippingFulfillment,
        "LineItemReference" => wire::LineItemReference,
    }
}

#[test]
fn every_field_that_ebay_describes_becomes_part_of_the_order() {
    let order = convert_value(&example()).expect("an order");
    let euro = Some(Money { currency: "EUR".into(), minor: 1250 });
    assert_eq!((order.total, order.status), (euro.clone(), OrderStatus::Shipped));
    assert_eq!(order.first_shipped_at.map(|at| at.to_string()), Some("2026-01-02T02:04:05.678Z".to_owned()));
    let line = &order.lines[0];
    assert_eq!((line.quantity, line.quantity_shipped), (2, 2));
    assert_eq!(line.total, euro);
    assert_eq!(line.unit_price, Some(Money { currency: "EUR".into(), minor: 625 }));
    let pii = order.pii.expose();
    assert!(pii.ship_to.is_some() && pii.bill_to.is_some() && pii.shipments.len() == 1);
}

#[test]
fn an_order_with_nothing_but_its_number_and_times_is_taken() {
    let times = json!({"orderId": "1", "creationDate": "2026-01-02T03:04:05.678Z", "lastModifiedDate": "2026-01-02T03:04:05.678Z"});
    let order = convert_value(&times).expect("an order");
    assert_eq!((order.status, order.total), (OrderStatus::Unknown, None));
}

#[test]
fn a_line_that_can_t_be_divided_has_no_price_of_one() {
    let mut order = example();
    order["lineItems"][0]["quantity"] = json!(3);
    order["lineItems"][0]["lineItemCost"] = json!({"value": "10.00", "currency": "EUR"});
    assert_eq!(convert_value(&order).expect("an order").lines[0].unit_price, None);
    order["lineItems"][0]["lineItemCost"] = json!({"value": "999", "currency": "JPY"});
    let price = convert_value(&order).expect("an order").lines[0].unit_price.clone();
    assert_eq!(price, Some(Money { currency: "JPY".into(), minor: 333 }));
}

#[test]
fn what_ebay_ships_itself_is_told() {
    let mut order = example();
    order["program"] = json!({"fulfillmentProgram": {"fulfilledBy": "EBAY"}});
    assert_eq!(convert_value(&order).expect("an order").fulfilment, Fulfilment::Marketplace);
    order["program"] = json!({});
    order["fulfillmentStartInstructions"][0]["ebaySupportedFulfillment"] = json!(false);
    assert_eq!(convert_value(&order).expect("an order").fulfilment, Fulfilment::Merchant);
}
