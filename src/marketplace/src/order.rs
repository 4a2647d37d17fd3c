//! The one typed order that every marketplace's answers become. What is delivered as it is has its fields in the order
//! of their JSON names, as canonical JSON wants them.

use jiff::Timestamp;
use marketrelay_keyring::Pii;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// A marketplace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Marketplace {
    /// Amazon (Selling Partner API).
    Amazon,
    /// eBay (Fulfillment API).
    Ebay,
    /// Bol.com (Retailer API).
    Bol,
}

impl Marketplace {
    /// The name in configuration, labels and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amazon => "amazon",
            Self::Ebay => "ebay",
            Self::Bol => "bol",
        }
    }

    /// Reads [`as_str`](Self::as_str).
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Amazon, Self::Ebay, Self::Bol].into_iter().find(|one| one.as_str() == name)
    }
}

/// An amount of money in the currency's minor unit: 12.34 EUR is `{currency: "EUR", minor: 1234}`, 1234 JPY is
/// `{currency: "JPY", minor: 1234}` (ISO 4217 exponents).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Money {
    /// ISO 4217 code.
    pub currency: String,
    /// Minor units; negative for refunds.
    pub minor: i64,
}

/// Where an order stands, in the words that the three marketplaces share. The marketplace's own word is kept beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OrderStatus {
    /// Placed; payment or availability isn't confirmed yet.
    Pending,
    /// To be shipped.
    Unshipped,
    /// Some of it has shipped.
    PartiallyShipped,
    /// All of it has shipped.
    Shipped,
    /// Cancelled, by the buyer, the seller or the marketplace.
    Cancelled,
    /// Fully refunded.
    Refunded,
    /// A word of the marketplace that this version doesn't know.
    Unknown,
}

impl OrderStatus {
    const ALL: [Self; 7] = [
        Self::Pending,
        Self::Unshipped,
        Self::PartiallyShipped,
        Self::Shipped,
        Self::Cancelled,
        Self::Refunded,
        Self::Unknown,
    ];

    /// The name in the database, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Unshipped => "unshipped",
            Self::PartiallyShipped => "partiallyShipped",
            Self::Shipped => "shipped",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
            Self::Unknown => "unknown",
        }
    }

    /// Reads [`as_str`](Self::as_str).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

/// Who ships.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Fulfilment {
    /// The seller.
    Merchant,
    /// The marketplace.
    Marketplace,
    /// A word of the marketplace that this version doesn't know, or both.
    Unknown,
}

impl Fulfilment {
    /// The name in the database, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merchant => "merchant",
            Self::Marketplace => "marketplace",
            Self::Unknown => "unknown",
        }
    }

    /// Reads [`as_str`](Self::as_str).
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Merchant, Self::Marketplace, Self::Unknown].into_iter().find(|one| one.as_str() == name)
    }
}

/// One line of an order, without anything that identifies a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderLine {
    /// The seller's stock keeping unit; empty if the marketplace gives none.
    pub sku: String,
    /// The product's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The marketplace's product id (ASIN, eBay item id, EAN).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_id: Option<String>,
    /// Ordered.
    pub quantity: u32,
    /// Shipped so far.
    pub quantity_shipped: u32,
    /// Cancelled so far.
    pub quantity_cancelled: u32,
    /// Price of one, as charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_price: Option<Money>,
    /// Price of the line without shipping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Money>,
    /// VAT or sales tax of the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax: Option<Money>,
}

/// A person's or company's address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Zeroize)]
#[serde(rename_all = "camelCase", default)]
pub struct Address {
    /// City.
    pub city: String,
    /// Company.
    pub company: String,
    /// ISO 3166-1 alpha-2 country code.
    pub country: String,
    /// E-mail address.
    pub email: String,
    /// Street, house number and what else the marketplace gives, in its order.
    pub lines: Vec<String>,
    /// First and last name, or the whole name.
    pub name: String,
    /// Phone number.
    pub phone: String,
    /// Postal code.
    pub postal_code: String,
    /// State, province or region.
    pub region: String,
}

/// Who bought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Zeroize)]
#[serde(rename_all = "camelCase", default)]
pub struct Buyer {
    /// Company.
    pub company: String,
    /// E-mail address, often the marketplace's relay address.
    pub email: String,
    /// Name.
    pub name: String,
    /// The buyer's own purchase order number.
    pub purchase_order: String,
    /// Tax id, VAT number.
    pub tax_id: String,
    /// The marketplace's user name (eBay; it can change).
    pub username: String,
}

/// What identifies somebody on one line; the same index as the order's line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Zeroize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinePii {
    /// The marketplace's id of the line, as fulfilment calls want it.
    pub id: String,
    /// Gift message.
    pub gift_message: String,
    /// Where the buyer's customisation is to be had.
    pub customization_url: String,
}

/// One parcel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Zeroize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShipmentPii {
    /// Carrier.
    pub carrier: String,
    /// The marketplace's id of the shipment.
    pub id: String,
    /// Tracking number.
    pub tracking_number: String,
}

/// Everything of an order that identifies a person, order number included. It leaves [`Pii`] only to be sealed, and to
/// be rendered into a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Zeroize)]
#[serde(rename_all = "camelCase", default)]
pub struct OrderPii {
    /// The marketplace's order number.
    pub number: String,
    /// Who bought.
    pub buyer: Buyer,
    /// Where it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ship_to: Option<Address>,
    /// Who pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bill_to: Option<Address>,
    /// Per line.
    pub lines: Vec<LinePii>,
    /// Per parcel.
    pub shipments: Vec<ShipmentPii>,
    /// Notes of the buyer, instructions for the delivery.
    pub notes: String,
}

/// An order as the relay stores and delivers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Where it was placed.
    pub marketplace: Marketplace,
    /// Everything that identifies somebody.
    pub pii: Pii<OrderPii>,
    /// The marketplace's time of the purchase.
    pub placed_at: Timestamp,
    /// The marketplace's time of the last change; the time of placing if it tells none.
    pub updated_at: Timestamp,
    /// Of the first shipment; `None` while none is known.
    pub first_shipped_at: Option<Timestamp>,
    /// In common words.
    pub status: OrderStatus,
    /// In the marketplace's word.
    pub marketplace_status: String,
    /// Who ships.
    pub fulfilment: Fulfilment,
    /// The marketplace's site (`A1PA6795UKMFR9`, `EBAY_DE`, `NL`), if it tells one.
    pub sales_channel: Option<String>,
    /// Destination country, ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// What the buyer pays in all.
    pub total: Option<Money>,
    /// VAT or sales tax in all.
    pub tax: Option<Money>,
    /// The lines, in the marketplace's order.
    pub lines: Vec<OrderLine>,
}
