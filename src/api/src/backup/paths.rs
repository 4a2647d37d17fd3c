//! Where a Job's pod finds what is mounted.

/// The configuration file.
pub const CONFIG: &str = "/etc/marketrelay/job/job.yaml";
/// The folder that it is in: the ConfigMap's entry of the site.
pub const CONFIG_FOLDER: &str = "/etc/marketrelay/job";
/// The store's credentials, as in the tenant's Secret: `accessKeyId`, `secretAccessKey`, `sessionToken` if there is one.
pub const STORE: &str = "/etc/marketrelay/store";
/// The Job's client certificate for the relay: `tls.crt`, `tls.key`, `ca.crt`.
pub const TLS: &str = "/etc/marketrelay/tls";
/// What the container leaves behind for the operator: a [`JobReport`](super::JobReport) as JSON, below 4 KiB.
pub const TERMINATION: &str = "/dev/termination-log";
/// The URI in a client certificate's subjectAltName that lets a Job have a snapshot, and nothing else.
pub const ROLE: &str = "urn:marketrelay:role:backup";
