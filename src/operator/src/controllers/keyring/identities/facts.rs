//! What a Secret of identities is known by; none of it is secret.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use marketrelay_api::{Reason, labels, relay::Retention};
use marketrelay_keyring::{
    BackupIdentities, BackupKey, ConnectionId, DestroyAt, Grid, KeyringError, Recipient,
};

use crate::{
    controllers::keyring::{
        escrow,
        facts::{KeyringFacts, grid, key_epoch, ours},
    },
    names::Names,
    problem::Problem,
    secrets::is_key,
};

/// Identities that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitiesFacts {
    /// Whose they are.
    pub id: ConnectionId,
    /// What backups may be encrypted to, by the identity that opens them.
    pub recipients: BTreeMap<BackupKey, Recipient>,
    /// Of all of them.
    pub fingerprint: String,
}

/// What a key Secret with the name of identities holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The identities, soonest to be destroyed first, also of a Secret that can't be used.
    pub names: Vec<BackupKey>,
    /// What they are.
    pub identities: Result<IdentitiesFacts, Problem>,
}

impl Held {
    /// When the first identity is destroyed.
    pub fn first(&self) -> Option<DestroyAt> {
        self.names.first().map(|name| name.destroy_at())
    }
}

/// For how long backups are kept, and how finely their identities die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    retention: Retention,
    kept: SignedDuration,
}

impl Reach {
    /// `None`: there are to be no backups.
    pub fn of(retention: Retention) -> Option<Self> {
        let kept = SignedDuration::from_secs(retention.backup_retention_seconds?);
        Some(Self { retention, kept })
    }

    /// When identities die.
    pub fn grid(&self, id: &ConnectionId) -> Grid {
        grid(id, &self.retention)
    }

    /// The last expiry that a backup of now could have.
    pub fn horizon(&self, now: Timestamp) -> Timestamp {
        now.checked_add(self.kept).unwrap_or(Timestamp::MAX)
    }

    /// Every expiry until the horizon has its identity, and half of the reserve that
    /// [`BackupIdentities::extend`] makes is left.
    pub fn is_covered(&self, facts: &IdentitiesFacts, now: Timestamp) -> bool {
        let reserve = key_epoch(&self.retention).max(SignedDuration::from_mins(5));
        let until = self.horizon(now).checked_add(reserve).unwrap_or(Timestamp::MAX);
        let mut needed = self.grid(&facts.id).points(now, until);
        needed.all(|at| facts.recipients.contains_key(&BackupKey::new(at)))
    }
}

/// Whether a Secret holds identities, by its labels and its name.
pub fn is_identities(secret: &impl ResourceExt) -> bool {
    let labels = secret.labels();
    let connection = labels.get(labels::CONNECTION);
    is_key(secret)
        && labels.contains_key(labels::CONNECTION_ID)
        && connection.is_some_and(|name| Names(name).backup_identities() == secret.name_any())
}

/// Reads a Secret's names and public halves.
pub fn judge(secret: &Secret) -> Held {
    if let Err(problem) = ours(secret) {
        return Held { names: Vec::new(), identities: Err(problem) };
    }
    let names = secret.data.iter().flatten().map(|(name, _)| name);
    let mut names: Vec<BackupKey> = names.filter_map(|name| name.parse().ok()).collect();
    names.sort_unstable();
    let identities = parse(secret).map(|identities| IdentitiesFacts {
        id: identities.connection_id().clone(),
        recipients: identities.recipients(),
        fingerprint: escrow::fingerprint(escrow::entries(secret)),
    });
    Held { names, identities: identities.map_err(|error| lost(&secret.name_any(), &error.to_string())) }
}

/// The identities themselves.
pub fn parse(secret: &Secret) -> Result<BackupIdentities, KeyringError> {
    let entries = secret.data.iter().flatten();
    BackupIdentities::from_entries(entries.map(|(name, bytes)| (name.as_str(), bytes.0.as_slice())))
}

fn lost(name: &str, why: &str) -> Problem {
    Problem::new(
        Reason::BackupIdentitiesLost,
        format!(
            "key Secret {name} can't be used: {why}. Backups can't be opened without it, so none are made; restore the \
             Secret from where it was kept, or delete it (both with keyProtection.enabled=false in the operator's values \
             meanwhile): then new identities are made, and nobody can open the backups of before"
        ),
    )
}

/// Why a connection that is to have backups can't have any.
pub fn unusable(
    retention: Option<Retention>,
    held: Option<&Held>,
    keyring: Option<&KeyringFacts>,
) -> Option<Problem> {
    Reach::of(retention?)?;
    let (facts, keyring) = match (&held?.identities, keyring?) {
        (Err(problem), _) => return Some(problem.clone()),
        (Ok(facts), keyring) => (facts, keyring),
    };
    (facts.id != keyring.id).then(|| {
        Problem::new(
            Reason::BackupIdentitiesLost,
            format!(
                "the key Secret of backups' identities is that of an earlier connection of this name ({}), so no backups \
                 are made: delete it (with keyProtection.enabled=false in the operator's values meanwhile) once nobody \
                 needs backups of that connection",
                facts.id
            ),
        )
    })
}
