//! What a platform engineer sees on a whole cluster: YAML in, orders out, faults survived. `cargo xtask e2e` makes the
//! cluster and runs this.

mod alone;
mod audit;
mod backups;
mod closure;
mod cluster;
mod connections;
mod drills;
mod erasure;
mod failures;
mod faults;
mod holds;
mod isolation;
mod lost;
mod outages;
mod privacy;
mod relaying;
mod restores;
mod sandbox;
mod stalled;
mod tenant;
