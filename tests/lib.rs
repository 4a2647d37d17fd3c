//! Tiers that need a server.
