//! The controllers.

pub mod connection;
pub mod erasure;
pub mod keyring;
pub mod policy;
pub mod record;
pub mod retained;
