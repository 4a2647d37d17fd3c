//! Where a Job's pod finds what is mounted.

/// The configuration file.
pub const CONFIG: &str = "/etc/marketrelay/job/job.yaml";
/// The folder that it is in: the ConfigMap's entry of the site.
pub const CONFIG_FOLDER: &str = "/etc/marketrelay/job";
/// What was erased, compressed, for a Job that restores or drills.
pub const ERASURES: &str = "/etc/marketrelay/job/erasures.json.zst";
/// The store's credentials, as in the tenant's Secret: `accessKeyId`, `secretAccessKey`, `sessionToken` if there is one.
pub const STORE: &str = "/etc/marketrelay/store";
/// As [`STORE`], of the near site, for a Job that may need both.
pub const STORE_ON_SITE: &str = "/etc/marketrelay/store-on-site";
/// As [`STORE`], of the far site, for a Job that may need both.
pub const STORE_OFF_SITE: &str = "/etc/marketrelay/store-off-site";
/// The credentials of all stores that a connection has used, for a Job that purges them.
pub const STORES: &str = "/etc/marketrelay/stores";
/// The identities that open backups, as in their Secret.
pub const IDENTITIES: &str = "/etc/marketrelay/identities";
/// The keys as they are escrowed: [`ESCROWED`] and [`ESCROW_FINGERPRINT`].
pub const ESCROW: &str = "/etc/marketrelay/escrow";
/// The encrypted document, in the Secret, and in the store below `escrow/`.
pub const ESCROWED: &str = "keyring.age";
/// What the document is known by, in the Secret: a [fingerprint](super::fingerprint).
pub const ESCROW_FINGERPRINT: &str = "fingerprint";
/// The database that a restored one took the place of, until the restored one is at work: beside it on the volume.
pub const REPLACED: &str = "replaced.db";
/// A database that a restore makes, before it is the relay's, and what the names of its other files begin with.
pub const RESTORED: &str = "restored.db";
/// The Job's client certificate for the relay: `tls.crt`, `tls.key`, `ca.crt`.
pub const TLS: &str = "/etc/marketrelay/tls";
/// What the container leaves behind for the operator: a [`JobReport`](super::JobReport) as JSON, below 4 KiB.
pub const TERMINATION: &str = "/dev/termination-log";
/// The URI in a client certificate's subjectAltName that lets a Job have a snapshot, and nothing else.
pub const ROLE: &str = "urn:marketrelay:role:backup";
