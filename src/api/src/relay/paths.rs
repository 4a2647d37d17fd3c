//! Where the relay's pod finds what the operator mounts, and what its volume holds.

/// The ConfigMap's entries.
pub const CONFIG_FOLDER: &str = "/etc/marketrelay/config";
/// The configuration file, from the ConfigMap's entry `relay.yaml`.
pub const CONFIG: &str = "/etc/marketrelay/config/relay.yaml";
/// From the ConfigMap's entry `database.yaml`, if there is one: [`KnownDatabase`](super::KnownDatabase).
pub const KNOWN_DATABASE: &str = "/etc/marketrelay/config/database.yaml";
/// The keyring Secret's entries.
pub const KEYRING: &str = "/etc/marketrelay/keyring";
/// The namespace's digest key, entry `digest-key`.
pub const DIGEST: &str = "/etc/marketrelay/digest";
/// The database key Secret, entry `database-key`: 32 bytes.
pub const DATABASE_KEY: &str = "/etc/marketrelay/database";
/// The marketplace's credentials, as in the tenant's Secret.
pub const CREDENTIALS: &str = "/etc/marketrelay/credentials";
/// The webhook's signing Secret, entry `signingSecret` and, while rotating, `previousSigningSecret`.
pub const SIGNING: &str = "/etc/marketrelay/signing";
/// The admin API's certificate: `tls.crt`, `tls.key`, `ca.crt`.
pub const TLS: &str = "/etc/marketrelay/tls";
/// The volume.
pub const DATA: &str = "/var/lib/marketrelay";
/// The database, in [`DATA`].
pub const DATABASE: &str = "marketrelay.db";
/// The exit code of a relay that doesn't find the database that it is told of: `EX_NOINPUT` of sysexits.h.
pub const NO_DATABASE: u8 = 66;
/// The admin API's port.
pub const ADMIN_PORT: u16 = 9443;
/// The URI in a client certificate's subjectAltName that the admin API lets in, beside the metrics role.
pub const OPERATOR_ROLE: &str = "urn:marketrelay:role:operator";
/// May read `/metrics` alone.
pub const METRICS_ROLE: &str = "urn:marketrelay:role:metrics";
