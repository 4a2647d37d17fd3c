//! The controllers.

pub mod backup;
pub mod connection;
pub mod erasure;
pub mod holds;
pub mod keyring;
pub mod policy;
pub mod record;
pub mod retained;

use std::time::Duration;

use rand::RngExt;

/// A wait of about this length, so that relays aren't all asked at once.
fn spread(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.9..1.1))
}
