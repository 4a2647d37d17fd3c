//! The stores of a connection's backups: while it lives, a copy of their credentials is kept in the operator's namespace, and once
//! it is closed, everything of it goes from them (ADR 27).

mod advance;
mod attempt;
mod decide;
mod facts;
mod keep;
mod known;
mod objects;
mod secret;

pub use advance::{advance, forget};
pub use decide::{begun, is_over, noted, waiting};
pub use facts::{Facts, look};
pub use keep::{Copies, Kept, Source, keep};
pub use known::{address, of};
