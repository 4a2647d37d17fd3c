//! The relay's tests, one file for each promise.

mod admin;
mod body;
mod collecting;
mod common;
mod delivering;
mod ending;
mod erasing;
mod killing;
mod misconfigured;
mod refusing;
mod relaying;
mod rotating;
mod silence;
mod storing;
