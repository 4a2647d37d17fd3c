//! The answers of the Retailer API v10 that are read, by the names of its official description.

use jiff::Timestamp;
use serde::Deserialize;

use crate::{money::Decimal, wire::null_as_default};

#[derive(Deserialize)]
pub(crate) struct ReducedOrders {
    /// An empty page may leave it out.
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) orders: Vec<ReducedOrder>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReducedOrder {
    pub(crate) order_id: String,
    pub(crate) order_placed_date_time: Timestamp,
    pub(crate) order_items: Vec<ReducedOrderItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReducedOrderItem {
    pub(crate) fulfilment_status: String,
    pub(crate) latest_changed_date_time: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Order {
    pub(crate) order_id: String,
    #[serde(default)]
    pub(crate) order_placed_date_time: Option<Timestamp>,
    pub(crate) shipment_details: ShipmentDetails,
    #[serde(default)]
    pub(crate) billing_details: Option<BillingDetails>,
    pub(crate) order_items: Vec<OrderItem>,
}

/// What both kinds of address have, and what each has beyond.
macro_rules! details {
    ($name:ident: $($own:ident),*) => {
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        pub(crate) struct $name {
            #[serde(deserialize_with = "null_as_default")]
            pub(crate) first_name: String,
            #[serde(deserialize_with = "null_as_default")]
            pub(crate) surname: String,
            #[serde(deserialize_with = "null_as_default")]
            pub(crate) street_name: String,
            #[serde(deserialize_with = "null_as_default")]
            pub(crate) house_number: String,
            #[serde(deserialize_with = "null_as_default")]
            pub(crate) house_number_extension: String,
            #[serde(deserialize_with = "null_as_default")]
            pub(crate) extra_address_information: String,
            #[serde(deserialize_with = "null_as_default")]
            pub(crate) zip_code: String,
            #[serde(deserialize_with = "null_as_default")]
            pub(crate) city: String,
            #[serde(deserialize_with = "null_as_default")]
            pub(crate) country_code: String,
            #[serde(deserialize_with = "null_as_default")]
            pub(crate) email: String,
            #[serde(deserialize_with = "null_as_default")]
            pub(crate) company: String,
            $(
                #[serde(deserialize_with = "null_as_default")]
                pub(crate) $own: String,
            )*
        }
    };
}

details!(ShipmentDetails: pickup_point_name, delivery_phone_number);
details!(BillingDetails: vat_number, kvk_number, order_reference);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderItem {
    pub(crate) order_item_id: String,
    #[serde(default)]
    pub(crate) fulfilment: Option<Fulfilment>,
    #[serde(default)]
    pub(crate) offer: Option<Offer>,
    #[serde(default)]
    pub(crate) product: Option<Product>,
    pub(crate) quantity: i64,
    pub(crate) quantity_shipped: i64,
    pub(crate) quantity_cancelled: i64,
    pub(crate) unit_price: Decimal,
    pub(crate) total_price: Decimal,
    pub(crate) latest_changed_date_time: Timestamp,
}

#[derive(Deserialize)]
pub(crate) struct Fulfilment {
    pub(crate) method: String,
}

#[derive(Deserialize)]
pub(crate) struct Offer {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) reference: String,
}

#[derive(Deserialize)]
pub(crate) struct Product {
    pub(crate) ean: String,
    pub(crate) title: String,
}

#[derive(Deserialize)]
pub(crate) struct ShipmentsResponse {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) shipments: Vec<ReducedShipment>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReducedShipment {
    pub(crate) shipment_id: String,
    #[serde(default)]
    pub(crate) shipment_date_time: Option<Timestamp>,
    #[serde(default)]
    pub(crate) order: Option<ReducedShipmentOrder>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReducedShipmentOrder {
    pub(crate) order_id: String,
}

#[derive(Deserialize)]
pub(crate) struct Shipment {
    #[serde(default)]
    pub(crate) transport: Option<Transport>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Transport {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) transporter_code: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) track_and_trace: String,
}

/// One entry of `/retailer/public/ratelimits`: `maxCapacity` calls in `timeToLive` `timeUnit`s.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RateLimit {
    pub(crate) path: String,
    pub(crate) methods: String,
    pub(crate) max_capacity: u32,
    pub(crate) time_to_live: u32,
    pub(crate) time_unit: String,
}

/// The resource isn't in the official description: a list, or an object around one.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum RateLimits {
    List(Vec<RateLimit>),
    Named(std::collections::BTreeMap<String, Vec<RateLimit>>),
}

impl RateLimits {
    pub(crate) fn into_list(self) -> Vec<RateLimit> {
        match self {
            Self::List(list) => list,
            Self::Named(named) => named.into_values().flatten().collect(),
        }
    }
}
