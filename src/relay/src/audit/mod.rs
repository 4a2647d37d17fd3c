//! The audit log: what was done, in the transaction that did it. Records are linked by hashes, their head is signed, and
//! nothing in them identifies a person or an order.

pub mod cli;
mod deed;
pub mod export;
mod prune;
mod record;

pub use deed::{Action, Actor, Deed};
pub use prune::{MOST, prune};
pub use record::{Count, Tally, append, begin, configured, counts, dropped, head};
