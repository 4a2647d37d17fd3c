//! Clients of Amazon, eBay and Bol.com, a folder each, that produce one typed [`Order`].

pub mod amazon;
pub mod bol;
mod cache;
mod client;
mod cursor;
pub mod ebay;
mod http;
mod limits;
mod money;
mod order;
mod seen;
mod session;
#[cfg(test)]
mod spec;
mod token;
mod window;
mod wire;

pub use client::{
    CREDENTIAL_ENTRIES, CollectError, CollectFuture, Collector, Credentials, Cursor, Endpoints,
    MissingCredential, Page,
};
pub use order::{
    Address, Buyer, Fulfilment, LinePii, Marketplace, Money, Order, OrderLine, OrderPii, OrderStatus,
    ShipmentPii,
};
