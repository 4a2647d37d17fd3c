//! The Secret with the copies of the stores' credentials. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{ResourceExt, api::ObjectMeta};
use marketrelay_api::{ConnectionRecord, labels, record::RecordStore};
use zeroize::Zeroize;

use super::purge::What;
use crate::{
    names,
    secrets::{STORE_ENTRIES, filled_entries},
};

const SESSION_TOKEN: &str = "sessionToken";

/// The labels of what the operator keeps in its own namespace for a connection's stores. Not the connection's name: such objects
/// would be taken for its children.
pub fn labels(record: &ConnectionRecord) -> BTreeMap<String, String> {
    let labels = [
        (labels::MANAGED_BY, labels::OPERATOR),
        (labels::COMPONENT, labels::PURGE),
        (labels::NAMESPACE, &record.spec.namespace),
        (labels::CONNECTION_ID, &record.name_any()),
    ];
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// An empty one.
pub fn empty(record: &ConnectionRecord) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(names::stores(&record.name_any())),
            labels: Some(labels(record)),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    }
}

/// Whether a customer's Secret has all that a store needs.
pub fn is_complete(credentials: &Secret) -> bool {
    let filled = filled_entries(credentials);
    STORE_ENTRIES.into_iter().all(|entry| filled.contains(entry))
}

/// Copies a store's credentials; whether that changes anything.
pub fn copy(copies: &mut Secret, store: &RecordStore, credentials: &Secret) -> bool {
    let data = copies.data.get_or_insert_default();
    let mut is_changed = false;
    for entry in STORE_ENTRIES.into_iter().chain([SESSION_TOKEN]) {
        let name = name(&store.id, entry);
        let given = credentials.data.as_ref().and_then(|data| data.get(entry));
        if data.get(&name) != given {
            is_changed = true;
            let before = match given {
                Some(bytes) => data.insert(name, bytes.clone()),
                None => data.remove(&name),
            };
            if let Some(mut bytes) = before {
                bytes.0.zeroize();
            }
        }
    }
    is_changed
}

/// Drops what belongs to no known store, or to one that nothing is done with any more; whether that changes anything.
pub fn keep_only(copies: &mut Secret, stores: &[RecordStore]) -> bool {
    let data = copies.data.get_or_insert_default();
    let before = data.len();
    data.retain(|name, bytes| {
        let id = name.split_once('.').map(|(id, _)| id);
        let is_known = What::ALL.iter().any(|what| what.entry() == name)
            || stores.iter().any(|store| Some(store.id.as_str()) == id && !store.is_settled());
        if !is_known {
            bytes.0.zeroize();
        }
        is_known
    });
    data.len() != before
}

/// The stores whose credentials are there.
pub fn complete(copies: &Secret, stores: &[RecordStore]) -> BTreeSet<String> {
    let filled = filled_entries(copies);
    let has = |store: &&RecordStore| {
        STORE_ENTRIES.into_iter().all(|entry| filled.contains(&name(&store.id, entry)))
    };
    stores.iter().filter(has).map(|store| store.id.clone()).collect()
}

/// Sets a Job's configuration; whether that changes anything.
pub fn configure(copies: &mut Secret, what: What, config: String) -> bool {
    let config = ByteString(config.into_bytes());
    let data = copies.data.get_or_insert_default();
    let is_new = data.get(what.entry()) != Some(&config);
    data.insert(what.entry().to_owned(), config);
    is_new
}

/// The names of all entries that a store may have.
pub fn entries(store: &RecordStore) -> impl Iterator<Item = String> {
    STORE_ENTRIES.into_iter().chain([SESSION_TOKEN]).map(|entry| name(&store.id, entry))
}

fn name(id: &str, entry: &str) -> String {
    format!("{id}.{entry}")
}

#[cfg(test)]
mod tests {
    use super::{super::known::tests::sample, *};

    fn secret(entries: &[(&str, &str)]) -> Secret {
        let entry = |(name, text): &(&str, &str)| ((*name).to_owned(), ByteString(text.as_bytes().to_vec()));
        Secret { data: Some(entries.iter().map(entry).collect()), ..Secret::default() }
    }

    #[test]
    fn a_copy_follows_the_customers_secret_and_is_written_only_when_it_changes() {
        let (store, left) = (sample("one"), sample("two"));
        let mut copies = Secret::default();
        let first = secret(&[("accessKeyId", "a"), ("secretAccessKey", "b"), ("sessionToken", "c")]);
        let rotated = secret(&[("accessKeyId", "d"), ("secretAccessKey", "e"), ("other", "f")]);
        assert!(
            is_complete(&first) && is_complete(&rotated) && !is_complete(&secret(&[("accessKeyId", "a")]))
        );
        assert!(copy(&mut copies, &left, &first) && copy(&mut copies, &store, &first));
        assert!(!copy(&mut copies, &store, &first), "nothing new, nothing to write");
        assert!(copy(&mut copies, &store, &rotated));
        let names: Vec<_> = copies.data.iter().flatten().map(|(name, _)| name.clone()).collect();
        assert_eq!(names.len(), 5, "the session token is gone with its Secret's: {names:?}");
        let both = [store.clone(), left];
        assert_eq!(complete(&copies, &both).len(), 2);
        assert!(!keep_only(&mut copies, &both));
        assert!(keep_only(&mut copies, std::slice::from_ref(&store)));
        assert_eq!(complete(&copies, &both), [store.id.clone()].into());
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        assert!(keep_only(&mut copies, &[RecordStore { abandoned_at: Some(time), ..store }]));
        assert_eq!(complete(&copies, &both), BTreeSet::new(), "nothing is done with it any more");
    }
}
