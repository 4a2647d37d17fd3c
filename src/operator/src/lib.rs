//! The operator: the pure parts that its controllers are made of.

pub mod compare;
pub mod encryption;
pub mod names;
