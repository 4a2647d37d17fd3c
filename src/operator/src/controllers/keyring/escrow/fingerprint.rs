//! What escrowed keys are known by: a hash of everything that goes into them, so that whoever knows what there is needn't read
//! a key to see whether they are up to date.

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use marketrelay_api::MarketplaceConnection;
use zeroize::Zeroizing;

use crate::{
    compare::hash,
    controllers::{
        connection::{Context, past_erasures},
        keyring::{Metadata, facts::KeyringFacts},
    },
    names::{DIGEST_KEY, Names},
};

/// The entries of a Secret.
pub fn entries(secret: &Secret) -> impl Iterator<Item = (&str, &[u8])> {
    secret.data.iter().flatten().map(|(name, bytes)| (name.as_str(), bytes.0.as_slice()))
}

/// Those of a keyring that are escrowed. Volume keys open nothing in another cluster, recipients follow identities, and what
/// waits there for its escrow doesn't in the copy.
pub fn of_keyring(secret: &Secret) -> impl Iterator<Item = (&str, &[u8])> {
    let stays = |name: &str| name.starts_with("volume.") || name.starts_with("backup.") || name == "pending";
    entries(secret).filter(move |(name, _)| !stays(name))
}

/// Of entries: hex SHA-256. It gives away nothing of keys, which are random.
pub fn fingerprint<'a>(entries: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut all = Zeroizing::new(Vec::new());
    for (name, bytes) in entries {
        all.extend_from_slice(name.as_bytes());
        all.push(0);
        all.extend_from_slice(&bytes.len().to_be_bytes());
        all.extend_from_slice(bytes);
    }
    hash(&all)
}

/// Of everything that is escrowed of a connection; `None`: not everything is there yet.
pub fn whole(
    context: &Context,
    keyring: &Metadata,
    facts: &KeyringFacts,
    connection: &MarketplaceConnection,
) -> Option<String> {
    let namespace = keyring.namespace().unwrap_or_default();
    let name = connection.name_any();
    let identities = context.identities.last(&namespace, &Names(&name).backup_identities())?;
    // What can't be used needn't be escrowed, and must not hold up the keys.
    let identities = identities.identities.map(|identities| identities.fingerprint).unwrap_or_default();
    let digest = context.stores.secrets.get(&ObjectRef::new(DIGEST_KEY).within(&namespace))?;
    let erasures = past_erasures(&context.stores, connection, context.clock.now());
    let recipients = &context.config.backup.as_ref()?.escrow.recipients;
    let (id, chain) = (facts.id.as_str(), &facts.database);
    let all = (id, &facts.fingerprint, identities, digest.uid(), erasures, recipients, chain);
    Some(hash(serde_json::to_string(&all).ok()?.as_bytes()))
}
