//! What a keyring is known by; none of it is secret.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use marketrelay_api::{MarketplaceConnection, Reason, labels, relay::Retention};
use marketrelay_audit::Signer;
use marketrelay_keyring::{
    BackupKey, ConnectionId, DestroyAt, Grid, HoldId, HoldKey, Keyring, KeyringError, Recipient,
};

use super::escrow;
use crate::{names::Names, problem::Problem, secrets::is_key};

/// The key epoch of a keyring that doesn't say.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A keyring that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyringFacts {
    /// Whose keys.
    pub id: ConnectionId,
    /// When each epoch key dies, soonest first.
    pub destroy_at: Vec<DestroyAt>,
    /// The keys of holds, soonest to die first.
    pub holds: Vec<HoldKey>,
    /// Their ids.
    pub hold_ids: BTreeMap<HoldKey, HoldId>,
    /// The volume key's generations, oldest first.
    pub generations: Vec<u32>,
    /// Since when there is the newest of them; `None`: it isn't known.
    pub volume_key_since: Option<Timestamp>,
    /// The key epoch that held then.
    pub key_epoch: SignedDuration,
    /// There is a key that signs the audit log.
    pub has_audit_key: bool,
    /// What backups may be encrypted to: no keys.
    pub recipients: BTreeMap<BackupKey, Recipient>,
    /// There are keys that seal nothing until they are escrowed.
    pub has_pending: bool,
    /// Of everything that is escrowed of it.
    pub fingerprint: String,
    /// Of the key that signs the audit log, and with it backups: Ed25519, hex.
    pub public_key: Option<String>,
    /// The audit log of the connection's database, once there is a backup of it.
    pub database: Option<String>,
}

/// What a key Secret with a keyring's name holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// When each epoch key dies, soonest first, also of a keyring that can't be used.
    pub destroy_at: Vec<DestroyAt>,
    /// The keys of holds, in the same way.
    pub holds: Vec<HoldKey>,
    /// The keyring.
    pub keyring: Result<KeyringFacts, Problem>,
}

impl Held {
    /// When the first key dies.
    pub fn first(&self) -> Option<DestroyAt> {
        first(&self.destroy_at, &self.holds)
    }
}

impl KeyringFacts {
    /// When the first key dies.
    pub fn first(&self) -> Option<DestroyAt> {
        first(&self.destroy_at, &self.holds)
    }
}

fn first(epochs: &[DestroyAt], holds: &[HoldKey]) -> Option<DestroyAt> {
    epochs.first().copied().into_iter().chain(holds.first().map(HoldKey::destroy_at)).min()
}

/// Whether a Secret is a keyring, by its labels and its name.
pub fn is_keyring(secret: &impl ResourceExt) -> bool {
    let labels = secret.labels();
    let connection = labels.get(labels::CONNECTION);
    is_key(secret)
        && labels.contains_key(labels::CONNECTION_ID)
        && connection.is_some_and(|name| Names(name).keyring() == secret.name_any())
}

/// The connection that a keyring belongs to, whether it exists or not.
pub fn connection(secret: &impl ResourceExt) -> Option<ObjectRef<MarketplaceConnection>> {
    let name = secret.labels().get(labels::CONNECTION)?;
    Some(ObjectRef::new(name).within(&secret.namespace().unwrap_or_default()))
}

/// Reads a Secret's names and annotations.
pub fn judge(secret: &Secret) -> Held {
    if let Err(problem) = ours(secret) {
        return Held { destroy_at: Vec::new(), holds: Vec::new(), keyring: Err(problem) };
    }
    let names = || secret.data.iter().flatten().map(|(name, _)| name);
    let mut destroy_at: Vec<DestroyAt> = names().filter_map(|name| name.parse().ok()).collect();
    destroy_at.sort_unstable();
    let mut holds: Vec<HoldKey> = names().filter_map(|name| name.parse().ok()).collect();
    holds.sort_unstable();
    let annotation = |name: &str| secret.annotations().get(name);
    let epoch = annotation(labels::KEY_EPOCH).and_then(|seconds| seconds.parse().ok());
    let keyring = parse(secret).map(|keyring| KeyringFacts {
        id: keyring.connection_id().clone(),
        destroy_at: destroy_at.clone(),
        holds: holds.clone(),
        hold_ids: keyring.holds().map(|(key, id)| (key.clone(), id)).collect(),
        generations: keyring.volume_generations().collect(),
        has_audit_key: keyring.audit_key().is_some(),
        recipients: keyring.recipients().clone(),
        volume_key_since: annotation(labels::VOLUME_KEY_SINCE).and_then(|since| since.parse().ok()),
        has_pending: !keyring.pending().is_empty(),
        fingerprint: escrow::fingerprint(escrow::of_keyring(secret)),
        public_key: keyring
            .audit_key()
            .and_then(|seed| Signer::new(seed.expose()).ok())
            .map(|signer| signer.public_key()),
        database: annotation(labels::DATABASE).cloned(),
        key_epoch: epoch.filter(|seconds| *seconds > 0).map_or(DAY, SignedDuration::from_secs),
    });
    Held { destroy_at, holds, keyring: keyring.map_err(|error| lost(&secret.name_any(), &error.to_string())) }
}

/// A Secret that isn't known to hold keys is somebody else's.
pub fn ours(secret: &Secret) -> Result<(), Problem> {
    if is_key(secret) {
        return Ok(());
    }
    Err(Problem::new(
        Reason::NameConflict,
        format!(
            "Secret {} isn't the operator's, and its name is needed for keys: rename or delete that Secret, or choose \
             another name for the connection",
            secret.name_any()
        ),
    ))
}

/// A key Secret that is gone or damaged.
pub fn lost(name: &str, why: &str) -> Problem {
    Problem::new(
        Reason::KeyringLost,
        format!(
            "key Secret {name} can't be used: {why}. What is stored can't be opened without it; restore the Secret from \
             where it was kept (with keyProtection.enabled=false in the operator's values meanwhile), or delete the connection together with its volume claim and key Secrets to start anew"
        ),
    )
}

/// The keys themselves.
pub fn parse(secret: &Secret) -> Result<Keyring, KeyringError> {
    let entries = secret.data.iter().flatten();
    Keyring::from_entries(entries.map(|(name, bytes)| (name.as_str(), bytes.0.as_slice())))
}

/// The annotations of a keyring whose newest volume key was made at `since`.
pub fn annotations(since: Timestamp, key_epoch: SignedDuration) -> [(String, String); 2] {
    let since = Timestamp::from_second(since.as_second()).unwrap_or(since);
    [
        (labels::VOLUME_KEY_SINCE.to_owned(), since.to_string()),
        (labels::KEY_EPOCH.to_owned(), key_epoch.as_secs().to_string()),
    ]
}

/// The last deadline that an order of now could have.
pub fn horizon(retention: &Retention, now: Timestamp) -> Timestamp {
    let longest = retention.anonymize_after_seconds.min(retention.delete_after_shipment_seconds);
    now + SignedDuration::from_secs(longest)
}

/// When a connection's keys die.
pub fn grid(id: &ConnectionId, retention: &Retention) -> Grid {
    Grid::new(id, key_epoch(retention))
}

/// The key epoch in effect.
pub fn key_epoch(retention: &Retention) -> SignedDuration {
    SignedDuration::from_secs(retention.key_epoch_seconds)
}

/// Every deadline until the horizon has its key on the grid of the present epoch, and half of the reserve that
/// [`Keyring::extend`] makes is left. Keys of a coarser epoch that reach further would have orders dropped.
pub fn reaches(facts: &KeyringFacts, retention: &Retention, now: Timestamp) -> bool {
    let reserve = SignedDuration::from_secs(retention.key_epoch_seconds.max(300));
    let mut needed = grid(&facts.id, retention).points(now, horizon(retention, now) + reserve);
    needed.all(|at| facts.destroy_at.binary_search(&at).is_ok())
}

#[cfg(test)]
impl KeyringFacts {
    /// For tests: without epoch keys.
    pub fn sample() -> Self {
        Self {
            id: "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34".parse().expect("a UUID"),
            destroy_at: Vec::new(),
            holds: Vec::new(),
            hold_ids: BTreeMap::new(),
            generations: vec![1],
            volume_key_since: None,
            key_epoch: DAY,
            has_audit_key: true,
            recipients: BTreeMap::new(),
            has_pending: false,
            fingerprint: String::new(),
            public_key: None,
            database: None,
        }
    }
}
