//! The Jobs as programs, between a relay and a real S3 server.

mod archiving;
mod authority;
mod by_hand;
mod drilling;
mod escrowing;
mod expiring;
mod proxy;
mod pruning;
mod purging;
mod recovering;
mod recovering_problems;
mod relay;
mod restore_job;
mod restoring;
mod restoring_archives;
mod restoring_full;
mod restoring_keys;
mod restoring_replaced;
mod restoring_volume;
mod s3;
mod stores;
mod tenant;
mod waiting;
mod world;
mod writing;
