use serde::{Deserialize, Serialize};
use snafu::ensure;
use url::Url;

use super::{OperatorConfigError, PullPolicy, RecipientSnafu, Resources, check};
use crate::backup::Site;

/// Backups: the pods of their Jobs, how many run, and where they go unless connections say it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupSettings {
    /// The image; it is pulled with the Secrets of [`RelayPods::image_pull_secrets`](super::RelayPods::image_pull_secrets).
    pub image: String,
    /// When it is pulled.
    #[serde(default)]
    pub image_pull_policy: PullPolicy,
    /// Requests and limits.
    #[serde(default = "backup_resources")]
    pub resources: Resources,
    /// A Job that takes longer is ended, 60 to 86400.
    #[serde(default = "default_deadline")]
    pub deadline_seconds: u32,
    /// How many Jobs may work with the same store at the same time, 1 to 1000.
    #[serde(default = "default_concurrent_runs")]
    pub concurrent_runs: u32,
    /// Who can open the escrowed keys of a lost cluster.
    #[serde(default, skip_serializing_if = "Escrow::is_off")]
    pub escrow: Escrow,
    /// Near the cluster.
    #[serde(default)]
    pub on_site: SiteDefaults,
    /// Far from it.
    #[serde(default)]
    pub off_site: SiteDefaults,
}

impl BackupSettings {
    /// Of one site.
    pub fn site(&self, site: Site) -> &S3Defaults {
        match site {
            Site::OnSite => &self.on_site.s3,
            Site::OffSite => &self.off_site.s3,
        }
    }

    pub(super) fn check(&self) -> Result<(), OperatorConfigError> {
        check(!self.image.trim().is_empty(), "backup.image", "is empty: name the image of the backups")?;
        let deadline = (60..=86_400).contains(&self.deadline_seconds);
        check(deadline, "backup.deadlineSeconds", "must be between 60 and 86400")?;
        let runs = (1..=1_000).contains(&self.concurrent_runs);
        check(runs, "backup.concurrentRuns", "must be between 1 and 1000")?;
        let memory = self.resources.limits.contains_key("memory");
        check(memory, "backup.resources.limits", "has no memory: a Job must be bounded")?;
        for (site, field) in
            [(Site::OnSite, "backup.onSite.s3.endpoint"), (Site::OffSite, "backup.offSite.s3.endpoint")]
        {
            let https = self.site(site).endpoint.as_ref().is_none_or(|endpoint| endpoint.scheme() == "https");
            check(https, field, "must be an https address: backups never travel unencrypted")?;
        }
        self.escrow.check()?;
        self.resources.check("backup")
    }
}

/// Keys are kept with the off-site backups too, for who restores a lost cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Escrow {
    /// age X25519 recipients, `age1…`: each of their identities opens the keys of every connection. None: keys aren't escrowed.
    pub recipients: Vec<String>,
}

impl Escrow {
    fn is_off(&self) -> bool {
        self.recipients.is_empty()
    }

    /// Whether somebody can open what is escrowed.
    pub fn is_on(&self) -> bool {
        !self.is_off()
    }

    fn check(&self) -> Result<(), OperatorConfigError> {
        for (index, text) in self.recipients.iter().enumerate() {
            // What isn't a public key may be a private one.
            let shown = if text.starts_with("age1") { text } else { "what is there" };
            let is_recipient = text.parse::<age::x25519::Recipient>().is_ok();
            ensure!(is_recipient, RecipientSnafu { index, shown });
        }
        Ok(())
    }
}

/// What connections needn't say about a site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SiteDefaults {
    /// Of its store.
    pub s3: S3Defaults,
}

/// What connections needn't say about a store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct S3Defaults {
    /// https only. Absent: AWS, by the region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Url>,
    /// The bucket's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// Such as `eu-central-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Before the connections' ids, without a slash at its ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Whether the bucket is in the path instead of in the host name. Absent: it is, unless the store is AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
}

fn backup_resources() -> Resources {
    Resources::of([("cpu", "10m"), ("memory", "32Mi")], [("cpu", "1"), ("memory", "128Mi")])
}

fn default_deadline() -> u32 {
    3_600
}

fn default_concurrent_runs() -> u32 {
    4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OperatorConfig;

    #[test]
    fn backups_need_an_image_and_have_defaults_for_everything_else() {
        let config = OperatorConfig::parse("relay: {image: a}\nbackup: {image: b}").expect("complete");
        let backup = config.backup.expect("backups");
        assert_eq!((backup.deadline_seconds, backup.concurrent_runs), (3_600, 4));
        assert_eq!(backup.site(Site::OffSite), &S3Defaults::default());
        assert_eq!(backup.resources.limits["memory"].0, "128Mi");
    }

    #[test]
    fn a_recipient_with_a_wrong_character_is_named_and_an_identity_is_never_shown() {
        let good = age::x25519::Identity::generate().to_public().to_string();
        let last = if good.ends_with('q') { "p" } else { "q" };
        let typo = format!("{}{last}", &good[..good.len() - 1]);
        let refusal = |second: &str| {
            let text = format!(
                "relay: {{image: a}}\nbackup: {{image: b, escrow: {{recipients: [{good}, {second}]}}}}"
            );
            OperatorConfig::parse(&text).expect_err(second).to_string()
        };
        let told = refusal(&typo);
        assert!(told.contains("backup.escrow.recipients[1]") && told.contains(&typo), "{told}");
        assert!(!told.contains(&good), "{told}");
        let told = refusal("AGE-SECRET-KEY-1QQ");
        assert!(told.contains("backup.escrow.recipients[1]") && !told.contains("1QQ"), "{told}");
    }
}
