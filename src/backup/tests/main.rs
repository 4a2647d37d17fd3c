//! The Jobs as programs, between a relay and a real S3 server.

mod authority;
mod by_hand;
mod proxy;
mod pruning;
mod relay;
mod s3;
mod stores;
mod world;
mod writing;
