//! The Jobs as programs, between a relay and a real S3 server.

mod authority;
mod by_hand;
mod drilling;
mod proxy;
mod pruning;
mod purging;
mod relay;
mod restore_job;
mod restoring;
mod restoring_keys;
mod restoring_replaced;
mod restoring_volume;
mod s3;
mod stores;
mod tenant;
mod world;
mod writing;
