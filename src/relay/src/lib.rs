//! The tenant's pod: collects the orders of one marketplace account, stores them, delivers them.

pub mod activity;
pub mod admin;
pub mod clock;
pub mod collect;
pub mod deliver;
pub mod egress;
pub mod held;
pub mod keys;
pub mod logging;
pub mod metrics;
pub mod mounts;
pub mod privacy;
pub mod run;
pub mod settings;
pub mod store;
pub mod tls;
