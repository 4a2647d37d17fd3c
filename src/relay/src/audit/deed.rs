//! What is recorded.

/// What was done. The list in `docs/operations/audit.md` says when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in one place, for who reads the log")]
pub enum Action {
    RelayStarted,
    RelayStopped,
    ConfigurationTaken,
    CredentialsTaken,
    CredentialsRejected,
    OrdersAnonymised,
    OrdersResealed,
    OrdersErased,
    OrdersHeld,
    HeldOrdersDestroyed,
    OrdersDropped,
    EventsGivenUp,
    EpochKeysDropped,
    VolumeKeyTaken,
    VolumeKeyConfirmed,
    DestinationChanged,
    DestinationDisabled,
    DestinationEnabled,
    AuditExported,
    AuditPruned,
    SnapshotTaken,
    Restored,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::RelayStarted,
        Self::RelayStopped,
        Self::ConfigurationTaken,
        Self::CredentialsTaken,
        Self::CredentialsRejected,
        Self::OrdersAnonymised,
        Self::OrdersResealed,
        Self::OrdersErased,
        Self::OrdersHeld,
        Self::HeldOrdersDestroyed,
        Self::OrdersDropped,
        Self::EventsGivenUp,
        Self::EpochKeysDropped,
        Self::VolumeKeyTaken,
        Self::VolumeKeyConfirmed,
        Self::DestinationChanged,
        Self::DestinationDisabled,
        Self::DestinationEnabled,
        Self::AuditExported,
        Self::AuditPruned,
        Self::SnapshotTaken,
        Self::Restored,
    ];

    /// As records have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RelayStarted => "RelayStarted",
            Self::RelayStopped => "RelayStopped",
            Self::ConfigurationTaken => "ConfigurationTaken",
            Self::CredentialsTaken => "CredentialsTaken",
            Self::CredentialsRejected => "CredentialsRejected",
            Self::OrdersAnonymised => "OrdersAnonymised",
            Self::OrdersResealed => "OrdersResealed",
            Self::OrdersErased => "OrdersErased",
            Self::OrdersHeld => "OrdersHeld",
            Self::HeldOrdersDestroyed => "HeldOrdersDestroyed",
            Self::OrdersDropped => "OrdersDropped",
            Self::EventsGivenUp => "EventsGivenUp",
            Self::EpochKeysDropped => "EpochKeysDropped",
            Self::VolumeKeyTaken => "VolumeKeyTaken",
            Self::VolumeKeyConfirmed => "VolumeKeyConfirmed",
            Self::DestinationChanged => "DestinationChanged",
            Self::DestinationDisabled => "DestinationDisabled",
            Self::DestinationEnabled => "DestinationEnabled",
            Self::AuditExported => "AuditExported",
            Self::AuditPruned => "AuditPruned",
            Self::SnapshotTaken => "SnapshotTaken",
            Self::Restored => "Restored",
        }
    }
}

/// Who did it, or made it necessary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The relay by itself.
    Relay,
    /// The operator, by the admin API or by what it mounts.
    Operator,
    /// The customer's system.
    Destination,
    /// The marketplace.
    Marketplace,
}

impl Actor {
    /// As records have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Operator => "operator",
            Self::Destination => "destination",
            Self::Marketplace => "marketplace",
        }
    }
}

/// A record before it is one.
#[derive(Clone, Debug)]
pub struct Deed {
    /// What.
    pub action: Action,
    /// Who.
    pub actor: Actor,
    /// To what: the name of a key, the uid of a request, a version, a configuration's digest.
    pub object: String,
    /// To how many orders, events, keys or records.
    pub count: Option<u64>,
}

impl Deed {
    /// Of one thing.
    pub fn new(action: Action, actor: Actor, object: impl Into<String>) -> Self {
        Self { action, actor, object: object.into(), count: None }
    }

    /// Of several.
    #[must_use]
    pub fn of(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_in_the_list_of_the_documentation() {
        let text = include_str!("../../../../docs/operations/audit.md");
        let variants = include_str!("deed.rs").split_once("pub enum Action {").expect("the enum").1;
        let variants = variants.split_once('}').expect("its end").0.matches(',').count();
        assert_eq!(variants, Action::ALL.len(), "Action::ALL lists every one");
        for action in Action::ALL {
            assert_eq!(format!("{action:?}"), action.as_str());
            assert!(text.contains(&format!("| `{}` |", action.as_str())), "{action:?}");
        }
    }
}
