//! The marketplaces' traps, each with the test that is named after it.

mod amazon;
mod bol;
mod ebay;
mod rates;
mod server;
mod shop;
mod tokens;
