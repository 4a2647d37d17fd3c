//! The relay's tests, one file for each promise.

mod admin;
mod anonymising;
mod auditing;
mod body;
mod collecting;
mod common;
mod deadlines;
mod delivering;
mod ending;
mod erasing;
mod holding;
mod killing;
mod killing_keeper;
mod misconfigured;
mod refusing;
mod relaying;
mod restoring;
mod restoring_refused;
mod retention;
mod rotating;
mod silence;
mod snapshotting;
mod snapshotting_memory;
mod storing;
mod suspended;
mod volume_key;
