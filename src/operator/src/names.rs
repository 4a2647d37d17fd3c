//! The names of the objects that the operator makes.

use marketrelay_api::{backup::Site, key_secret};

use crate::controllers::backup::Task;

pub use marketrelay_api::{key_secret::DIGEST_KEY, notices::NAME as NOTICES};

/// The operator's certificate authority, in its own namespace.
pub const CA: &str = "marketrelay-ca";
/// The client certificate for whoever reads metrics, in the operator's own namespace.
pub const METRICS_CLIENT: &str = "marketrelay-metrics-client";
/// The entry of the database key Secret.
pub const DATABASE_KEY_ENTRY: &str = "database-key";
/// The election's Lease, in the operator's own namespace.
pub const LEASE: &str = "marketrelay-operator";

/// The `ServiceAccount` of Jobs that purge stores, in the operator's own namespace: the chart's.
pub const PURGE: &str = "marketrelay-purge";

/// The copy of the credentials of the stores that a connection has used, in the operator's own namespace.
pub fn stores(connection_id: &str) -> String {
    format!("{connection_id}-stores")
}

/// The `NetworkPolicy` of the Jobs that purge a connection's stores, in the operator's own namespace.
pub fn purge(connection_id: &str) -> String {
    format!("{connection_id}-purge")
}

/// The Job that tries to purge them, after so many others.
pub fn purge_attempt(connection_id: &str, attempts: i64) -> String {
    format!("{connection_id}-purge-{attempts}")
}

/// The `NetworkPolicy` of the Jobs that withdraw escrowed keys from stores that a connection has left, in the operator's own
/// namespace.
pub fn withdraw(connection_id: &str) -> String {
    format!("{connection_id}-withdraw")
}

/// The Job that tries to withdraw them, after so many others.
pub fn withdraw_attempt(connection_id: &str, attempts: i64) -> String {
    format!("{connection_id}-withdraw-{attempts}")
}

/// The `NetworkPolicy` of the Jobs that prune stores that a connection has left, in the operator's own namespace.
pub fn expire(connection_id: &str) -> String {
    format!("{connection_id}-expire")
}

/// The Job that tries to prune them, after so many others.
pub fn expire_attempt(connection_id: &str, attempts: i64) -> String {
    format!("{connection_id}-expire-{attempts}")
}

/// Whether Secrets of this name are the operator's, of this connection or another.
pub fn is_reserved(secret: &str) -> bool {
    let of = ["-keyring", "-database-key", "-relay-tls"];
    secret == DIGEST_KEY || of.iter().any(|ending| secret.ends_with(ending))
}

/// The children of the connection `name`.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a>(pub &'a str);

impl Names<'_> {
    /// The ServiceAccount, ConfigMap, StatefulSet, Service and NetworkPolicy.
    pub fn relay(self) -> String {
        format!("{}-relay", self.0)
    }

    /// The relay's only pod.
    pub fn pod(self) -> String {
        format!("{}-relay-0", self.0)
    }

    /// The relay's certificate.
    pub fn tls(self) -> String {
        format!("{}-relay-tls", self.0)
    }

    /// The volume claim.
    pub fn volume(self) -> String {
        format!("{}-data", self.0)
    }

    /// The keyring.
    pub fn keyring(self) -> String {
        key_secret::keyring(self.0)
    }

    /// The identities that open backups.
    pub fn backup_identities(self) -> String {
        key_secret::backup_identities(self.0)
    }

    /// The escrowed keys, as a Job brings them into the off-site store.
    pub fn escrow(self) -> String {
        format!("{}-escrow", self.0)
    }

    /// The database key.
    pub fn database_key(self) -> String {
        format!("{}-database-key", self.0)
    }

    /// The ConfigMap, ServiceAccount and NetworkPolicy of backups.
    pub fn backup(self) -> String {
        format!("{}-backup", self.0)
    }

    /// The Job of an attempt to restore a backup, and its ConfigMap: with room for a hundred thousand failures after the
    /// longest name of a connection.
    pub fn restore(self, since: jiff::Timestamp, failures: i64) -> String {
        format!("{}-restore-{:x}-{failures}", self.0, since.as_second())
    }

    /// The client certificate of backups.
    pub fn backup_tls(self) -> String {
        format!("{}-backup-tls", self.0)
    }

    /// A CronJob of backups. Its name may have 52 characters, 12 more than a connection's.
    pub fn cron_job(self, site: Site, task: Task) -> String {
        match (site, task) {
            (_, Task::Run) => format!("{}-{site}", self.0),
            (Site::OnSite, Task::Prune) => format!("{}-on-prune", self.0),
            (Site::OffSite, Task::Prune) => format!("{}-off-prune", self.0),
            (Site::OnSite, Task::Drill) => format!("{}-on-drill", self.0),
            (Site::OffSite, Task::Drill) => format!("{}-off-drill", self.0),
            (Site::OnSite, Task::Escrow) => format!("{}-on-escrow", self.0),
            (Site::OffSite, Task::Escrow) => format!("{}-off-escrow", self.0),
        }
    }

    /// The relay's host name inside the cluster.
    pub fn host(self, namespace: &str) -> String {
        format!("{}-relay.{namespace}.svc", self.0)
    }
}
