//! Escrowed keys: an encrypted copy of everything that a connection's backups can't be restored without, in a Secret whose
//! content a Job brings into the off-site store. Written anew whenever something of it changes; keys wait for it.

mod fingerprint;
mod write;

use kube::{ResourceExt, runtime::reflector::ObjectRef};
use marketrelay_api::{MarketplaceConnection, labels};

use super::{
    Metadata, ReconcileError,
    decide::Escrowed,
    facts::{Held, KeyringFacts, connection},
    identities,
};
use crate::{
    controllers::connection::{Context, has_begun},
    names::Names,
    secrets::is_key,
};
pub use fingerprint::{entries, fingerprint, of_keyring};
use fingerprint::{have_same_keys, whole};

/// Whether a Secret is the escrowed keys of a connection, by its labels and its name.
pub fn is_escrow(secret: &impl ResourceExt) -> bool {
    let connection = secret.labels().get(labels::CONNECTION);
    is_key(secret) && connection.is_some_and(|name| Names(name).escrow() == secret.name_any())
}

/// Whether the keys of a connection are to be escrowed: somebody can open them, and there is a store far away.
pub fn is_wanted(context: &Context, connection: &MarketplaceConnection) -> bool {
    let has_recipients = context.config.backup.as_ref().is_some_and(|backup| backup.escrow.is_on());
    let has_store = connection.spec.backup.as_ref().is_some_and(|backup| backup.off_site.is_some());
    has_recipients && has_store && connection.metadata.deletion_timestamp.is_none()
}

/// How far the escrow of a keyring is, by what its connection was told last.
pub fn state(
    context: &Context,
    identities: Option<&identities::facts::Held>,
    facts: &KeyringFacts,
    connection: Option<&MarketplaceConnection>,
) -> Escrowed {
    // Without a connection nothing seals, and nobody knows whether its keys are to be escrowed once it is there again.
    let Some(connection) = connection else { return Escrowed::Waits };
    if !is_wanted(context, connection) {
        return Escrowed::Unwanted;
    }
    let told = connection.status.as_ref().and_then(|status| status.backups.as_ref());
    let confirmed = told.and_then(|backups| backups.off_site.as_ref()?.escrowed.as_ref());
    match confirmed.zip(whole(context, identities, facts, connection)) {
        Some((confirmed, now)) if have_same_keys(&confirmed.fingerprint, &now) => Escrowed::Confirmed,
        _ => Escrowed::Waits,
    }
}

/// What the keys would be escrowed as now; `None`: not everything is there that belongs to them.
pub fn newest(context: &Context, facts: &KeyringFacts, connection: &MarketplaceConnection) -> Option<String> {
    let (namespace, name) = (connection.namespace().unwrap_or_default(), connection.name_any());
    whole(context, identities::known(context, &namespace, &name).as_ref(), facts, connection)
}

/// Has the Secret be as the keys are; without a need for it there is none.
pub async fn settle(context: &Context, keyring: &Metadata, held: &Held) -> Result<(), ReconcileError> {
    let (Ok(facts), Some(of)) = (&held.keyring, connection(keyring)) else { return Ok(()) };
    if has_begun(facts.id.as_str(), context) {
        return Ok(());
    }
    let namespace = keyring.namespace().unwrap_or_default();
    let existing = context.stores.secrets.get(&ObjectRef::new(&Names(&of.name).escrow()).within(&namespace));
    let (existing, others) = match existing {
        Some(secret) if is_escrow(secret.as_ref()) => (Some(secret), None),
        others => (None, others),
    };
    let wanted = context.stores.connections.get(&of).filter(|connection| is_wanted(context, connection));
    let Some(connection) = wanted else {
        return match existing {
            Some(existing) => write::delete(context, &existing).await,
            None => Ok(()),
        };
    };
    if let Some(others) = others {
        tracing::warn!(
            namespace,
            name = others.name_any(),
            "keys can't be escrowed: this Secret isn't the operator's"
        );
        return Ok(());
    }
    let Some(now) = newest(context, facts, &connection) else { return Ok(()) };
    let known = existing.as_deref().and_then(|secret| secret.annotations().get(labels::FINGERPRINT));
    if known == Some(&now) {
        return Ok(());
    }
    write::write(context, keyring, &connection, existing.as_deref(), &now).await
}
