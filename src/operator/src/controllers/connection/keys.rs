//! Key material: created once, never applied and never made anew. What becomes of a keyring afterwards is its own
//! controller's.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
    runtime::reflector::ObjectRef,
};
use marketrelay_api::{Reason, labels, relay::Retention};
use marketrelay_keyring::{
    ConnectionId, DIGEST_KEY_ENTRY, InvalidConnectionId, Keyring, KeyringError, SecretKey,
};
use snafu::{ResultExt, Snafu};
use zeroize::Zeroize;

use super::{
    Context,
    apply::{api_problem, is_passing},
    validate::Validated,
};
use crate::{
    controllers::keyring::{
        facts::{KeyringFacts, annotations, grid, horizon, judge, key_epoch, lost, ours},
        identities::facts as identities,
    },
    names::{DATABASE_KEY_ENTRY, DIGEST_KEY, Names},
    problem::Problem,
    secrets::wipe,
};

/// The key Secrets that exist, each judged.
pub struct Found {
    /// The keyring.
    pub keyring: Option<Result<KeyringFacts, Problem>>,
    /// The database key.
    pub database: Option<Result<(), Problem>>,
    /// The namespace's digest key.
    pub digest: Option<Result<(), Problem>>,
    /// The identities of its backups.
    pub identities: Option<identities::Held>,
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
        name => context.keyrings.get(client, secrets, namespace, name, judge).await?.map(|held| held.keyring),
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
    let identities = names.backup_identities();
    let identities = match &identities {
        name if unknown(name) => None,
        name => context.identities.get(client, secrets, namespace, name, identities::judge).await?,
    };
    Ok(Found { keyring, database, digest, identities })
}

fn judge_key(secret: &Secret, entry: &str) -> Result<(), Problem> {
    ours(secret)?;
    let length = secret.data.as_ref().and_then(|data| data.get(entry)).map_or(0, |bytes| bytes.0.len());
    if length == 32 {
        return Ok(());
    }
    Err(lost(&secret.name_any(), &format!("entry {entry:?} must be 32 bytes, it has {length}")))
}

/// What a connection's first keys are like.
pub struct First {
    /// How long they live.
    pub retention: Retention,
    /// They seal nothing until they are escrowed.
    pub are_escrowed: bool,
}

/// Makes what was never there, and says what was lost.
pub async fn ensure(
    context: &Context,
    validated: &Validated,
    first: &First,
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
        kept(context, &api, key, DIGEST_KEY_ENTRY).await?;
    }
    if found.database.is_none() {
        let owner = Some(validated.name.as_str());
        let key = SecretKey::generate()?;
        let key = key_secret(&names.database_key(), DATABASE_KEY_ENTRY, &key, owner);
        kept(context, &api, key, DATABASE_KEY_ENTRY).await?;
    }
    match found.keyring {
        Some(judgement) => judgement.map_err(|problem| KeysError::Lost { problem }),
        None => new_keyring(context, &api, validated, first, now).await,
    }
}

async fn new_keyring(
    context: &Context,
    api: &Api<Secret>,
    validated: &Validated,
    First { retention, are_escrowed }: &First,
    now: Timestamp,
) -> Result<KeyringFacts, KeysError> {
    let id: ConnectionId = uuid::Uuid::new_v4().to_string().parse().context(IdentitySnafu)?;
    let mut keyring = Keyring::generate(id.clone())?;
    keyring.extend(grid(&id, retention), now, horizon(retention, now))?;
    if *are_escrowed {
        keyring.hold_back(&BTreeSet::new());
    }
    let name = Names(&validated.name).keyring();
    let mut metadata = metadata(&name, Some(&validated.name), Some(id.as_str()));
    metadata.annotations = Some(annotations(now, key_epoch(retention)).into());
    let secret = Secret {
        metadata,
        data: Some(keyring.entries().into_iter().map(|(name, bytes)| (name, ByteString(bytes))).collect()),
        ..Secret::default()
    };
    let mut kept = create(api, secret).await?;
    let held = judge(&kept);
    wipe(&mut kept);
    context.keyrings.note(&kept, held.clone());
    held.keyring.map_err(|problem| KeysError::Lost { problem })
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

/// Judged at once, so that it isn't read again.
async fn kept(context: &Context, api: &Api<Secret>, key: Secret, entry: &str) -> Result<(), KeysError> {
    let mut kept = create(api, key).await?;
    let judgement = judge_key(&kept, entry);
    wipe(&mut kept);
    context.single_keys.note(&kept, judgement.clone());
    judgement.map_err(|problem| KeysError::Lost { problem })
}

fn key_secret(name: &str, entry: &str, key: &SecretKey, connection: Option<&str>) -> Secret {
    let mut bytes = *key.expose();
    let data = [(entry.to_owned(), ByteString(bytes.to_vec()))].into();
    bytes.zeroize();
    Secret { metadata: metadata(name, connection, None), data: Some(data), ..Secret::default() }
}

/// Of a key Secret.
pub fn metadata(name: &str, connection: Option<&str>, id: Option<&str>) -> ObjectMeta {
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
