//! A connection's backups: what is wanted of them, what their Jobs have reported, and what follows from that for its status.

mod ended;
mod first;
mod recorded;
mod verdict;
mod wanted;

pub use first::begin;
pub use recorded::recorded;
pub use verdict::{overdue, verdicts};
pub use wanted::{Store, Wanted, wanted};
