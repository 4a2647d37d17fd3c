//! What programs in pods share that know no Kubernetes: mounted files that change, the log, and an HTTP client that connects to
//! allowed addresses alone.

pub mod egress;
pub mod logging;
pub mod mounts;
pub mod tls;
