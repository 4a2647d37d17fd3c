//! The HTTPS server that relay and operator share: mutual TLS, roles by client certificate, certificates that change
//! while it runs.

mod config;
mod role;
mod server;

pub use config::{Pem, server_config};
pub use role::Role;
pub use server::{Current, serve, serve_many};
