//! Key material: created once, extended by replace with the version that was read, never applied and never made anew.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
    runtime::reflector::ObjectRef,
};
use marketrelay_api::{Reason, labels, relay::Retention};
use marketrelay_keyring::{
    ConnectionId, DIGEST_KEY_ENTRY, DestroyAt, Grid, InvalidConnectionId, Keyring, KeyringError, SecretKey,
};
use snafu::{ResultExt, Snafu};
use zeroize::Zeroize;

use super::{
    Context,
    apply::{api_problem, is_passing},
    validate::Validated,
};
use crate::{
    names::{DATABASE_KEY_ENTRY, DIGEST_KEY, Names},
    problem::Problem,
    secrets::wipe,
};

/// What a keyring is known by; none of it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyringFacts {
    /// Whose keys.
    pub id: ConnectionId,
    /// When each epoch key dies, soonest first.
    pub destroy_at: Vec<DestroyAt>,
}

/// The key Secrets that exist, each judged.
pub struct Found {
    /// The keyring.
    pub keyring: Option<Result<KeyringFacts, Problem>>,
    /// The database key.
    pub database: Option<Result<(), Problem>>,
    /// The namespace's digest key.
    pub digest: Option<Result<(), Problem>>,
}

/// Why keys can't be made.
#[derive(Debug, Snafu)]
pub enum KeysError {
    #[snafu(display("{}", problem.message))]
    Lost { problem: Problem },
    #[snafu(display("Secret {name}: {source}"))]
    Api { name: String, source: kube::Error },
    #[snafu(display("{source}"), context(false))]
    Keyring { source: KeyringError },
    #[snafu(display("{source}"))]
    Identity { source: InvalidConnectionId },
}

impl KeysError {
    /// Another try may succeed: nothing is wrong with what the user wrote.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Api { source, .. } if is_passing(source))
    }

    /// For the condition.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Lost { problem } => problem.clone(),
            Self::Api { name, source } => api_problem("Secret", name, source),
            Self::Keyring { .. } | Self::Identity { .. } => {
                Problem::new(Reason::ApplyFailed, format!("keys can't be made: {self}; it is tried again"))
            }
        }
    }
}

/// A volume that was written under another keyring than the one that is there.
pub fn mismatch(connection: &str) -> Problem {
    let names = Names(connection);
    let message = format!(
        "volume claim {} was filled under another connection id than that of key Secret {}: what it holds can't be \
         opened with these keys; put the keyring back that belongs to it, or delete the claim to start anew",
        names.volume(),
        names.keyring()
    );
    Problem::new(Reason::KeyringLost, message)
}

/// Who has had keys before, so that missing ones are lost and never made anew.
#[derive(Clone, Copy, Debug)]
pub struct Initialised {
    /// This connection.
    pub connection: bool,
    /// Any connection of the namespace: they share the digest key.
    pub namespace: bool,
}

/// Looks for them. Those that nobody has had and that the stores don't know are taken to be missing: creating them
/// tells if they aren't.
pub async fn find(
    context: &Context,
    namespace: &str,
    names: Names<'_>,
    initialised: Initialised,
) -> kube::Result<Found> {
    let (client, secrets) = (&context.client, &context.stores.secrets);
    let unknown = |name: &str| secrets.get(&ObjectRef::new(name).within(namespace)).is_none();
    let (keyring, database_key) = (names.keyring(), names.database_key());
    let keyring = match &keyring {
        name if !initialised.connection && unknown(name) => None,
        name => context.keyrings.get(client, secrets, namespace, name, judge_keyring).await?,
    };
    let key = async |name: &str, entry: &str, initialised: bool| {
        let judge = |secret: &_| judge_key(secret, entry);
        match name {
            name if !initialised && unknown(name) => Ok(None),
            name => context.single_keys.get(client, secrets, namespace, name, judge).await,
        }
    };
    let database = key(&database_key, DATABASE_KEY_ENTRY, initialised.connection).await?;
    let digest = key(DIGEST_KEY, DIGEST_KEY_ENTRY, initialised.namespace).await?;
    Ok(Found { keyring, database, digest })
}

fn judge_keyring(secret: &Secret) -> Result<KeyringFacts, Problem> {
    ours(secret)?;
    let keyring = parse(secret).map_err(|error| lost(&secret.name_any(), &error.to_string()))?;
    let destroy_at = keyring.live(Timestamp::MIN).collect();
    Ok(KeyringFacts { id: keyring.connection_id().clone(), destroy_at })
}

fn judge_key(secret: &Secret, entry: &str) -> Result<(), Problem> {
    ours(secret)?;
    let length = secret.data.as_ref().and_then(|data| data.get(entry)).map_or(0, |bytes| bytes.0.len());
    if length == 32 {
        return Ok(());
    }
    Err(lost(&secret.name_any(), &format!("entry {entry:?} must be 32 bytes, it has {length}")))
}

fn ours(secret: &Secret) -> Result<(), Problem> {
    if secret.labels().get(labels::COMPONENT).is_some_and(|component| component == labels::KEYS) {
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

fn lost(name: &str, why: &str) -> Problem {
    Problem::new(
        Reason::KeyringLost,
        format!(
            "key Secret {name} can't be used: {why}. What is stored can't be opened without it; restore the Secret from \
             where it was kept (with keyProtection.enabled=false in the operator's values meanwhile), or delete the connection together with its volume claim and key Secrets to start anew"
        ),
    )
}

fn parse(secret: &Secret) -> Result<Keyring, KeyringError> {
    let entries = secret.data.iter().flatten();
    Keyring::from_entries(entries.map(|(name, bytes)| (name.as_str(), bytes.0.as_slice())))
}

/// Makes what was never there, extends the keyring, and says what was lost.
pub async fn ensure(
    context: &Context,
    validated: &Validated,
    found: Found,
    initialised: Initialised,
    now: Timestamp,
) -> Result<KeyringFacts, KeysError> {
    let names = Names(&validated.name);
    let missing = [
        (found.keyring.is_none() && initialised.connection, names.keyring()),
        (found.database.is_none() && initialised.connection, names.database_key()),
        (found.digest.is_none() && initialised.namespace, DIGEST_KEY.to_owned()),
    ];
    if let Some((_, name)) = missing.iter().find(|(missing, _)| *missing) {
        return LostSnafu { problem: lost(name, "it doesn't exist any more") }.fail();
    }
    for judgement in [found.database.as_ref(), found.digest.as_ref()].into_iter().flatten() {
        judgement.clone().map_err(|problem| KeysError::Lost { problem })?;
    }
    let api = Api::namespaced(context.client.clone(), &validated.namespace);
    if found.digest.is_none() {
        let key = key_secret(DIGEST_KEY, DIGEST_KEY_ENTRY, &SecretKey::generate()?, None);
        kept(&api, key, DIGEST_KEY_ENTRY).await?;
    }
    if found.database.is_none() {
        let owner = Some(validated.name.as_str());
        let key = SecretKey::generate()?;
        let key = key_secret(&names.database_key(), DATABASE_KEY_ENTRY, &key, owner);
        kept(&api, key, DATABASE_KEY_ENTRY).await?;
    }
    let facts = match found.keyring {
        Some(judgement) => judgement.map_err(|problem| KeysError::Lost { problem })?,
        None => new_keyring(&api, validated, now).await?,
    };
    let keyring = if reaches(&facts, &validated.retention, now) {
        facts
    } else {
        extend(&api, &validated.name, &validated.retention, now).await?
    };
    Ok(keyring)
}

/// The last deadline that an order of now could have.
fn horizon(retention: &Retention, now: Timestamp) -> Timestamp {
    let longest = retention.anonymize_after_seconds.min(retention.delete_after_shipment_seconds);
    now + SignedDuration::from_secs(longest)
}

/// Every deadline until the horizon has its key on the grid of the present epoch, and half of the reserve that
/// [`Keyring::extend`] makes is left. Keys of a coarser epoch that reach further would have orders dropped.
pub fn reaches(facts: &KeyringFacts, retention: &Retention, now: Timestamp) -> bool {
    let reserve = SignedDuration::from_secs(retention.key_epoch_seconds.max(300));
    let mut needed = grid(&facts.id, retention).points(now, horizon(retention, now) + reserve);
    needed.all(|at| facts.destroy_at.binary_search(&at).is_ok())
}

fn grid(id: &ConnectionId, retention: &Retention) -> Grid {
    Grid::new(id, SignedDuration::from_secs(retention.key_epoch_seconds))
}

async fn new_keyring(
    api: &Api<Secret>,
    validated: &Validated,
    now: Timestamp,
) -> Result<KeyringFacts, KeysError> {
    let id: ConnectionId = uuid::Uuid::new_v4().to_string().parse().context(IdentitySnafu)?;
    let mut keyring = Keyring::generate(id.clone())?;
    keyring.extend(grid(&id, &validated.retention), now, horizon(&validated.retention, now))?;
    let name = Names(&validated.name).keyring();
    let secret = Secret {
        metadata: metadata(&name, Some(&validated.name), Some(id.as_str())),
        data: Some(keyring.entries().into_iter().map(|(name, bytes)| (name, ByteString(bytes))).collect()),
        ..Secret::default()
    };
    let mut kept = create(api, secret).await?;
    let judgement = judge_keyring(&kept);
    wipe(&mut kept);
    judgement.map_err(|problem| KeysError::Lost { problem })
}

/// Adds keys to the newest version; a concurrent change makes the replace fail, and the next reconcile tries again.
pub async fn extend(
    api: &Api<Secret>,
    connection: &str,
    retention: &Retention,
    now: Timestamp,
) -> Result<KeyringFacts, KeysError> {
    let name = Names(connection).keyring();
    let mut secret = api.get(&name).await.context(ApiSnafu { name: name.clone() })?;
    judge_keyring(&secret).map_err(|problem| KeysError::Lost { problem })?;
    let mut keyring = parse(&secret)?;
    let added = keyring.extend(grid(keyring.connection_id(), retention), now, horizon(retention, now))?;
    wipe(&mut secret);
    secret.data =
        Some(keyring.entries().into_iter().map(|(name, bytes)| (name, ByteString(bytes))).collect());
    let replaced = api.replace(&name, &PostParams::default(), &secret).await;
    wipe(&mut secret);
    let mut replaced = replaced.context(ApiSnafu { name })?;
    let judgement = judge_keyring(&replaced);
    wipe(&mut replaced);
    tracing::info!(connection, added, "keyring extended");
    judgement.map_err(|problem| KeysError::Lost { problem })
}

/// Creates, or gives what somebody else has created in the meantime.
async fn create(api: &Api<Secret>, mut secret: Secret) -> Result<Secret, KeysError> {
    let name = secret.name_any();
    let created = api.create(&PostParams::default(), &secret).await;
    wipe(&mut secret);
    match created {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            api.get(&name).await.context(ApiSnafu { name })
        }
        created => created.context(ApiSnafu { name }),
    }
}

async fn kept(api: &Api<Secret>, key: Secret, entry: &str) -> Result<(), KeysError> {
    let mut kept = create(api, key).await?;
    let judgement = judge_key(&kept, entry);
    wipe(&mut kept);
    judgement.map_err(|problem| KeysError::Lost { problem })
}

fn key_secret(name: &str, entry: &str, key: &SecretKey, connection: Option<&str>) -> Secret {
    let mut bytes = *key.expose();
    let data = [(entry.to_owned(), ByteString(bytes.to_vec()))].into();
    bytes.zeroize();
    Secret { metadata: metadata(name, connection, None), data: Some(data), ..Secret::default() }
}

fn metadata(name: &str, connection: Option<&str>, id: Option<&str>) -> ObjectMeta {
    let fixed = [
        (labels::NAME, labels::APP),
        (labels::MANAGED_BY, labels::OPERATOR),
        (labels::COMPONENT, labels::KEYS),
        (labels::VELERO_EXCLUDE, "true"),
    ];
    let connection =
        connection.into_iter().flat_map(|name| [(labels::CONNECTION, name), (labels::INSTANCE, name)]);
    let id = id.map(|id| (labels::CONNECTION_ID, id));
    let all = fixed.into_iter().chain(connection).chain(id);
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn retention(delete_after: i64, epoch: i64) -> Retention {
        Retention {
            anonymize_after_seconds: 90 * DAY,
            delete_after_shipment_seconds: delete_after * DAY,
            key_epoch_seconds: epoch * DAY,
        }
    }

    fn facts(retention: &Retention, now: Timestamp) -> KeyringFacts {
        let id: ConnectionId = "3f6c0000-1111-4222-8333-444455556666".parse().expect("an id");
        let mut keyring = Keyring::generate(id.clone()).expect("random bytes");
        keyring.extend(grid(&id, retention), now, horizon(retention, now)).expect("random bytes");
        KeyringFacts { destroy_at: keyring.live(Timestamp::MIN).collect(), id }
    }

    #[test]
    fn a_keyring_suffices_until_half_of_its_reserve_is_used() {
        let (now, daily) = (Timestamp::now(), retention(30, 1));
        let facts = facts(&daily, now);
        assert!(reaches(&facts, &daily, now));
        assert!(!reaches(&facts, &daily, now + SignedDuration::from_hours(24 * 3)));
    }

    #[test]
    fn a_finer_epoch_needs_new_keys_even_where_the_old_ones_reach_further() {
        let now = Timestamp::now();
        let facts = facts(&retention(30, 10), now);
        assert!(!reaches(&facts, &retention(3, 1), now));
    }
}
