//! The tenant's pod: collects the orders of one marketplace account, stores them, delivers them.

pub mod activity;
pub mod admin;
pub mod audit;
pub mod clock;
pub mod collect;
pub mod deliver;
pub mod held;
pub mod keys;
pub mod metrics;
pub mod missing;
pub mod privacy;
pub mod replaced;
pub mod run;
pub mod settings;
pub mod store;

pub use marketrelay_pod::{egress, logging, mounts, termination, tls};
