use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::digest::SubjectDigest;

/// The relay's configuration file: everything is resolved, nothing is left to default. An unknown field is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RelayConfig {
    /// The connection's identity.
    pub connection_id: String,
    /// Its namespace and name, for logs and metrics.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which marketplace, with its settings.
    #[serde(with = "serde_yaml::with::singleton_map")]
    pub marketplace: MarketplaceSettings,
    /// Instead of the official endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<MarketplaceEndpoints>,
    /// Seconds between polls.
    pub poll_interval_seconds: u64,
    /// How far back the first poll looks, in seconds.
    pub lookback_seconds: u64,
    /// Where orders go.
    pub destination: WebhookConfig,
    /// The retention that applies to this marketplace.
    pub retention: Retention,
    /// How long audit records are kept, in seconds.
    pub audit_retention_seconds: i64,
    /// What the relay may connect to.
    pub egress: Egress,
    /// Collect and deliver nothing; the admin API keeps answering.
    pub suspend: bool,
    /// What holds select. When they end is the keyring's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<HeldSelection>,
}

/// The orders that a hold selects: those that the digests name, and those that were placed in the range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeldSelection {
    /// The hold's name, as in the keyring.
    pub name: String,
    /// Of orders or buyers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub digests: Vec<SubjectDigest>,
    /// By the marketplace's time of the purchase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed: Option<Placed>,
}

/// A range of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Placed {
    /// Its first moment.
    pub from: Timestamp,
    /// The first that isn't in it any more.
    pub to: Timestamp,
}

/// Exactly one marketplace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum MarketplaceSettings {
    /// Amazon.
    Amazon(AmazonSettings),
    /// eBay.
    Ebay(EbaySettings),
    /// Bol.com.
    Bol(BolSettings),
}

/// Amazon's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AmazonSettings {
    /// `na`, `eu` or `fe`: the Selling Partner API's endpoint.
    pub region: String,
    /// Amazon's ids of the sites to collect from, at most 50.
    pub marketplace_ids: Vec<String>,
}

/// eBay's settings: none yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EbaySettings {}

/// Bol.com's settings: none yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BolSettings {}

/// Endpoints other than the official ones, from the operator's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MarketplaceEndpoints {
    /// Base URL of the API.
    pub api: Url,
    /// Full URL of the token endpoint.
    pub token: Url,
}

/// The customer's endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookConfig {
    /// https only.
    pub url: Url,
    /// How events are put together.
    pub batch: BatchLimits,
}

/// Limits of one webhook message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchLimits {
    /// Events per message.
    pub max_events: u32,
    /// Bytes per message.
    pub max_bytes: u32,
}

/// A database that was at work and has backups: a relay that doesn't find it must not begin another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KnownDatabase {
    /// The id of its audit log.
    pub chain: String,
}

/// Effective retention in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retention {
    /// After the order was placed.
    pub anonymize_after_seconds: i64,
    /// After the first shipment.
    pub delete_after_shipment_seconds: i64,
    /// How finely keys die.
    pub key_epoch_seconds: i64,
    /// Of a backup, after it was taken; absent: the connection has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_retention_seconds: Option<i64>,
}

/// What the relay may connect to. Addresses that aren't globally routable are refused unless listed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Egress {
    /// Private networks that are allowed all the same.
    pub allowed_networks: Vec<IpNet>,
    /// PEM certificates of authorities that are trusted beside the public ones.
    pub extra_ca_certificates: String,
}
