//! Audit records as a hash chain, signed statements of how far it reaches, and their verification. Pure: no clock, no
//! file, no network.
//!
//! A record is a flat JSON object. [`link`] adds which chain it is of, its number, the hash of the one before and its
//! own. A [`Statement`] says, signed, which record a chain reached ([`Kind::Head`]), where its records begin after the
//! older ones were pruned ([`Kind::Checkpoint`]), or where an export of a part of it begins ([`Kind::Start`]).
//! [`Verifier`] reads lines of both. The format is documented in `docs/operations/audit.md`.

mod chain;
mod hex;
mod statement;
mod verify;
#[cfg(test)]
mod verify_tests;

pub use chain::{Fields, Hash, NONE, Position, canonical, hash, line, link};
pub use hex::{from_hex, hex};
pub use statement::{InvalidSeed, Kind, Signer, Statement, is_signed};
pub use verify::{Fault, Options, Seen, Summary, Verifier};

/// The target of the records in the operator's log.
pub const LOG_TARGET: &str = "marketrelay::audit";
