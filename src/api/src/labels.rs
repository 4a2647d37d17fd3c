//! Names of labels, annotations and field managers.

/// `app.kubernetes.io/name`: what it is.
pub const NAME: &str = "app.kubernetes.io/name";
/// `app.kubernetes.io/instance`: the connection's name.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// `app.kubernetes.io/managed-by`: [`OPERATOR`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// `app.kubernetes.io/component`: the part of the connection.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The name of the connection that an object belongs to.
pub const CONNECTION: &str = "marketrelay.dev/connection";
/// The connection's id, on what outlives the connection.
pub const CONNECTION_ID: &str = "marketrelay.dev/connection-id";
/// The namespace of the connection that a record is about.
pub const NAMESPACE: &str = "marketrelay.dev/namespace";
/// The marketplace whose orders a volume holds.
pub const MARKETPLACE: &str = "marketrelay.dev/marketplace";
/// On a volume claim: the retention in effect for what it holds, as JSON.
pub const RETENTION: &str = "marketrelay.dev/retention";
/// `"true"` on what stays when its connection is deleted.
pub const RETAINED: &str = "marketrelay.dev/retained";
/// Which site of backups a CronJob, a Job or a pod is for: `on-site` or `off-site`.
pub const SITE: &str = "marketrelay.dev/site";
/// What a Job of backups does: `run` or `prune`.
pub const TASK: &str = "marketrelay.dev/task";
/// On the ConfigMap of backups: the names of its entries.
pub const ENTRIES: &str = "marketrelay.dev/entries";
/// On a Job of backups: the store that it works with, whose Jobs are few at a time.
pub const STORE: &str = "marketrelay.dev/store";
/// On a Job of backups: the store and the prefix in it.
pub const PLACE: &str = "marketrelay.dev/place";
/// Keeps Velero from copying key material.
pub const VELERO_EXCLUDE: &str = "velero.io/exclude-from-backup";

/// On a StorageClass, by the platform engineer: `"true"` if its volumes are encrypted at rest, `"false"` if not.
pub const ENCRYPTED: &str = "marketrelay.dev/encrypted";
/// Hash of the relay's configuration, so that a change restarts it.
pub const CONFIG_HASH: &str = "marketrelay.dev/config-hash";

/// On a StatefulSet: hash of what its relay has from the operator's configuration, the image among it.
pub const REVISION: &str = "marketrelay.dev/revision";
/// Since when a StatefulSet that was ready before has the revision that it has.
pub const REVISION_SINCE: &str = "marketrelay.dev/revision-since";
/// Hex SHA-256 of the authority that signed a certificate.
pub const ISSUER: &str = "marketrelay.dev/issuer";
/// On a keyring: since when it has the newest generation of its volume key.
pub const VOLUME_KEY_SINCE: &str = "marketrelay.dev/volume-key-since";
/// On a keyring: the key epoch that held then, in seconds.
pub const KEY_EPOCH: &str = "marketrelay.dev/key-epoch";
/// On a keyring: the audit log of the connection's database, once there is a backup of it. A relay that doesn't find that
/// database on its volume must not begin another one.
pub const DATABASE: &str = "marketrelay.dev/database";
/// The value of [`DATABASE`] where the database isn't known: any one will do, but there must be one.
pub const UNKNOWN_DATABASE: &str = "unknown";
/// On a keyring of a lost cluster: a backup that was taken before this time would bring back what was erased there, since not every
/// erasure is known any more.
pub const ERASURES_KNOWN_SINCE: &str = "marketrelay.dev/erasures-known-since";
/// On a connection, by a person: the audit log of the database that is given up, so that the relay may begin another one.
pub const BEGIN_ANEW: &str = "marketrelay.dev/begin-anew";
/// On escrowed keys: what they are known by.
pub const FINGERPRINT: &str = "marketrelay.dev/fingerprint";
/// On escrowed keys: since when they are so.
pub const FINGERPRINT_SINCE: &str = "marketrelay.dev/fingerprint-since";
/// On an ErasureRequest that no person made: what made it, [`EBAY_NOTICE`] or [`RECOVERED`].
pub const SOURCE: &str = "marketrelay.dev/source";
/// When a certificate is to be replaced.
pub const RENEW_AFTER: &str = "marketrelay.dev/renew-after";

/// The value of [`NAME`].
pub const APP: &str = "marketrelay";
/// The field manager and the value of [`MANAGED_BY`].
pub const OPERATOR: &str = "marketrelay-operator";
/// The value of [`SOURCE`] on what eBay's notices asked for.
pub const EBAY_NOTICE: &str = "ebay-notice";
/// The value of [`SOURCE`] on what was asked for in a cluster that was lost.
pub const RECOVERED: &str = "recovered";
/// The [`COMPONENT`] of a connection's pod and what serves it.
pub const RELAY: &str = "relay";
/// The [`COMPONENT`] of what takes a connection's backups.
pub const BACKUP: &str = "backup";
/// The [`COMPONENT`] of what deletes a closed connection's backups, in the operator's namespace.
pub const PURGE: &str = "purge";
/// The [`COMPONENT`] of what the operator itself keeps.
pub const PKI: &str = "pki";
/// The [`COMPONENT`] of key material.
pub const KEYS: &str = "keys";
