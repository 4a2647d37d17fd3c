//! Jobs of backups are made waiting by their CronJobs, and begin when their store has room (ADR 24).

mod decide;
mod job;
mod release;
pub mod schedule;

pub use job::{BackupJob, End, Stage, Task, stage};
pub use release::{Releaser, Scoped};
