//! From what was read to what is to be done, or why it can't. Pure.

use std::collections::BTreeSet;

use marketrelay_api::{ErasureRequest, ErasureRequestStatus, Reason, SubjectDigest, erasure::SubjectSecret};

use super::load::{Loaded, SecretState};
use crate::{
    names::{DIGEST_KEY, is_reserved},
    problem::Problem,
};

/// What is to be done.
pub(super) struct Validated {
    /// Connections whose relays are to confirm.
    pub(super) connections: BTreeSet<String>,
    /// Deleted ones whose volumes are still there.
    pub(super) retained: BTreeSet<String>,
    /// Connections whose keys are destroyed: nobody is asked for what they held.
    pub(super) closed: BTreeSet<String>,
    /// Some of them have backups.
    pub(super) restorable: bool,
    /// Whom or what to erase.
    pub(super) subject: Vec<SubjectDigest>,
    /// The Secret that is to be deleted.
    pub(super) consume: Option<Consume>,
}

/// A Secret that is to be deleted.
pub(super) struct Consume {
    /// In this version.
    pub(super) secret: SubjectSecret,
    /// Its digests are to be recorded first.
    pub(super) is_fresh: bool,
}

/// Everything typed. A request that can't be carried out leaves its Secret alone. Where every account is closed, nothing is left
/// that a subject could be found in: its Secret is deleted without being digested.
pub(super) fn validate(
    request: &ErasureRequest,
    before: &ErasureRequestStatus,
    loaded: &Loaded,
) -> Result<Validated, Problem> {
    let (mut connections, mut retained) = targets(request, before, loaded)?;
    let closed = closed(request, loaded);
    let is_nobody_asked = connections.is_empty() && retained.is_empty();
    let subject = &request.spec.subject;
    let known = subject.digests.as_ref().unwrap_or(&before.digests);
    let (subject, consume) = match &loaded.secret {
        SecretState::NotNeeded => (known.clone(), None),
        SecretState::Remains(secret) => {
            (known.clone(), Some(Consume { secret: secret.clone(), is_fresh: false }))
        }
        SecretState::Missing => return Err(missing(request)),
        SecretState::Fresh(plaintext, secret) => {
            let lines = plaintext.as_ref().map_err(Clone::clone)?;
            let digests = match &loaded.digest_key {
                Some(key) => lines.digests(key),
                None if is_nobody_asked => Vec::new(),
                None => return Err(no_digest_key()),
            };
            (digests, Some(Consume { secret: secret.clone(), is_fresh: true }))
        }
    };
    if subject.is_empty() {
        // A connection that was made since has nothing of a subject that was gone before.
        connections.clear();
        retained.clear();
    }
    Ok(Validated { connections, retained, closed, restorable: loaded.restorable, subject, consume })
}

/// Those that the request is about, without names that others have taken over.
fn closed(request: &ErasureRequest, loaded: &Loaded) -> BTreeSet<String> {
    let named = &request.spec.connections;
    let is_meant = |name: &&String| {
        let is_there = loaded.connections.contains(*name) || loaded.retained.contains(*name);
        !is_there && (named.is_empty() || named.contains(name))
    };
    loaded.closed.iter().filter(is_meant).cloned().collect()
}

type Targets = (BTreeSet<String>, BTreeSet<String>);

/// A connection that was there when the request was first looked at may go meanwhile, with its volume.
fn targets(
    request: &ErasureRequest,
    before: &ErasureRequestStatus,
    loaded: &Loaded,
) -> Result<Targets, Problem> {
    let was_there = |name: &str| before.connections.iter().any(|at| at.name == name);
    let named: BTreeSet<_> = request.spec.connections.iter().cloned().collect();
    if named.is_empty() {
        let nobody =
            [&loaded.connections, &loaded.retained, &loaded.closed].iter().all(|names| names.is_empty());
        if nobody && before.connections.is_empty() {
            let message = "there is no MarketplaceConnection in this namespace, so there is nobody to ask: make the \
                           request in the customer's namespace (kubectl get mconn -A)";
            return Err(Problem::new(Reason::NoConnections, format!("{message}{}", secret_stays(request))));
        }
        return Ok((loaded.connections.clone(), loaded.retained.clone()));
    }
    let known = |name: &str| {
        let lists = [&loaded.connections, &loaded.retained, &loaded.closed];
        lists.iter().any(|names| names.contains(name)) || was_there(name)
    };
    let unknown: Vec<_> = named.iter().filter(|name| !known(name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        let message = format!(
            "spec.connections: there is no MarketplaceConnection {} in this namespace (kubectl get mconn): delete this \
             request and make one with the right names, or without any to ask all{}",
            unknown.join(", "),
            secret_stays(request)
        );
        return Err(Problem::new(Reason::ConnectionNotFound, message));
    }
    let of = |there: &BTreeSet<String>| named.intersection(there).cloned().collect();
    Ok((of(&loaded.connections), of(&loaded.retained)))
}

/// What a refused request leaves behind.
fn secret_stays(request: &ErasureRequest) -> String {
    let reference =
        request.spec.subject.secret_ref.as_ref().filter(|reference| !is_reserved(&reference.name));
    let Some(reference) = reference else { return String::new() };
    format!(
        ". Secret {name} was neither used nor deleted: if no other request is to use it, delete the plaintext yourself \
         (kubectl delete secret {name})",
        name = reference.name
    )
}

fn missing(request: &ErasureRequest) -> Problem {
    let name = request.spec.subject.secret_ref.as_ref().map_or("", |reference| &reference.name);
    if is_reserved(name) {
        let message = format!(
            "spec.subject.secretRef: {name} is a name of the operator's own Secrets, which are never read for a request: \
             delete this request, put the subject into a Secret of another name, and name that in a new one"
        );
        return Problem::new(Reason::SecretInvalid, message);
    }
    let message = format!(
        "spec.subject.secretRef: there is no Secret {name} in this namespace: create it, such as with kubectl create \
         secret generic {name} --from-file=emails, or delete this request"
    );
    Problem::new(Reason::SecretNotFound, message)
}

fn no_digest_key() -> Problem {
    let message = format!(
        "Secret {DIGEST_KEY} of this namespace isn't there or can't be used, and without it nobody is found: look at the \
         conditions of the connections (kubectl get mconn), it is made with the first of them. Until then the subject's \
         Secret stays"
    );
    Problem::new(Reason::DigestKeyMissing, message)
}
