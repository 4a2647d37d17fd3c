//! From the key Secrets to the encrypted copy.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use marketrelay_api::{
    MarketplaceConnection,
    backup::paths::{ESCROW_FINGERPRINT, ESCROWED},
    labels,
};
use marketrelay_escrow::{Entries, Escrow, Recipient, VERSION};
use snafu::ResultExt;

use super::fingerprint::{entries, of_keyring, whole};
use crate::{
    controllers::{
        connection::{Context, key_metadata, past_erasures},
        keyring::{CreateSnafu, Metadata, ReadSnafu, ReconcileError, ReplaceSnafu, facts::judge, identities},
    },
    names::{DIGEST_KEY, Names},
    secrets::wipe,
};

/// Writes the Secret, unless the keys have changed since they were looked at: then the next look does.
pub async fn write(
    context: &Context,
    keyring: &Metadata,
    connection: &MarketplaceConnection,
    existing: Option<&Metadata>,
    fingerprint: &str,
) -> Result<(), ReconcileError> {
    let (namespace, name) = (keyring.namespace().unwrap_or_default(), connection.name_any());
    let api = Api::<Secret>::namespaced(context.client.clone(), &namespace);
    let document = document(context, &api, keyring, connection, fingerprint).await?;
    let Some(document) = document else { return Ok(()) };
    let recipients = context.config.backup.iter().flat_map(|backup| &backup.escrow.recipients);
    // They were checked with the configuration.
    let recipients: Vec<Recipient> = recipients.filter_map(|text| text.parse().ok()).collect();
    let mut metadata = key_metadata(&Names(&name).escrow(), Some(&name), Some(&document.connection_id));
    metadata.resource_version = existing.and_then(ResourceExt::resource_version);
    let since = context.clock.now().to_string();
    metadata.annotations = Some(BTreeMap::from([
        (labels::FINGERPRINT.to_owned(), fingerprint.to_owned()),
        (labels::FINGERPRINT_SINCE.to_owned(), since),
    ]));
    let data = BTreeMap::from([
        (ESCROWED.to_owned(), ByteString(document.seal(&recipients)?)),
        (ESCROW_FINGERPRINT.to_owned(), ByteString(fingerprint.as_bytes().to_vec())),
    ]);
    let secret = Secret { metadata, data: Some(data), ..Secret::default() };
    let written = match existing {
        Some(_) => api.replace(&secret.name_any(), &PostParams::default(), &secret).await,
        None => api.create(&PostParams::default(), &secret).await,
    };
    match written {
        // The watch is behind: its event brings this again.
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(()),
        written => written.map(drop).context(ReplaceSnafu),
    }
}

/// Deletes it.
pub async fn delete(context: &Context, existing: &Metadata) -> Result<(), ReconcileError> {
    let api = Api::<Secret>::namespaced(context.client.clone(), &existing.namespace().unwrap_or_default());
    let this = Preconditions { uid: existing.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(this), ..DeleteParams::default() };
    match api.delete(&existing.name_any(), &params).await {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        deleted => deleted.map(drop).context(CreateSnafu),
    }
}

/// A Secret of keys, which is overwritten when it is dropped.
struct Keys(Secret);

impl Keys {
    /// `None`: it isn't there.
    async fn read(api: &Api<Secret>, name: &str) -> Result<Option<Self>, ReconcileError> {
        Ok(api.get_opt(name).await.context(ReadSnafu)?.map(Self))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// `None`: not all keys are there, or they aren't what was looked at.
async fn document(
    context: &Context,
    api: &Api<Secret>,
    keyring: &Metadata,
    connection: &MarketplaceConnection,
    fingerprint: &str,
) -> Result<Option<Escrow>, ReconcileError> {
    let name = connection.name_any();
    let names = Names(&name);
    let (Some(keys), Some(identities), Some(digest)) = (
        Keys::read(api, &names.keyring()).await?,
        Keys::read(api, &names.backup_identities()).await?,
        Keys::read(api, DIGEST_KEY).await?,
    ) else {
        return Ok(None);
    };
    let Ok(facts) = judge(&keys.0).keyring else { return Ok(None) };
    let held = identities::facts::judge(&identities.0);
    context.identities.note(&identities.0, held.clone());
    if whole(context, Some(&held), &facts, connection).as_deref() != Some(fingerprint) {
        return Ok(None);
    }
    let owned = |(name, bytes): (&str, &[u8])| (name.to_owned(), bytes.to_vec());
    Ok(Some(Escrow {
        version: VERSION,
        connection_id: facts.id.to_string(),
        namespace: keyring.namespace().unwrap_or_default(),
        marketplace: connection.spec.marketplace().map(|kind| kind.to_string()).unwrap_or_default(),
        chain: facts.database,
        keyring: of_keyring(&keys.0).map(owned).collect::<Entries>(),
        identities: entries(&identities.0).map(owned).collect(),
        digest_key: entries(&digest.0).map(owned).collect(),
        erasures: past_erasures(&context.stores, connection, context.clock.now()),
        name,
    }))
}
