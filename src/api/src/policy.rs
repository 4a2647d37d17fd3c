//! `RetentionPolicy`: how long personal data is kept.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, connection::MarketplaceKind, hold::Hold, rules};

const DAYS_30: i64 = 2_592_000;
const DAYS_365: i64 = 31_536_000;

/// How long personal data is kept. Every field is optional.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "marketrelay.dev",
    version = "v1alpha1",
    kind = "RetentionPolicy",
    plural = "retentionpolicies",
    shortname = "retpol",
    category = "marketrelay",
    namespaced,
    status = "RetentionPolicyStatus",
    derive = "PartialEq",
    doc = "How long personal data is kept by the connections of the namespace that refer to it.",
    printcolumn(name = "Anonymize", type_ = "string", json_path = ".spec.anonymizeAfter"),
    printcolumn(name = "Amazon", type_ = "string", json_path = ".spec.amazon.anonymizeAfter"),
    printcolumn(name = "Shipped", type_ = "string", json_path = ".spec.deleteAfterShipment"),
    printcolumn(name = "Backups", type_ = "string", json_path = ".spec.backupRetention"),
    printcolumn(name = "Connections", type_ = "integer", json_path = ".status.connections"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.pending.connections"),
    printcolumn(name = "Affected", type_ = "integer", json_path = ".status.pending.affected"),
    printcolumn(name = "Until", type_ = "string", json_path = ".status.pending.effectiveAt"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[x_kube(validation = rules::epochs("self.anonymizeAfter", "anonymizeAfter"))]
#[x_kube(validation = rules::epochs("self.amazon.anonymizeAfter", "amazon.anonymizeAfter"))]
#[x_kube(validation = rules::epochs("self.deleteAfterShipment", "deleteAfterShipment"))]
#[x_kube(validation = rules::optional_epochs("self.backupRetention", "backupRetention"))]
#[x_kube(validation = rules::backup_retention())]
#[serde(rename_all = "camelCase")]
pub struct RetentionPolicySpec {
    /// Personal data of an order is gone this long after the order was placed, at the latest.
    #[serde(default = "days_90")]
    pub anonymize_after: Duration,
    /// What differs for orders from Amazon.
    #[serde(default)]
    pub amazon: AmazonRetention,
    /// Personal data of an order is gone this long after its first shipment, from the data and from every backup; at most 30d.
    #[serde(default = "days_30")]
    #[x_kube(validation = rules::at_most(DAYS_30, "deleteAfterShipment must be at most 30d, personal data leaves data and backups by then: write 30d or less"))]
    pub delete_after_shipment: Duration,
    /// A backup is gone this long after it was taken, at the latest; at most deleteAfterShipment. Without it: 30d, or
    /// deleteAfterShipment if that is shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_retention: Option<Duration>,
    /// How finely keys are destroyed: personal data is gone early by at most this. A shorter epoch means more keys.
    #[serde(default = "days_1")]
    pub key_epoch: Duration,
    /// How long the relays' audit records are kept; at least 365d.
    #[serde(default = "days_400")]
    #[x_kube(validation = rules::at_least(DAYS_365, "auditRetention must be at least 365d, so that a year's deeds can be shown: write 365d or more"))]
    pub audit_retention: Duration,
    /// What has to be kept longer, sealed under keys of its own; at most 20. A hold ends by itself. Taking it out here, or
    /// narrowing it, lets go of nothing that it keeps already: see endHolds.
    #[serde(default)]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub holds: Vec<Hold>,
    /// Names of holds that may end earlier than they were made to: one that isn't in holds any more ends at once, and what
    /// it keeps is gone for good; one with an earlier until ends then.
    #[serde(default)]
    #[schemars(length(max = 100), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = rules::hold_names())]
    pub end_holds: Vec<String>,
}

/// What differs for orders from Amazon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AmazonRetention {
    /// As anonymizeAfter, for orders from Amazon; at most 30d, as Amazon's Data Protection Policy demands.
    #[serde(default = "days_30")]
    #[x_kube(validation = rules::at_most(DAYS_30, "amazon.anonymizeAfter must be at most 30d, Amazon's Data Protection Policy allows no more: write 30d or less"))]
    pub anonymize_after: Duration,
}

impl Default for AmazonRetention {
    fn default() -> Self {
        Self { anonymize_after: days_30() }
    }
}

impl Default for RetentionPolicySpec {
    fn default() -> Self {
        Self {
            anonymize_after: days_90(),
            amazon: AmazonRetention::default(),
            delete_after_shipment: days_30(),
            backup_retention: None,
            key_epoch: days_1(),
            audit_retention: days_400(),
            holds: Vec::new(),
            end_holds: Vec::new(),
        }
    }
}

impl RetentionPolicySpec {
    /// What holds for one marketplace's orders.
    pub fn effective(&self, marketplace: MarketplaceKind) -> EffectiveRetention {
        let anonymize_after = match marketplace {
            MarketplaceKind::Amazon
                if self.amazon.anonymize_after.as_secs() < self.anonymize_after.as_secs() =>
            {
                &self.amazon.anonymize_after
            }
            _ => &self.anonymize_after,
        };
        EffectiveRetention {
            anonymize_after: anonymize_after.clone(),
            delete_after_shipment: self.delete_after_shipment.clone(),
            backup_retention: Some(self.effective_backup_retention()),
        }
    }

    /// No backup may outlive the personal data that is in it.
    pub fn effective_backup_retention(&self) -> Duration {
        let wanted = self.backup_retention.clone().unwrap_or_else(days_30);
        if wanted.as_secs() > self.delete_after_shipment.as_secs() {
            return self.delete_after_shipment.clone();
        }
        wanted
    }

    /// The fields below a day, with their values; such policies need the operator's permission.
    pub fn short_durations(&self) -> Vec<(&'static str, &Duration)> {
        let fields = [
            ("spec.anonymizeAfter", &self.anonymize_after),
            ("spec.amazon.anonymizeAfter", &self.amazon.anonymize_after),
            ("spec.deleteAfterShipment", &self.delete_after_shipment),
            ("spec.keyEpoch", &self.key_epoch),
        ];
        let backups = self.backup_retention.iter().map(|duration| ("spec.backupRetention", duration));
        fields.into_iter().chain(backups).filter(|(_, duration)| duration.is_short()).collect()
    }
}

fn days_90() -> Duration {
    Duration::days(90)
}

fn days_30() -> Duration {
    Duration::days(30)
}

fn days_400() -> Duration {
    Duration::days(400)
}

fn days_1() -> Duration {
    Duration::days(1)
}

/// What the operator has found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionPolicyStatus {
    /// The generation of the spec that the rest of the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many connections refer to it.
    #[serde(default)]
    pub connections: i64,
    /// What the policy means for each marketplace's orders; what is in effect at a connection is in its own status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<EffectivePerMarketplace>,
    /// The connections at which a shorter retention waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingConnections>,
    /// Ready, with a reason and a message that says what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The connections at which a shorter retention waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingConnections {
    /// How many they are.
    pub connections: i64,
    /// Orders whose personal data would be gone at once or earlier than now, of all of them; absent while a relay can't be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affected: Option<i64>,
    /// When it takes effect at the last of them.
    pub effective_at: Time,
}

/// What holds for each marketplace's orders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EffectivePerMarketplace {
    /// Orders from Amazon.
    pub amazon: EffectiveRetention,
    /// Orders from eBay.
    pub ebay: EffectiveRetention,
    /// Orders from Bol.
    pub bol: EffectiveRetention,
}

/// What holds for one marketplace's orders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveRetention {
    /// After the order was placed.
    pub anonymize_after: Duration,
    /// After the order's first shipment.
    pub delete_after_shipment: Duration,
    /// Of a backup, after it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_retention: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amazons_orders_follow_the_shorter_of_both_limits() {
        let mut spec = RetentionPolicySpec::default();
        assert_eq!(spec.effective(MarketplaceKind::Amazon).anonymize_after, Duration::days(30));
        assert_eq!(spec.effective(MarketplaceKind::Bol).anonymize_after, Duration::days(90));
        spec.anonymize_after = Duration::days(10);
        assert_eq!(spec.effective(MarketplaceKind::Amazon).anonymize_after, Duration::days(10));
    }

    #[test]
    fn no_backup_outlives_the_personal_data_in_it() {
        for (wanted, shipped, expected) in
            [(None, 30, 30), (None, 10, 10), (Some(7), 10, 7), (Some(20), 10, 10)]
        {
            let spec = RetentionPolicySpec {
                backup_retention: wanted.map(Duration::days),
                delete_after_shipment: Duration::days(shipped),
                ..RetentionPolicySpec::default()
            };
            assert_eq!(spec.effective_backup_retention(), Duration::days(expected), "{wanted:?} {shipped}");
        }
    }

    #[test]
    fn short_durations_are_found_by_their_field() {
        let spec = RetentionPolicySpec {
            key_epoch: Duration::minutes(5),
            backup_retention: Some(Duration::hours(2)),
            ..RetentionPolicySpec::default()
        };
        let found: Vec<_> = spec.short_durations().into_iter().map(|(field, _)| field).collect();
        assert_eq!(found, ["spec.keyEpoch", "spec.backupRetention"]);
    }
}
