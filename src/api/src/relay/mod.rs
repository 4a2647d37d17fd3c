//! What operator and relay say to each other: the configuration file, the mounted paths, the admin API.

mod affected;
mod config;
mod erasure;
pub mod paths;
mod status;

pub use affected::{Affected, AffectedQuery};
pub use config::{
    AmazonSettings, BatchLimits, BolSettings, EbaySettings, Egress, HeldSelection, KnownDatabase,
    MarketplaceEndpoints, MarketplaceSettings, Placed, RelayConfig, Retention, WebhookConfig,
};
pub use erasure::{Erasure, ErasureAnswer, SubjectAnswer};
pub use status::{Activity, DeliveryState, HoldUse, KeyringUse, RelayStatus};
