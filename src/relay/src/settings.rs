//! The configuration file as what the relay works with.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use aws_lc_rs::digest;
use jiff::SignedDuration;
use marketrelay_api::relay::{MarketplaceEndpoints, MarketplaceSettings, RelayConfig, Retention};
use marketrelay_keyring::{ConnectionId, Limits};
use marketrelay_marketplace::{
    Collector, Credentials, Endpoints, Marketplace,
    amazon::{self, Amazon},
    bol::{self, Bol},
    ebay::{self, Ebay},
};
use reqwest::Client;
use snafu::{ResultExt, Whatever, ensure_whatever};
use zeroize::Zeroize;

use crate::{mounts::Entries, store::snapshot::About};

/// A checked configuration.
pub struct Settings {
    /// As the operator wrote it.
    pub config: RelayConfig,
    /// Whose relay this is.
    pub id: ConnectionId,
    /// Hex SHA-256 of the file.
    pub digest: String,
}

impl Settings {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, Whatever> {
        let text = fs::read_to_string(path)
            .with_whatever_context(|error| format!("can't read {}: {error}", path.display()))?;
        let config: RelayConfig = serde_yaml::from_str(&text).with_whatever_context(|error| {
            format!("{} isn't a relay's configuration: {error}", path.display())
        })?;
        check(&config).with_whatever_context(|error| format!("{} can't be used: {error}", path.display()))?;
        let id = config
            .connection_id
            .parse()
            .with_whatever_context(|error| format!("{} can't be used: {error}", path.display()))?;
        Ok(Self { config, id, digest: hex_digest(text.as_bytes()) })
    }

    /// Which marketplace.
    pub fn marketplace(&self) -> Marketplace {
        match self.config.marketplace {
            MarketplaceSettings::Amazon(_) => Marketplace::Amazon,
            MarketplaceSettings::Ebay(_) => Marketplace::Ebay,
            MarketplaceSettings::Bol(_) => Marketplace::Bol,
        }
    }

    /// Between polls.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.config.poll_interval_seconds)
    }

    /// How far back the first poll looks.
    pub fn lookback(&self) -> SignedDuration {
        SignedDuration::from_secs(i64::try_from(self.config.lookback_seconds).unwrap_or(i64::MAX))
    }

    /// The retention in effect.
    pub fn limits(&self) -> Limits {
        limits(&self.config.retention)
    }

    /// How long backups are kept; `None`: there are none.
    pub fn backup_retention(&self) -> Option<SignedDuration> {
        self.config.retention.backup_retention_seconds.map(SignedDuration::from_secs)
    }

    /// The connection as a backup names it.
    pub fn about(&self) -> About {
        About {
            connection_id: self.id.to_string(),
            namespace: self.config.namespace.clone(),
            name: self.config.name.clone(),
            marketplace: self.marketplace().as_str(),
        }
    }

    /// How long audit records are kept.
    pub fn audit_retention(&self) -> SignedDuration {
        SignedDuration::from_secs(self.config.audit_retention_seconds)
    }

    /// The marketplace's endpoints.
    pub fn endpoints(&self) -> Endpoints {
        match (&self.config.endpoints, &self.config.marketplace) {
            (Some(MarketplaceEndpoints { api, token }), _) => {
                Endpoints { api: api.clone(), token: token.clone() }
            }
            (None, MarketplaceSettings::Amazon(amazon)) => amazon::official_endpoints(&amazon.region),
            (None, MarketplaceSettings::Ebay(_)) => ebay::official_endpoints(),
            (None, MarketplaceSettings::Bol(_)) => bol::official_endpoints(),
        }
    }

    /// The marketplace's client; it gets its credentials later.
    pub fn collector(&self, http: Client) -> Box<dyn Collector> {
        let (endpoints, credentials) = (self.endpoints(), Credentials::default());
        match &self.config.marketplace {
            MarketplaceSettings::Amazon(amazon) => {
                Box::new(Amazon::new(http, endpoints, credentials, &amazon.marketplace_ids))
            }
            MarketplaceSettings::Ebay(_) => Box::new(Ebay::new(http, endpoints, credentials)),
            MarketplaceSettings::Bol(_) => Box::new(Bol::new(http, endpoints, credentials)),
        }
    }
}

/// The retention as the keyring has it.
pub fn limits(retention: &Retention) -> Limits {
    Limits {
        anonymize_after: SignedDuration::from_secs(retention.anonymize_after_seconds),
        delete_after_shipment: SignedDuration::from_secs(retention.delete_after_shipment_seconds),
        key_epoch: SignedDuration::from_secs(retention.key_epoch_seconds),
    }
}

/// What would make a relay that does nothing, or the same thing without a pause.
fn check(config: &RelayConfig) -> Result<(), Whatever> {
    let batch = &config.destination.batch;
    let retention = &config.retention;
    for (field, value) in [
        ("pollIntervalSeconds", i64::try_from(config.poll_interval_seconds).unwrap_or(i64::MAX)),
        ("destination.batch.maxEvents", batch.max_events.into()),
        ("destination.batch.maxBytes", batch.max_bytes.into()),
        ("retention.anonymizeAfterSeconds", retention.anonymize_after_seconds),
        ("retention.deleteAfterShipmentSeconds", retention.delete_after_shipment_seconds),
        ("retention.keyEpochSeconds", retention.key_epoch_seconds),
        ("retention.backupRetentionSeconds", retention.backup_retention_seconds.unwrap_or(1)),
        ("auditRetentionSeconds", config.audit_retention_seconds),
    ] {
        ensure_whatever!(value >= 1, "{field} must be at least 1, it is {value}");
    }
    let endpoints = config.endpoints.iter();
    let endpoints =
        endpoints.flat_map(|urls| [("endpoints.api", &urls.api), ("endpoints.token", &urls.token)]);
    for (field, url) in endpoints.chain([("destination.url", &config.destination.url)]) {
        ensure_whatever!(url.scheme() == "https", "{field} must begin with https://");
    }
    Ok(())
}

/// [`Settings::digest`] of the file that is mounted now.
pub fn mounted_digest(entries: &Entries) -> Result<String, String> {
    let file = entries.get("relay.yaml").ok_or("the ConfigMap has no entry \"relay.yaml\"")?;
    Ok(hex_digest(file))
}

fn hex_digest(bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The marketplace's credentials from their Secret's entries.
pub fn credentials(entries: &Entries, marketplace: Marketplace) -> Result<Credentials, String> {
    let mut texts: BTreeMap<String, String> = entries
        .iter()
        .filter_map(|(name, bytes)| Some((name.clone(), std::str::from_utf8(bytes).ok()?.to_owned())))
        .collect();
    let credentials = Credentials::from_entries(&texts, marketplace != Marketplace::Bol);
    texts.values_mut().for_each(Zeroize::zeroize);
    credentials.map_err(|error| error.to_string())
}
