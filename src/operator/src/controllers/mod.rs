//! The controllers.

pub mod connection;
pub mod policy;
pub mod retained;
