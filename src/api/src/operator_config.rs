//! The operator's configuration file, written by the chart from its values.

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};
use snafu::{ResultExt, Snafu, ensure};

use crate::{
    Duration,
    connection::MarketplaceKind,
    quantity::quantity,
    relay::{Egress, MarketplaceEndpoints},
};

mod backup;

pub use backup::{BackupSettings, Escrow, S3Defaults, SiteDefaults};

/// The operator's configuration. An unknown field is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperatorConfig {
    /// The relay's pods.
    pub relay: RelayPods,
    /// Volumes.
    #[serde(default)]
    pub storage: StorageDefaults,
    /// Policies may have durations below a day. For tests only: personal data is gone within minutes.
    #[serde(default)]
    pub allow_short_durations: bool,
    /// How a changed retention takes effect.
    #[serde(default)]
    pub retention: RetentionSettings,
    /// Endpoints other than the official ones, for sandboxes.
    #[serde(default)]
    pub endpoints: Endpoints,
    /// What relays may connect to beside the public internet.
    #[serde(default)]
    pub egress: EgressSettings,
    /// How a new relay image reaches the connections.
    #[serde(default)]
    pub rollout: Rollout,
    /// Closures of accounts.
    #[serde(default)]
    pub closure: ClosureSettings,
    /// Backups; without them, connections that ask for backups get none, and say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupSettings>,
    /// How the operator works.
    #[serde(default)]
    pub controller: ControllerSettings,
}

/// The relay's pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RelayPods {
    /// The image.
    pub image: String,
    /// When it is pulled.
    #[serde(default)]
    pub image_pull_policy: PullPolicy,
    /// Names of Secrets in the connections' namespaces.
    #[serde(default)]
    pub image_pull_secrets: Vec<String>,
    /// Requests and limits.
    #[serde(default)]
    pub resources: Resources,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// If it isn't there.
    #[default]
    IfNotPresent,
    /// Never.
    Never,
}

/// Requests and limits of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// What is reserved.
    pub requests: BTreeMap<String, Quantity>,
    /// What it may not exceed.
    pub limits: BTreeMap<String, Quantity>,
}

impl Default for Resources {
    fn default() -> Self {
        Self::of([("cpu", "10m"), ("memory", "24Mi")], [("cpu", "1"), ("memory", "128Mi")])
    }
}

impl Resources {
    fn of(requests: [(&str, &str); 2], limits: [(&str, &str); 2]) -> Self {
        let quantities = |pairs: [(&str, &str); 2]| {
            pairs.map(|(name, quantity)| (name.to_owned(), Quantity(quantity.to_owned()))).into()
        };
        Self { requests: quantities(requests), limits: quantities(limits) }
    }

    /// The API server would refuse every pod of `pods`.
    fn check(&self, pods: &'static str) -> Result<(), OperatorConfigError> {
        for (name, request) in &self.requests {
            let Some(limit) = self.limits.get(name) else { continue };
            let above =
                matches!((quantity(&request.0), quantity(&limit.0)), (Some(one), Some(most)) if one > most);
            let (request, limit) = (request.0.as_str(), limit.0.as_str());
            ensure!(!above, RequestAboveLimitSnafu { pods, name, request, limit });
        }
        Ok(())
    }
}

/// Volumes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageDefaults {
    /// The StorageClass of connections that name none. Absent: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_storage_class_name: Option<String>,
}

/// Endpoints per marketplace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    /// Amazon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amazon: Option<MarketplaceEndpoints>,
    /// eBay's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebay: Option<MarketplaceEndpoints>,
    /// Bol's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bol: Option<MarketplaceEndpoints>,
}

impl Endpoints {
    /// Those of one marketplace.
    pub fn of(&self, marketplace: MarketplaceKind) -> Option<&MarketplaceEndpoints> {
        match marketplace {
            MarketplaceKind::Amazon => self.amazon.as_ref(),
            MarketplaceKind::Ebay => self.ebay.as_ref(),
            MarketplaceKind::Bol => self.bol.as_ref(),
        }
    }
}

/// What relays may connect to beside the public internet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EgressSettings {
    /// Private networks, such as `10.20.0.0/16`.
    pub allowed_networks: Vec<IpNet>,
    /// PEM certificates of authorities that are trusted beside the public ones.
    pub extra_ca_certificates: String,
}

impl From<&EgressSettings> for Egress {
    fn from(settings: &EgressSettings) -> Self {
        Self {
            allowed_networks: settings.allowed_networks.clone(),
            extra_ca_certificates: settings.extra_ca_certificates.clone(),
        }
    }
}

/// How a new relay image, or another change of what relays have from this configuration, reaches the connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rollout {
    /// How many relays may be starting with what is new at the same time.
    pub max_updating: u32,
    /// Seconds after which a relay that isn't ready with what is new halts the roll-out.
    pub halt_after_seconds: u32,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { max_updating: 5, halt_after_seconds: 300 }
    }
}

/// How a changed retention takes effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetentionSettings {
    /// How long a shortened retention waits before it takes effect; below 1h only with
    /// [`allow_short_durations`](OperatorConfig::allow_short_durations).
    pub shortening_delay: Duration,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self { shortening_delay: Duration::hours(24) }
    }
}

/// Closures of accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClosureSettings {
    /// How many may begin within an hour; each further one waits for a confirmation on its record. 0: every one waits.
    pub breaker: u32,
}

impl Default for ClosureSettings {
    fn default() -> Self {
        Self { breaker: 5 }
    }
}

/// How the operator works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ControllerSettings {
    /// How many connections are worked on at the same time, 1 to 64.
    pub concurrency: u16,
    /// Seconds between two looks at a relay's status, 5 to 300.
    pub status_interval_seconds: u32,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        Self { concurrency: 12, status_interval_seconds: 20 }
    }
}

/// The configuration can't be used.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum OperatorConfigError {
    #[snafu(display("the operator's configuration can't be read: {source}"))]
    Parse { source: serde_yaml::Error },
    #[snafu(display("{field} in the operator's configuration {problem}"))]
    Value { field: &'static str, problem: &'static str },
    #[snafu(display(
        "backup.escrow.recipients[{index}] in the operator's configuration: {shown} isn't an age X25519 recipient: its checksum or \
         form is wrong, perhaps by a typo; write age1…, as age-keygen prints it (the public key, never AGE-SECRET-KEY-1…)"
    ))]
    Recipient { index: usize, shown: String },
    #[snafu(display(
        "{pods}.resources.requests.{name} in the operator's configuration is {request}, above {pods}.resources.limits.{name} \
         of {limit}: lower the request, or raise the limit"
    ))]
    RequestAboveLimit { pods: &'static str, name: String, request: String, limit: String },
}

fn check(holds: bool, field: &'static str, problem: &'static str) -> Result<(), OperatorConfigError> {
    ensure!(holds, ValueSnafu { field, problem });
    Ok(())
}

impl OperatorConfig {
    /// Reads and checks the file's text.
    pub fn parse(text: &str) -> Result<Self, OperatorConfigError> {
        let config: Self = serde_yaml::from_str(text).context(ParseSnafu)?;
        check(!config.relay.image.trim().is_empty(), "relay.image", "is empty: name the relay's image")?;
        check(config.rollout.max_updating > 0, "rollout.maxUpdating", "is 0: nothing would ever be updated")?;
        let concurrency = (1..=64).contains(&config.controller.concurrency);
        check(concurrency, "controller.concurrency", "must be between 1 and 64")?;
        let interval = (5..=300).contains(&config.controller.status_interval_seconds);
        check(interval, "controller.statusIntervalSeconds", "must be between 5 and 300")?;
        let delay = config.allow_short_durations || config.retention.shortening_delay.as_secs() >= 3_600;
        check(
            delay,
            "retention.shorteningDelay",
            "is below 1h, too little to notice a mistake and take it back: write 1h or more (allowShortDurations is \
             for tests)",
        )?;
        let memory = config.relay.resources.limits.contains_key("memory");
        check(memory, "relay.resources.limits", "has no memory: a relay must be bounded")?;
        config.relay.resources.check("relay")?;
        config.backup.as_ref().map_or(Ok(()), BackupSettings::check)?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_all_that_must_be_configured() {
        let config = OperatorConfig::parse("relay: {image: 'marketrelay.dev/relay:1'}").expect("complete");
        assert_eq!(config.relay.image_pull_policy, PullPolicy::IfNotPresent);
        assert_eq!((config.rollout.max_updating, config.controller.concurrency), (5, 12));
        assert!(!config.allow_short_durations);
        assert_eq!(config.retention.shortening_delay.to_string(), "24h");
    }

    #[test]
    fn a_request_up_to_its_limit_and_one_without_a_limit_are_taken() {
        let resources = "{requests: {memory: 1024Mi, cpu: 8}, limits: {memory: 1Gi}}";
        OperatorConfig::parse(&format!("relay: {{image: a, resources: {resources}}}"))
            .expect("within limits");
    }

    #[test]
    fn a_delay_below_an_hour_needs_the_permission_for_short_durations() {
        let config = "relay: {image: a}\nallowShortDurations: true\nretention: {shorteningDelay: 1s}";
        let config = OperatorConfig::parse(config).expect("allowed");
        assert_eq!(config.retention.shortening_delay.as_secs(), 1);
        OperatorConfig::parse("relay: {image: a}\nretention: {shorteningDelay: 1h}").expect("long enough");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("relay: {image: ''}", "relay.image"),
            ("relay: {image: a, imagePullPolicy: Sometimes}", "Sometimes"),
            ("relay: {image: a}\nalowShortDurations: true", "alowShortDurations"),
            ("relay: {image: a}\nrollout: {maxUpdating: 0}", "rollout.maxUpdating"),
            ("relay: {image: a}\ncontroller: {concurrency: 100}", "controller.concurrency"),
            ("relay: {image: a, resources: {requests: {}, limits: {}}}", "relay.resources.limits"),
            (
                "relay: {image: a, resources: {requests: {memory: 1Gi}, limits: {memory: 1000Mi}}}",
                "relay.resources.requests.memory in the operator's configuration is 1Gi, above \
                 relay.resources.limits.memory of 1000Mi: lower the request, or raise the limit",
            ),
            ("relay: {image: a}\nbackup: {image: ' '}", "backup.image"),
            ("relay: {image: a}\nbackup: {concurrentRuns: 4}", "image"),
            ("relay: {image: a}\nbackup: {image: b, concurrentRuns: 0}", "backup.concurrentRuns"),
            ("relay: {image: a}\nbackup: {image: b, deadlineSeconds: 59}", "backup.deadlineSeconds"),
            (
                "relay: {image: a}\nbackup: {image: b, resources: {requests: {}, limits: {}}}",
                "backup.resources.limits",
            ),
            (
                "relay: {image: a}\nbackup: {image: b, onSite: {s3: {endpoint: 'http://s3.acme.example'}}}",
                "backup.onSite.s3.endpoint",
            ),
            ("relay: {image: a}\nbackup: {image: b, offSite: {s3: {buket: b}}}", "buket"),
            (
                "relay: {image: a}\nbackup: {image: b, escrow: {recipients: [AGE-SECRET-KEY-1]}}",
                "backup.escrow.recipients",
            ),
            ("relay: {image: a}\nretention: {shorteningDelay: 59m}", "retention.shorteningDelay"),
            ("relay: {image: a}\nretention: {shorteningDelay: 0h}", "\"0h\" is not a duration"),
            ("relay: {image: a}\nendpoints: {bol: {api: 'https://x'}}", "token"),
        ] {
            let error = OperatorConfig::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
