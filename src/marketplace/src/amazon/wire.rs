//! The answers of the Orders API 2026-01-01 that are read, by the names of its official description.

use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    money::{Decimal, MoneyError},
    wire::null_as_default,
};

#[derive(Deserialize)]
pub(crate) struct SearchOrdersResponse {
    pub(crate) orders: Vec<Order>,
    #[serde(default)]
    pub(crate) pagination: Option<Pagination>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pagination {
    #[serde(default)]
    pub(crate) next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Order {
    pub(crate) order_id: String,
    pub(crate) created_time: Timestamp,
    pub(crate) last_updated_time: Timestamp,
    pub(crate) sales_channel: SalesChannel,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) buyer: Buyer,
    #[serde(default)]
    pub(crate) recipient: Option<Recipient>,
    #[serde(default)]
    pub(crate) proceeds: Option<OrderProceeds>,
    #[serde(default)]
    pub(crate) tax: Option<OrderTax>,
    #[serde(default)]
    pub(crate) fulfillment: Option<OrderFulfillment>,
    pub(crate) order_items: Vec<OrderItem>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) packages: Vec<OrderPackage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SalesChannel {
    pub(crate) channel_name: String,
    #[serde(default)]
    pub(crate) marketplace_id: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Buyer {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) buyer_name: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) buyer_email: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) buyer_company_name: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) buyer_purchase_order_number: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Recipient {
    #[serde(default)]
    pub(crate) delivery_address: Option<CustomerAddress>,
    #[serde(default)]
    pub(crate) delivery_preference: Option<DeliveryPreference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeliveryPreference {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) drop_off_location: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) address_instruction: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CustomerAddress {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) name: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) company_name: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) address_line1: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) address_line2: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) address_line3: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) city: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) district_or_county: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) state_or_region: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) municipality: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) postal_code: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) country_code: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) phone: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderProceeds {
    #[serde(default)]
    pub(crate) grand_total: Option<Money>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) breakdowns: Vec<Breakdown>,
}

#[derive(Deserialize)]
pub(crate) struct Breakdown {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) subtotal: Money,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Money {
    pub(crate) amount: Decimal,
    pub(crate) currency_code: String,
}

impl Money {
    pub(crate) fn money(&self) -> Result<crate::Money, MoneyError> {
        self.amount.money(&self.currency_code)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderTax {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) tax_registrations: Vec<TaxRegistration>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaxRegistration {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) tax_registration_number: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderFulfillment {
    pub(crate) fulfillment_status: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) fulfilled_by: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderItem {
    pub(crate) order_item_id: String,
    pub(crate) quantity_ordered: i64,
    pub(crate) product: ItemProduct,
    #[serde(default)]
    pub(crate) proceeds: Option<ItemProceeds>,
    #[serde(default)]
    pub(crate) fulfillment: Option<ItemFulfillment>,
    #[serde(default)]
    pub(crate) cancellation: Option<ItemCancellation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemCancellation {
    #[serde(default)]
    pub(crate) cancellation_execution: Option<ItemCancellationExecution>,
}

/// That it is there tells that the item is cancelled.
#[derive(Deserialize)]
pub(crate) struct ItemCancellationExecution {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemProduct {
    #[serde(default)]
    pub(crate) asin: Option<String>,
    #[serde(default)]
    pub(crate) title: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) seller_sku: String,
    #[serde(default)]
    pub(crate) price: Option<ItemPrice>,
    #[serde(default)]
    pub(crate) customization: Option<ItemCustomization>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemPrice {
    #[serde(default)]
    pub(crate) unit_price: Option<Money>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemCustomization {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) customized_url: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemProceeds {
    #[serde(default)]
    pub(crate) proceeds_total: Option<Money>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) breakdowns: Vec<Breakdown>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemFulfillment {
    #[serde(default)]
    pub(crate) quantity_fulfilled: Option<i64>,
    #[serde(default)]
    pub(crate) packing: Option<ItemPacking>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemPacking {
    #[serde(default)]
    pub(crate) gift_option: Option<GiftOption>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GiftOption {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) gift_message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderPackage {
    pub(crate) package_reference_id: String,
    #[serde(default)]
    pub(crate) ship_time: Option<Timestamp>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) carrier: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) tracking_number: String,
}
