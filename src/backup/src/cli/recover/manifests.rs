//! What the new cluster's operator finds, as Kubernetes' objects. Pure.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use marketrelay_api::{
    Duration, ErasureRequest, ErasureRequestSpec, SubjectDigest, erasure::Subject, key_secret, labels,
};
use marketrelay_audit::hex;
use marketrelay_keyring::DIGEST_KEY_ENTRY;
use serde::Serialize;
use snafu::{ResultExt, Whatever};
use zeroize::{Zeroize, Zeroizing};

use super::Opened;

/// Digests of one request.
const MOST_DIGESTS: usize = 100;
/// As requests have it that say nothing.
const KEPT: u16 = 30;

/// YAML by namespace.
#[derive(Default)]
pub struct Manifests {
    pub keys: BTreeMap<String, Zeroizing<String>>,
    pub erasures: BTreeMap<String, Zeroizing<String>>,
    /// Connections of which not everything is escrowed that was erased, and until when.
    pub incomplete: Vec<(String, Timestamp)>,
}

/// Of connections that agree about their namespaces' digest keys.
pub fn of(all: &[&Opened], now: Timestamp) -> Result<Manifests, Whatever> {
    let mut namespaces = BTreeMap::<_, Vec<&Opened>>::new();
    for opened in all {
        namespaces.entry(opened.namespace.as_str()).or_default().push(opened);
    }
    let incomplete = all.iter().filter_map(|opened| Some((opened.shown(), opened.erasures.since?)));
    let mut manifests = Manifests { incomplete: incomplete.collect(), ..Manifests::default() };
    for (namespace, opened) in namespaces {
        let mut secrets: Vec<_> = opened.first().map(|one| digest_key(one)).into_iter().collect();
        secrets.extend(opened.iter().flat_map(|one| [keyring(one, now), identities(one)]));
        let yaml = documents(&secrets);
        secrets.iter_mut().for_each(wipe);
        manifests.keys.insert(namespace.to_owned(), yaml?);
        let requests = erasures(namespace, &opened);
        if !requests.is_empty() {
            manifests.erasures.insert(namespace.to_owned(), documents(&requests)?);
        }
    }
    Ok(manifests)
}

fn documents(objects: &[impl Serialize]) -> Result<Zeroizing<String>, Whatever> {
    let mut yaml = Zeroizing::new(String::new());
    for object in objects {
        let document = Zeroizing::new(serde_yaml::to_string(object).whatever_context("a manifest")?);
        yaml.push_str("---\n");
        yaml.push_str(&document);
    }
    Ok(yaml)
}

fn secret(metadata: ObjectMeta, namespace: &str, entries: BTreeMap<String, Vec<u8>>) -> Secret {
    let data = entries.into_iter().map(|(name, bytes)| (name, ByteString(bytes))).collect();
    let metadata = ObjectMeta { namespace: Some(namespace.to_owned()), ..metadata };
    Secret { metadata, data: Some(data), ..Secret::default() }
}

fn wipe(secret: &mut Secret) {
    secret.data.iter_mut().flat_map(|data| data.values_mut()).for_each(|bytes| bytes.0.zeroize());
}

fn keyring(opened: &Opened, now: Timestamp) -> Secret {
    let name = key_secret::keyring(&opened.name);
    let mut metadata = key_secret::metadata(&name, Some(&opened.name), Some(opened.id.as_str()));
    let chain = opened.chain.as_deref().unwrap_or(labels::UNKNOWN_DATABASE);
    let since = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let annotations = [(labels::DATABASE, chain.to_owned()), (labels::VOLUME_KEY_SINCE, since)];
    let known = opened.erasures.since.map(|since| (labels::ERASURES_KNOWN_SINCE, since.to_string()));
    let annotations = annotations.into_iter().chain(known);
    metadata.annotations = Some(annotations.map(|(name, value)| (name.to_owned(), value)).collect());
    secret(metadata, &opened.namespace, opened.keyring.entries())
}

fn identities(opened: &Opened) -> Secret {
    let name = key_secret::backup_identities(&opened.name);
    let metadata = key_secret::metadata(&name, Some(&opened.name), Some(opened.id.as_str()));
    secret(metadata, &opened.namespace, opened.identities.entries())
}

fn digest_key(opened: &Opened) -> Secret {
    let metadata = key_secret::metadata(key_secret::DIGEST_KEY, None, None);
    let entries = [(DIGEST_KEY_ENTRY.to_owned(), opened.digest.expose().to_vec())];
    secret(metadata, &opened.namespace, entries.into())
}

/// One for each erasure, of all connections that know it, in as many parts as its digests need. Connections of another folder
/// have others, and are part of the name.
fn erasures(namespace: &str, opened: &[&Opened]) -> Vec<ErasureRequest> {
    let mut all = BTreeMap::<&str, (BTreeSet<SubjectDigest>, BTreeSet<&str>)>::new();
    for one in opened {
        for erasure in &one.erasures.requests {
            let (subject, connections) = all.entry(&erasure.uid).or_default();
            subject.extend(&erasure.subject);
            connections.insert(&one.name);
        }
    }
    let mut requests = Vec::new();
    for (uid, (subject, connections)) in all {
        let subject: Vec<_> = subject.into_iter().collect();
        let known_by = connections.iter().copied().collect::<Vec<_>>().join(" ");
        let known_by = hex(&digest(&SHA256, known_by.as_bytes()).as_ref()[..4]);
        for (part, digests) in subject.chunks(MOST_DIGESTS).enumerate() {
            let name = format!("recovered-{uid}-{known_by}-{part}");
            let spec = ErasureRequestSpec {
                subject: Subject { digests: Some(digests.to_vec()), secret_ref: None },
                connections: connections.iter().map(|name| (*name).to_owned()).collect(),
                ttl_after_completion: Duration::days(KEPT),
            };
            let mut request = ErasureRequest::new(&name, spec);
            request.metadata.namespace = Some(namespace.to_owned());
            let source = (labels::SOURCE.to_owned(), labels::RECOVERED.to_owned());
            request.metadata.labels = Some([source].into());
            requests.push(request);
        }
    }
    requests
}
