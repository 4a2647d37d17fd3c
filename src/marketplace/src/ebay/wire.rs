//! The answers of the Fulfillment API v1 that are read, by the names of its official description. Nothing in them is
//! required by it.

use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    Money,
    money::{Decimal, MoneyError},
    wire::null_as_default,
};

#[derive(Deserialize)]
pub(crate) struct OrderSearchPagedCollection {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) orders: Vec<Order>,
    /// Of all pages.
    #[serde(default)]
    pub(crate) total: Option<u64>,
    /// The next page's address, except on the last.
    #[serde(default)]
    pub(crate) next: Option<String>,
}

/// Without number and times an order can't be told from another: they must be there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Order {
    pub(crate) order_id: String,
    pub(crate) creation_date: Timestamp,
    pub(crate) last_modified_date: Timestamp,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) order_fulfillment_status: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) order_payment_status: String,
    #[serde(default)]
    pub(crate) cancel_status: Option<CancelStatus>,
    #[serde(default)]
    pub(crate) buyer: Option<Buyer>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) buyer_checkout_notes: String,
    #[serde(default)]
    pub(crate) pricing_summary: Option<PricingSummary>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) fulfillment_start_instructions: Vec<FulfillmentStartInstruction>,
    #[serde(default)]
    pub(crate) program: Option<Program>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) line_items: Vec<LineItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Program {
    #[serde(default)]
    pub(crate) fulfillment_program: Option<EbayFulfillmentProgram>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EbayFulfillmentProgram {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) fulfilled_by: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CancelStatus {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) cancel_state: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Buyer {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) username: String,
    pub(crate) buyer_registration_address: Option<ExtendedContact>,
    pub(crate) tax_identifier: Option<TaxIdentifier>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaxIdentifier {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) taxpayer_id: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ExtendedContact {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) company_name: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) contact_address: Address,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) email: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) full_name: String,
    pub(crate) primary_phone: Option<PhoneNumber>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Address {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) address_line1: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) address_line2: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) city: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) country_code: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) county: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) postal_code: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) state_or_province: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PhoneNumber {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) phone_number: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PricingSummary {
    #[serde(default)]
    pub(crate) tax: Option<Amount>,
    #[serde(default)]
    pub(crate) total: Option<Amount>,
}

#[derive(Deserialize)]
pub(crate) struct Amount {
    pub(crate) currency: String,
    pub(crate) value: Decimal,
}

impl Amount {
    pub(crate) fn money(&self) -> Result<Money, MoneyError> {
        self.value.money(&self.currency)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FulfillmentStartInstruction {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) ebay_supported_fulfillment: bool,
    #[serde(default)]
    pub(crate) shipping_step: Option<ShippingStep>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShippingStep {
    #[serde(default)]
    pub(crate) ship_to: Option<ExtendedContact>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LineItem {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) line_item_id: String,
    #[serde(default)]
    pub(crate) legacy_item_id: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) sku: String,
    #[serde(default)]
    pub(crate) title: Option<String>,
    #[serde(default)]
    pub(crate) quantity: Option<i64>,
    #[serde(default)]
    pub(crate) line_item_cost: Option<Amount>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) taxes: Vec<Tax>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) line_item_fulfillment_status: String,
    #[serde(default)]
    pub(crate) purchase_marketplace_id: Option<String>,
    #[serde(default)]
    pub(crate) gift_details: Option<GiftDetails>,
}

#[derive(Deserialize)]
pub(crate) struct Tax {
    #[serde(default)]
    pub(crate) amount: Option<Amount>,
}

#[derive(Deserialize)]
pub(crate) struct GiftDetails {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) message: String,
}

#[derive(Deserialize)]
pub(crate) struct ShippingFulfillmentPagedCollection {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) fulfillments: Vec<ShippingFulfillment>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShippingFulfillment {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) fulfillment_id: String,
    #[serde(default)]
    pub(crate) shipped_date: Option<Timestamp>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) shipping_carrier_code: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) shipment_tracking_number: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) line_items: Vec<LineItemReference>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LineItemReference {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) line_item_id: String,
    #[serde(default)]
    pub(crate) quantity: Option<i64>,
}
