//! The controllers.

pub mod connection;
pub mod erasure;
pub mod holds;
pub mod keyring;
pub mod policy;
pub mod record;
pub mod retained;
