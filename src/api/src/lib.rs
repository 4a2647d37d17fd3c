//! The resources, conditions, reasons, labels and configuration that every part shares. No I/O.

pub mod backup;
pub mod conditions;
pub mod connection;
pub mod crds;
pub mod digest;
pub mod duration;
pub mod erasure;
pub mod hold;
pub mod key_secret;
pub mod labels;
pub mod moment;
pub mod notices;
pub mod operator_config;
pub mod policy;
pub mod quantity;
pub mod record;
pub mod relay;
mod rules;

pub use conditions::{ConditionType, Reason};
pub use connection::{MarketplaceConnection, MarketplaceConnectionSpec, MarketplaceConnectionStatus};
pub use digest::SubjectDigest;
pub use duration::Duration;
pub use erasure::{ErasureRequest, ErasureRequestSpec, ErasureRequestStatus};
pub use hold::Hold;
pub use moment::Moment;
pub use operator_config::OperatorConfig;
pub use policy::{RetentionPolicy, RetentionPolicySpec, RetentionPolicyStatus};
pub use record::{ConnectionRecord, ConnectionRecordSpec, ConnectionRecordStatus};

/// The API group of every resource.
pub const GROUP: &str = "marketrelay.dev";
