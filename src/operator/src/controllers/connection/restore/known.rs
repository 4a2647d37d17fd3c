//! Which database a connection has had, by its status, or by its keyring, which outlives the status. Pure.

use k8s_openapi::api::core::v1::ConfigMap;
use marketrelay_api::{
    MarketplaceConnectionStatus,
    backup::Site,
    connection::{PinnedAudit, SiteBackups},
};

use crate::{
    conditions::seconds,
    controllers::{connection::children::KNOWN_DATABASE, keyring::facts::KeyringFacts},
};

/// The audit log of a database that a backup has been taken of: a relay that doesn't find it must not begin another one. Once
/// the relay was told (`config_map`), it is, whatever becomes of the backups, until the pinned head is removed.
pub fn chain<'a>(
    status: Option<&'a MarketplaceConnectionStatus>,
    config_map: Option<&ConfigMap>,
    keyring: &'a KeyringFacts,
) -> Option<&'a str> {
    let is_backed_up = has_backup(status, |site| site.newest.is_some() || site.last_success.is_some());
    let was_told = config_map.and_then(|map| map.data.as_ref()?.get(KNOWN_DATABASE)).is_some();
    match status.and_then(|status| status.audit.as_ref()) {
        Some(audit) => Some(audit.chain.as_str()).filter(|_| was_told || is_backed_up),
        None => keyring.database.as_deref().filter(|_| !begins_anew(status)),
    }
}

/// The end of that audit log as far as it is known, and whose signature counts.
pub fn audit(
    status: Option<&MarketplaceConnectionStatus>,
    keyring: Option<&KeyringFacts>,
) -> Option<PinnedAudit> {
    let pinned = status.and_then(|status| status.audit.clone());
    pinned.or_else(|| {
        let keyring = keyring.filter(|_| !begins_anew(status))?;
        Some(PinnedAudit {
            chain: keyring.database.clone()?,
            sequence: 0,
            hash: String::new(),
            public_key: keyring.public_key.clone()?,
            checked_at: seconds(jiff::Timestamp::UNIX_EPOCH),
        })
    })
}

/// A person has removed the pinned head of a database that was backed up here.
fn begins_anew(status: Option<&MarketplaceConnectionStatus>) -> bool {
    status.is_some_and(|status| status.audit.is_none())
        && has_backup(status, |site| site.last_success.is_some())
}

fn has_backup(status: Option<&MarketplaceConnectionStatus>, is_known: fn(&SiteBackups) -> bool) -> bool {
    let backups = status.and_then(|status| status.backups.as_ref());
    backups.is_some_and(|backups| Site::ALL.into_iter().filter_map(|site| backups.site(site)).any(is_known))
}
