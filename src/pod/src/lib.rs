//! What programs in pods share that know no Kubernetes: mounted files that change, the log, the signal to end, and an HTTP
//! client that connects to allowed addresses alone.

pub mod egress;
pub mod logging;
pub mod mounts;
pub mod termination;
pub mod tls;
