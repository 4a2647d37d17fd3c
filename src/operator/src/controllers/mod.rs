//! The controllers.

pub mod connection;
pub mod erasure;
pub mod policy;
pub mod retained;
