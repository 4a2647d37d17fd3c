//! A simulator, for the demo and the tests: the three marketplaces' APIs and a customer's endpoint behind one HTTPS
//! port, with a control API that makes things happen and go wrong. It is no part of the product.

mod config;
mod control;
mod customer;
mod faults;
mod limits;
mod marketplaces;
mod newcomers;
mod notices;
mod order;
mod server;
mod state;
mod tls;

pub use config::{Account, Config, Customer, Marketplace};
pub use server::{Sandbox, StartError, serve};
pub use tls::{Identity, TlsError, self_signed};
