//! What escrowed keys are known by: a hash of everything that goes into them, so that whoever knows what there is needn't read
//! a key to see whether they are up to date.

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use marketrelay_api::{MarketplaceConnection, backup::fingerprint as api};
use marketrelay_escrow::VERSION;
use zeroize::Zeroizing;

use crate::{
    compare::hash,
    controllers::{
        connection::{Context, past_erasures},
        keyring::{facts::KeyringFacts, identities},
    },
    names::DIGEST_KEY,
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

/// Of everything that is escrowed of a connection, and after a dot of what opens and seals alone: an erasure changes nothing
/// about which keys are safe. `None`: not everything is there yet.
pub fn whole(
    context: &Context,
    identities: Option<&identities::facts::Held>,
    facts: &KeyringFacts,
    connection: &MarketplaceConnection,
) -> Option<String> {
    let namespace = connection.namespace().unwrap_or_default();
    // What can't be used needn't be escrowed, and must not hold up the keys.
    let identities = identities?.identities.as_ref().ok().map(|identities| &identities.fingerprint);
    let digest = context.stores.secrets.get(&ObjectRef::new(DIGEST_KEY).within(&namespace))?;
    let recipients = &context.config.backup.as_ref()?.escrow.recipients;
    let keys = (facts.id.as_str(), &facts.fingerprint, identities, digest.uid(), recipients);
    let keys = hash(serde_json::to_string(&keys).ok()?.as_bytes());
    let erasures = past_erasures(&context.stores, connection, context.clock.now());
    let all = hash(serde_json::to_string(&(VERSION, &keys, erasures, &facts.database)).ok()?.as_bytes());
    Some(api::fingerprint(&all, &keys))
}

/// Whether two are of the same keys.
pub fn have_same_keys(one: &str, other: &str) -> bool {
    let keys = |fingerprint| api::halves(fingerprint).map(|(_, keys)| keys);
    keys(one).is_some_and(|one| Some(one) == keys(other))
}
