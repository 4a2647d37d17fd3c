use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::Expiry;

/// Where backups are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Site {
    /// Near the cluster.
    OnSite,
    /// Far from it.
    OffSite,
}

impl Site {
    /// Both.
    pub const ALL: [Self; 2] = [Self::OnSite, Self::OffSite];

    /// As a field of the connection: `onSite`.
    pub fn field(self) -> &'static str {
        match self {
            Self::OnSite => "onSite",
            Self::OffSite => "offSite",
        }
    }
}

impl fmt::Display for Site {
    /// As in names of objects: `on-site`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnSite => "on-site",
            Self::OffSite => "off-site",
        })
    }
}

/// The configuration file of a Job: everything is resolved, nothing is left to default. An unknown field is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobConfig {
    /// The connection's identity.
    pub connection_id: String,
    /// Its namespace, for logs.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which of its sites.
    pub site: Site,
    /// Where the backups of that site are.
    pub store: S3Store,
    /// The relay's admin API.
    pub relay: Url,
    /// The relay's public key, Ed25519, hex, once it has told it: what another one has signed is no backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// No backup may be older than this, in seconds.
    pub backup_retention_seconds: i64,
    /// The longest time until the next run, in seconds: what expires before it goes now.
    pub interval_seconds: i64,
    /// Keys are escrowed here. Those that were before, and aren't to be any more, are pruned.
    #[serde(default)]
    pub escrow: bool,
    /// The holds whose keys there are. Archives of others go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<LiveHold>,
}

impl JobConfig {
    /// When the time of its backups has come.
    #[must_use]
    pub fn expiry(&self) -> Expiry {
        Expiry {
            public_key: self.public_key.clone(),
            backup_retention_seconds: self.backup_retention_seconds,
            interval_seconds: self.interval_seconds,
            holds: Some(self.holds.clone()),
        }
    }
}

/// A hold whose key there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LiveHold {
    /// Its id: the digest of its key, 64 hex digits.
    pub id: String,
    /// Its name, for logs.
    pub name: String,
    /// When its key is destroyed.
    pub until: Timestamp,
    /// A run writes its archive. Not for all of very many: a report has no room for them.
    pub archive: bool,
}

/// An S3 bucket, and what in it is the connection's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Store {
    /// https only. Absent: AWS, by the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Url>,
    /// The bucket's name.
    pub bucket: String,
    /// Such as `eu-central-1`.
    pub region: String,
    /// Everything of the connection is under this: it ends with the connection's id, without a slash at its ends.
    pub prefix: String,
    /// The bucket is in the path instead of in the host name.
    pub path_style: bool,
    /// PEM certificates of authorities that are trusted beside the public ones.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ca_certificates: String,
}

impl S3Store {
    /// What makes it the same store. AWS's names of buckets are unique without a region.
    #[must_use]
    pub fn identity(&self) -> String {
        let endpoint = self.endpoint.as_ref().map_or("https://s3.amazonaws.com/", Url::as_str);
        format!("{endpoint}{}/{}/", self.bucket, self.prefix)
    }
}
