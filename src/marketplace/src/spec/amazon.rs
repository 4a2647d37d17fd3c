use serde_json::Value;

use super::{Official, follow};
use crate::{
    Fulfilment, Money, Order, OrderStatus,
    amazon::{convert, wire},
};

pub(super) fn official() -> Official {
    Official::read("amazon/orders_2026-01-01.json")
}

/// Every order in the examples of both calls.
pub(super) fn examples() -> Vec<Value> {
    let official = official();
    let mut orders = Vec::new();
    for call in ["searchOrders", "getOrder"] {
        let path = if call == "getOrder" {
            "/orders/2026-01-01/orders/{orderId}"
        } else {
            "/orders/2026-01-01/orders"
        };
        let path = path.replace('/', "~1");
        let answer = official.at(&format!("/paths/{path}/get/responses/200"));
        let tried = answer["x-amzn-api-sandbox"]["static"].as_array().into_iter().flatten();
        let tried = tried.map(|one| &one["response"]);
        for body in tried.chain([&answer["examples"]["application/json"]]) {
            let list = body["orders"].as_array().into_iter().flatten();
            orders.extend(list.chain(body.get("order")).cloned());
        }
    }
    orders
}

pub(super) fn convert_value(value: &Value) -> Result<Order, String> {
    let wire: wire::Order = serde_json::from_str(&value.to_string()).map_err(|error| error.to_string())?;
    convert::order(&wire).map_err(|error| error.to_string())
}

#[test]
fn amazons_wire_types_follow_the_official_description() {
    follow! { official(),
        "SearchOrdersResponse" => wire::SearchOrdersResponse,
        "Pagination" => wire::Pagination,
        "Order" => wire::Order,
        "SalesChannel" => wire::SalesChannel,
        "Buyer" => wire::Buyer,
        "Recipient" => wire::Recipient,
        "DeliveryPreference" => wire::DeliveryPreference,
        "CustomerAddress" => wire::CustomerAddress,
        "OrderProceeds" => wire::OrderProceeds,
        "OrderProceedsBreakdown" => wire::Breakdown,
        "ItemProceedsBreakdown" => wire::Breakdown,
        "Money" => wire::Money,
        "OrderTax" => wire::OrderTax,
        "OrderTaxRegistration" => wire::TaxRegistration,
        "OrderFulfillment" => wire::OrderFulfillment,
        "OrderItem" => wire::OrderItem,
        "ItemProduct" => wire::ItemProduct,
        "ItemPrice" => wire::ItemPrice,
        "ItemCustomization" => wire::ItemCustomization,
        "ItemProceeds" => wire::ItemProceeds,
        "ItemFulfillment" => wire::ItemFulfillment,
        "ItemPacking" => wire::ItemPacking,
        "ItemCancellation" => wire::ItemCancellation,
        "GiftOption" => wire::GiftOption,
        "OrderPackage" => wire::OrderPackage,
    }
}

#[test]
fn amazons_examples_become_orders() {
    let examples = examples();
    assert!(examples.len() >= 4, "{}", examples.len());
    for example in &examples {
        let order = convert_value(example).unwrap_or_else(|error| panic!("{error}: {example}"));
        assert_eq!(Some(order.pii.expose().number.as_str()), example["orderId"].as_str());
        assert_eq!(order.lines.len(), example["orderItems"].as_array().map_or(0, Vec::len));
        assert_eq!(
            Some(order.marketplace_status.as_str()),
            example["fulfillment"]["fulfillmentStatus"].as_str()
        );
        assert_ne!(order.fulfilment, Fulfilment::Unknown);
        assert!(order.lines.iter().all(|line| line.quantity > 0 && !line.sku.is_empty()));
        let total = &example["proceeds"]["grandTotal"]["currencyCode"];
        assert_eq!(order.total.as_ref().map(|total| total.currency.as_str()), total.as_str());
    }
}

#[test]
fn every_field_that_amazon_describes_may_come_at_once() {
    let order = convert_value(&official().instance("Order")).expect("an order");
    assert_eq!(order.total, Some(Money { currency: "EUR".into(), minor: 1250 }));
    assert!(order.first_shipped_at.is_some());
}

#[test]
fn amounts_of_a_currency_without_decimals_are_whole() {
    let mut example = examples().remove(0);
    example["proceeds"]["grandTotal"] = serde_json::json!({"amount": "1500.00", "currencyCode": "JPY"});
    let order = convert_value(&example).expect("an order");
    assert_eq!(order.total, Some(Money { currency: "JPY".into(), minor: 1500 }));
}

#[test]
fn a_price_of_one_that_is_finer_than_the_smallest_unit_is_left_out_and_a_total_is_refused() {
    let mut example = examples().remove(0);
    let fine = serde_json::json!({"amount": "0.3333", "currencyCode": "EUR"});
    example["orderItems"][0]["product"]["price"]["unitPrice"] = fine.clone();
    assert_eq!(convert_value(&example).expect("an order").lines[0].unit_price, None);
    example["proceeds"]["grandTotal"] = fine;
    let error = convert_value(&example).expect_err("no such total");
    assert!(error.contains("proceeds.grandTotal") && !error.contains("0.3333"), "{error}");
}

#[test]
fn a_cancelled_item_of_a_shipped_order_is_told() {
    let mut example = examples().remove(0);
    example["fulfillment"]["fulfillmentStatus"] = "SHIPPED".into();
    example["orderItems"][0]["quantityOrdered"] = 3.into();
    example["orderItems"][0]["fulfillment"] = serde_json::json!({"quantityFulfilled": 1});
    example["orderItems"][0]["cancellation"] =
        serde_json::json!({"cancellationExecution": {"cancelledBy": "BUYER"}});
    let order = convert_value(&example).expect("an order");
    assert_eq!(order.status, OrderStatus::Shipped);
    assert_eq!((order.lines[0].quantity_shipped, order.lines[0].quantity_cancelled), (1, 2));
}
