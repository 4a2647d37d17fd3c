//! Conditions as the Kubernetes API conventions want them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use marketrelay_api::ConditionType;

/// Kubernetes' times have whole seconds.
pub fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// What a condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// True, False or Unknown.
    pub status: Status,
    /// `CamelCase`.
    pub reason: String,
    /// For a person.
    pub message: String,
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    True,
    /// It doesn't.
    False,
    /// It isn't known yet.
    Unknown,
}

impl Status {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Verdict {
    /// All three.
    pub fn new(status: Status, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), message: message.into() }
    }
}

/// The condition; its transition time changes with its status alone.
pub fn condition(
    kind: ConditionType,
    verdict: Verdict,
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let kind = kind.to_string();
    let same = before.iter().find(|old| old.type_ == kind && old.status == verdict.status.as_str());
    Condition {
        last_transition_time: same.map_or(Time(now), |old| old.last_transition_time.clone()),
        message: verdict.message,
        observed_generation: generation,
        reason: verdict.reason,
        status: verdict.status.as_str().to_owned(),
        type_: kind,
    }
}

/// The condition of a type.
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    let kind = kind.to_string();
    conditions.iter().find(|condition| condition.type_ == kind)
}
