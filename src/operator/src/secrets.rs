//! What must be known of Secrets. Their contents are read once per version, judged, and dropped; only the judgement is
//! kept.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::PartialObjectMeta,
    runtime::reflector::{ObjectRef, Store},
};
use marketrelay_api::{Reason, connection::MarketplaceKind, labels};
use zeroize::Zeroize;

use crate::problem::Problem;

/// What a Secret with a store's credentials must have.
pub const STORE_ENTRIES: [&str; 2] = ["accessKeyId", "secretAccessKey"];

/// Judgements by Secret and version.
pub struct Judged<T> {
    known: Mutex<HashMap<(String, String), (String, T)>>,
}

impl<T> Default for Judged<T> {
    fn default() -> Self {
        Self { known: Mutex::default() }
    }
}

impl<T: Clone> Judged<T> {
    /// The judgement of the newest version; `None` if there is no such Secret.
    pub async fn get(
        &self,
        client: &Client,
        store: &Store<PartialObjectMeta<Secret>>,
        namespace: &str,
        name: &str,
        judge: impl Fn(&Secret) -> T,
    ) -> kube::Result<Option<T>> {
        let key = (namespace.to_owned(), name.to_owned());
        let seen = store.get(&ObjectRef::new(name).within(namespace));
        let version = seen.and_then(|secret| secret.metadata.resource_version.clone());
        let known = self.lock().get(&key).cloned();
        if let Some((_, judgement)) = known.filter(|(known, _)| version.as_ref() == Some(known)) {
            return Ok(Some(judgement));
        }
        let api = Api::<Secret>::namespaced(client.clone(), namespace);
        let Some(mut secret) = api.get_opt(name).await? else {
            self.lock().remove(&key);
            return Ok(None);
        };
        let judgement = judge(&secret);
        wipe(&mut secret);
        if let Some(version) = secret.metadata.resource_version {
            self.lock().insert(key, (version, judgement.clone()));
        }
        Ok(Some(judgement))
    }

    /// Remembers a judgement that was made elsewhere of the Secret's newest version.
    pub fn note(&self, secret: &Secret, judgement: T) {
        let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
        if let Some(version) = secret.resource_version() {
            self.lock().insert((namespace, name), (version, judgement));
        }
    }

    /// The Secret is gone: what is known of it isn't true any more.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// The last judgement, of whatever version.
    pub fn last(&self, namespace: &str, name: &str) -> Option<T> {
        self.lock().get(&(namespace.to_owned(), name.to_owned())).map(|(_, judgement)| judgement.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), (String, T)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a Secret holds keys of ours, by its label.
pub fn is_key(secret: &impl ResourceExt) -> bool {
    secret.labels().get(labels::COMPONENT).is_some_and(|component| component == labels::KEYS)
}

/// Overwrites the contents.
pub fn wipe(secret: &mut Secret) {
    for bytes in secret.data.iter_mut().flat_map(|data| data.values_mut()) {
        bytes.0.zeroize();
    }
}

/// The names of the entries of a Secret that aren't empty; connections to several marketplaces may share it.
pub fn filled_entries(secret: &Secret) -> BTreeSet<String> {
    let names = secret.data.iter().flatten().map(|(name, _)| name);
    let filled = names.filter(|name| text(secret, name).is_some_and(|text| !text.trim().is_empty()));
    filled.cloned().collect()
}

/// Whether a Secret of this name with these entries holds what the marketplace's client needs.
pub fn judge_credentials(
    name: &str,
    filled: &BTreeSet<String>,
    marketplace: MarketplaceKind,
) -> Result<(), Problem> {
    let needed = marketplace.credential_entries().iter();
    let missing: Vec<_> =
        needed.filter(|entry| !filled.contains(**entry)).map(|entry| format!("{entry:?}")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        Reason::SecretIncomplete,
        format!(
            "spec.credentialsSecretRef: Secret {name} lacks {}, which {marketplace} needs: add it (kubectl edit \
             secret {name})",
            missing.join(" and ")
        ),
    ))
}

/// Whether a Secret of this name with these entries holds what a store of backups needs; `field` names it.
pub fn judge_store(field: &str, name: &str, filled: &BTreeSet<String>) -> Result<(), Problem> {
    let missing: Vec<_> = STORE_ENTRIES
        .into_iter()
        .filter(|entry| !filled.contains(*entry))
        .map(|entry| format!("{entry:?}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        Reason::SecretIncomplete,
        format!(
            "{field}: Secret {name} lacks {}, which the store needs: add it (kubectl edit secret {name})",
            missing.join(" and ")
        ),
    ))
}

/// Whether a Secret holds signing secrets of the Standard Webhooks specification.
pub fn judge_signing(secret: &Secret) -> Result<(), Problem> {
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let at = "spec.destination.webhook.signingSecretRef";
    let Some(current) = text(secret, "signingSecret") else {
        let message = format!(
            "{at}: Secret {name} lacks \"signingSecret\": add it, whsec_ and 24 to 64 random bytes in base64, such \
             as from: echo whsec_$(openssl rand -base64 32)"
        );
        return Err(Problem::new(Reason::SecretIncomplete, message));
    };
    let previous = text(secret, "previousSigningSecret").filter(|text| !text.trim().is_empty());
    let entries = [("signingSecret", Some(current)), ("previousSigningSecret", previous)];
    for (entry, value) in entries {
        if value.is_some_and(|value| !is_signing_secret(value.trim())) {
            let message = format!(
                "{at}: {entry:?} in Secret {name} must be whsec_ and 24 to 64 bytes in base64, such as from: echo \
                 whsec_$(openssl rand -base64 32)"
            );
            return Err(Problem::new(Reason::SecretInvalid, message));
        }
    }
    Ok(())
}

fn text<'a>(secret: &'a Secret, entry: &str) -> Option<&'a str> {
    std::str::from_utf8(&secret.data.as_ref()?.get(entry)?.0).ok()
}

fn is_signing_secret(text: &str) -> bool {
    let decoded = text.strip_prefix("whsec_").and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
    let Some(mut bytes) = decoded else { return false };
    let fits = (24..=64).contains(&bytes.len());
    bytes.zeroize();
    fits
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(entries: &[(&str, &str)]) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.name = Some("keys".to_owned());
        let data =
            entries.iter().map(|(name, text)| ((*name).to_owned(), ByteString(text.as_bytes().to_vec())));
        secret.data = Some(data.collect());
        secret
    }

    #[test]
    fn missing_credentials_are_named() {
        let complete = secret(&[("clientId", "a"), ("clientSecret", "b")]);
        let complete = filled_entries(&complete);
        assert_eq!(judge_credentials("keys", &complete, MarketplaceKind::Bol), Ok(()));
        let problem =
            judge_credentials("keys", &complete, MarketplaceKind::Ebay).expect_err("no refresh token");
        assert_eq!(problem.reason, Reason::SecretIncomplete);
        assert!(problem.message.contains("Secret keys lacks \"refreshToken\""), "{}", problem.message);
    }

    #[test]
    fn a_stores_missing_credentials_are_named_with_their_field() {
        let field = "spec.backup.onSite.s3.credentialsSecretRef";
        let complete = secret(&[("accessKeyId", "a"), ("secretAccessKey", "b")]);
        assert_eq!(judge_store(field, "keys", &filled_entries(&complete)), Ok(()));
        let half = secret(&[("accessKeyId", "a"), ("secretAccessKey", " ")]);
        let problem = judge_store(field, "keys", &filled_entries(&half)).expect_err("an empty entry");
        assert_eq!(problem.reason, Reason::SecretIncomplete);
        assert!(
            problem.message.starts_with(field) && problem.message.contains("secretAccessKey"),
            "{problem:?}"
        );
    }

    #[test]
    fn a_signing_secret_that_no_receiver_could_verify_is_refused_and_never_shown() {
        let good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert_eq!(judge_signing(&secret(&[("signingSecret", good)])), Ok(()));
        for (entries, reason) in [
            (&[][..], Reason::SecretIncomplete),
            (&[("signingSecret", "hunter2")], Reason::SecretInvalid),
            (&[("signingSecret", "whsec_AAAA")], Reason::SecretInvalid),
            (&[("signingSecret", good), ("previousSigningSecret", "hunter2")], Reason::SecretInvalid),
        ] {
            let problem = judge_signing(&secret(entries)).expect_err("refused");
            assert_eq!(problem.reason, reason);
            assert!(problem.message.contains("openssl") && !problem.message.contains("hunter2"));
        }
    }
}
