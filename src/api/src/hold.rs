//! Holds: what has to be kept longer than the retention says, why, and until when.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{digest::SubjectDigest, moment::Moment, rules};

/// Keeps orders, with their personal data, beyond their deadline: for a lawsuit, a tax audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.digests) != has(self.placed)")
    .message("say what the hold keeps in exactly one way: digests (of orders or buyers) or placed (a range of time)"))]
pub struct Hold {
    /// What it is called: at most 40 lowercase letters, digits and '-'.
    #[schemars(length(max = 63))]
    #[x_kube(validation = rules::hold_name())]
    pub name: String,
    /// Why the law wants these orders to be kept, and who decided it; without naming a buyer.
    #[schemars(length(max = 500))]
    #[x_kube(validation = Rule::new("self.trim() != ''")
        .message("reason must say why these orders are kept: the law, and who decided it"))]
    pub reason: String,
    /// Orders, or all orders of buyers, by keyed digests under the namespace's digest key; 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub digests: Option<Vec<SubjectDigest>>,
    /// Orders that were placed in this time, those included that are still to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed: Option<PlacedRange>,
    /// The hold ends then, by itself: a date such as 2027-01-31, which means its first second in UTC, or a time such as
    /// 2027-01-31T12:00:00Z. It may be moved back until five minutes before it; an earlier end must be confirmed in endHolds.
    pub until: Moment,
}

/// A range of time by the marketplace's time of the purchase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = rules::placed_range())]
pub struct PlacedRange {
    /// The first second; a date or a time, as in until.
    pub from: Moment,
    /// The first second that isn't in it any more.
    pub to: Moment,
}

/// What has become of a hold at one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HoldStatus {
    /// Its name.
    pub name: String,
    /// When it ends by itself.
    pub until: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time,
    /// Orders that it keeps, at most 10 minutes old; live figures are in the metrics. Absent until it has kept any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orders: Option<i64>,
    /// Pending, Held, Kept or Ended.
    pub state: HoldState,
}

/// What has become of a hold at one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HoldState {
    /// Its key isn't made yet, or the relay hasn't confirmed yet that it keeps the orders, or a store of backups doesn't have an
    /// archive of them yet.
    Pending,
    /// The relay keeps the orders, and each store of backups that the connection names has an archive of them.
    Held,
    /// The policy doesn't ask for it any more, or for an earlier end, and that isn't confirmed: it stays until its own end.
    Kept,
    /// Its end has passed: it keeps nothing, and if it had passed before the hold was made, it never has. Or its end comes within
    /// minutes, and a later one was asked for too late. One that kept orders stays so: a new hold needs another name.
    Ended,
}
