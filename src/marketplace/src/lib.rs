//! Clients of Amazon, eBay and Bol.com, a folder each, that produce one typed [`Order`].

mod client;
mod order;

pub use client::{
    CREDENTIAL_ENTRIES, CollectError, CollectFuture, Collector, Credentials, Cursor, Endpoints, MissingCredential, Page,
};
pub use order::{
    Address, Buyer, Fulfilment, LinePii, Marketplace, Money, Order, OrderLine, OrderPii, OrderStatus, ShipmentPii,
};
