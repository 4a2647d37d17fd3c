//! The development commands, and the local clusters that the tests use.

pub mod bench;
pub mod cluster;
pub mod demo;
pub mod deny;
pub mod e2e;
pub mod generate;
pub mod image;
pub mod images;
pub mod kube;
pub mod paths;
pub mod progress;
pub mod run;
pub mod stage;
pub mod test;
