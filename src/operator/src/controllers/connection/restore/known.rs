//! Which database a connection has had, by its status, or by its keyring, which outlives the status. Pure.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use marketrelay_api::{
    MarketplaceConnection, MarketplaceConnectionStatus,
    backup::Site,
    connection::{PinnedAudit, SiteBackups},
    labels,
};

use crate::{
    conditions::seconds,
    controllers::{connection::children::KNOWN_DATABASE, keyring::facts::KeyringFacts},
};

/// The audit log of a database that a backup has been taken of: a relay that doesn't find it must not begin another one. Once
/// the relay was told (`config_map`), it is, whatever becomes of the backups, until a person gives that database up.
pub fn chain<'a>(
    connection: &'a MarketplaceConnection,
    config_map: Option<&ConfigMap>,
    keyring: &'a KeyringFacts,
) -> Option<&'a str> {
    let status = connection.status.as_ref();
    let is_backed_up = has_backup(status, |site| site.newest.is_some() || site.last_success.is_some());
    let was_told = config_map.and_then(|map| map.data.as_ref()?.get(KNOWN_DATABASE)).is_some();
    let chain = match status.and_then(|status| status.audit.as_ref()) {
        Some(audit) => {
            let is_noted = keyring.database.as_ref() == Some(&audit.chain);
            Some(audit.chain.as_str()).filter(|_| was_told || is_backed_up || is_noted)
        }
        None => keyring.database.as_deref(),
    };
    chain.filter(|chain| !is_given_up(connection, chain))
}

/// The end of that audit log as far as it is known, and whose signature counts.
pub fn audit(
    status: Option<&MarketplaceConnectionStatus>,
    keyring: Option<&KeyringFacts>,
) -> Option<PinnedAudit> {
    let pinned = status.and_then(|status| status.audit.clone());
    pinned.or_else(|| {
        let keyring = keyring?;
        Some(PinnedAudit {
            chain: keyring.database.clone()?,
            sequence: 0,
            hash: String::new(),
            public_key: keyring.public_key.clone()?,
            checked_at: seconds(jiff::Timestamp::UNIX_EPOCH),
        })
    })
}

/// A person wants the relay to begin without this database.
pub fn is_given_up(connection: &MarketplaceConnection, chain: &str) -> bool {
    connection.annotations().get(labels::BEGIN_ANEW).is_some_and(|given_up| given_up == chain)
}

fn has_backup(status: Option<&MarketplaceConnectionStatus>, is_known: fn(&SiteBackups) -> bool) -> bool {
    let backups = status.and_then(|status| status.backups.as_ref());
    backups.is_some_and(|backups| Site::ALL.into_iter().filter_map(|site| backups.site(site)).any(is_known))
}
