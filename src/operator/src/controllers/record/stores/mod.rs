//! The stores of a connection's backups: while it lives, a copy of their credentials is kept in the operator's namespace, and once
//! it is closed, everything of it goes from them (ADR 27); what is escrowed goes from those that it has left before (ADR 28).

mod advance;
mod attempt;
mod decide;
mod facts;
mod keep;
mod known;
mod objects;
mod purge;
mod secret;
mod withdraw;

pub use advance::{advance, are_remembered, close, forget};
pub use decide::{begun, noted, waiting};
pub use facts::{Facts, look};
pub use keep::{Copies, Kept, Source, Used, keep};
pub use known::{address, of};
pub use purge::Purge;
pub use withdraw::{retained, withdrawal, withdrawn};
