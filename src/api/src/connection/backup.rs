//! Where a connection's backups go, when they are taken, and what has become of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;
use crate::{backup::Site, rules};

/// When backups are taken, and where they go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.onSite) || has(self.offSite)")
    .message("name at least one site: onSite (near the cluster), offSite (far from it), or better both; to have no backups, leave out spec.backup"))]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// When: minute, hour, day of the month, month, day of the week, as in a CronJob. `H` stands for a value of the connection's
    /// own, another one for each site, so that not all connections are backed up at the same time.
    #[serde(default = "default_schedule")]
    #[schemars(length(max = 200))]
    #[x_kube(validation = rules::schedule())]
    pub schedule: String,
    /// The schedule's time zone, such as Europe/Amsterdam.
    #[serde(default = "default_time_zone")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::time_zone())]
    pub time_zone: String,
    /// When the newest backup of each site is restored into a database of its own and checked, like `schedule`. At least once in
    /// 31 days.
    #[serde(default = "default_drill_schedule")]
    #[schemars(length(max = 200))]
    #[x_kube(validation = rules::schedule())]
    pub drill_schedule: String,
    /// true: no backups are taken by the schedules, and none are drilled. Those that there are still expire, and are pruned. A Job
    /// that a person makes of a CronJob runs all the same.
    #[serde(default)]
    pub suspend: bool,
    /// Near the cluster: quick to restore from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_site: Option<SiteStore>,
    /// Far from it, with other credentials: for the loss of the whole site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_site: Option<SiteStore>,
}

impl Backup {
    /// One of the sites.
    pub fn site(&self, site: Site) -> Option<&S3> {
        let store = match site {
            Site::OnSite => &self.on_site,
            Site::OffSite => &self.off_site,
        };
        store.as_ref().map(|store| &store.s3)
    }

    /// Those that are asked for.
    pub fn sites(&self) -> impl Iterator<Item = (Site, &S3)> {
        Site::ALL.into_iter().filter_map(|site| Some((site, self.site(site)?)))
    }
}

/// A store of backups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SiteStore {
    /// A bucket of S3 or of a store that speaks its protocol.
    pub s3: S3,
}

/// A bucket. What isn't named is the operator's default for the site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// The Secret with the credentials. Entries: `accessKeyId`, `secretAccessKey`, and `sessionToken` if there is one. They
    /// need to list, read, write and delete below the prefix. It may change at any time.
    pub credentials_secret_ref: SecretRef,
    /// The store's address; https only. Without one, here or as the operator's default: Amazon S3 in the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() == 'https' && url(self).getHostname() != ''")
        .message("endpoint must be an https address such as https://s3.acme.example: backups never travel unencrypted"))]
    #[x_kube(validation = Rule::new("!self.matches('^[a-zA-Z]+://[^/?#]*(/.|[?#@])')")
        .message("endpoint must be the store's address alone, without user name, path or query: the bucket has a field of its own, credentials have a Secret"))]
    pub endpoint: Option<String>,
    /// The bucket's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$')")
        .message("bucket must be a bucket's name: 3 to 63 lowercase letters, digits, '-' and '.'; what comes after it is the prefix"))]
    pub bucket: Option<String>,
    /// The bucket's region, such as eu-central-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')")
        .message("region must be a region's name such as eu-central-1; stores that know no regions take us-east-1"))]
    pub region: Option<String>,
    /// Before the connection's id in the names of the objects; other objects below `PREFIX/ID/` are left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$') && !('/' + self + '/').matches('/[.][.]?/')")
        .message("prefix must be words between slashes such as backups/acme, without a slash at its ends: letters, digits and _ . -"))]
    pub prefix: Option<String>,
}

fn default_schedule() -> String {
    "H H * * *".to_owned()
}

fn default_drill_schedule() -> String {
    "H H * * H".to_owned()
}

fn default_time_zone() -> String {
    "Etc/UTC".to_owned()
}

/// The backups that there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backups {
    /// When the newest backup was taken, at the site where that is longer ago; absent while a site has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Time>,
    /// When a drill last succeeded, at the site where that is longer ago; absent while one has had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drilled: Option<Time>,
    /// Near the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_site: Option<SiteBackups>,
    /// Far from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_site: Option<SiteBackups>,
}

impl Backups {
    /// Of one site.
    pub fn site(&self, site: Site) -> Option<&SiteBackups> {
        match site {
            Site::OnSite => self.on_site.as_ref(),
            Site::OffSite => self.off_site.as_ref(),
        }
    }

    /// Of one site.
    pub fn site_mut(&mut self, site: Site) -> &mut Option<SiteBackups> {
        match site {
            Site::OnSite => &mut self.on_site,
            Site::OffSite => &mut self.off_site,
        }
    }
}

/// The backups of one site, as its Jobs have reported them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteBackups {
    /// The bucket that this is about, and the prefix in it.
    #[serde(default)]
    pub store: String,
    /// Since when the connection has it.
    pub since: Time,
    /// When the last backup was taken that was written and read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Time>,
    /// Its number: it grows with each backup of the connection, at whichever site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    /// When the newest backup in the store was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Time>,
    /// When the oldest one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Time>,
    /// How many there are.
    #[serde(default)]
    pub count: i64,
    /// Their bytes, older versions and unfinished uploads included.
    #[serde(default)]
    pub bytes: i64,
    /// What should be gone and is still there: backups, versions and unfinished uploads. 0 unless something is wrong.
    #[serde(default)]
    pub overdue: i64,
    /// Objects below the connection's prefix that are none of its backups; they are left alone.
    #[serde(default)]
    pub foreign: i64,
    /// Backups whose manifest can't be read, isn't theirs or isn't signed by the relay: they count as none.
    #[serde(default)]
    pub damaged: i64,
    /// Ids of the newest 10 that spec.restore.backup may name, the newest first; marketrelay-backup list shows all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restorable: Vec<String>,
    /// When the store was last listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed_at: Option<Time>,
    /// When a Job last found that there is no such bucket: what was told before is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_at: Option<Time>,
    /// The last Job that was to write a backup and has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<JobResult>,
    /// The last Job that only pruned and listed and has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_prune: Option<JobResult>,
    /// The last Job that drilled and has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_drill: Option<JobResult>,
    /// The last drill that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drilled: Option<DrilledBackup>,
    /// The last Job that was to escrow keys here and has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_escrow: Option<JobResult>,
    /// The keys that are escrowed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escrowed: Option<EscrowedKeys>,
    /// The newest archive of each hold whose key there is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<HoldArchive>,
}

/// Keys that are kept in the off-site store for who restores a lost cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EscrowedKeys {
    /// What they are known by, not secret.
    pub fingerprint: String,
    /// When the store was last listed for them.
    pub at: Time,
    /// Older versions that could not be removed, and may hold keys whose time has come. 0 unless something is wrong.
    #[serde(default)]
    pub old_versions: i64,
}

/// What a hold keeps, in a store, for as long as the hold lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldArchive {
    /// The hold's name.
    pub hold: String,
    /// The hold's id, the digest of its key: the archive's folder below `holds/`.
    pub id: String,
    /// The archive's id, in the form of a backup's.
    pub backup: String,
    /// When it was taken; it was written and read back.
    pub at: Time,
    /// It has what the relay kept up to this one of its revisions.
    pub revision: i64,
    /// Orders in it.
    pub orders: i64,
}

/// A backup that was restored into a database of its own and found to be right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrilledBackup {
    /// Its id.
    pub backup: String,
    /// When that was.
    pub at: Time,
    /// How old the backup was then, in seconds: what a restore would have lost, but for what the marketplace tells again.
    pub age_seconds: i64,
    /// How long it took, in seconds: what a restore takes.
    pub seconds: i64,
    /// Orders whose personal data was opened.
    pub opened: i64,
}

/// How a Job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobResult {
    /// The Job's name.
    pub job: String,
    /// When it ended.
    pub finished_at: Time,
    /// Why it failed, for machines; absent if it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happened and what to do; absent if it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
