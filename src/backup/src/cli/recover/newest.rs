use jiff::Timestamp;
use marketrelay_snapshot::Manifest;

use super::{Opened, find::Reader};
use crate::{catalog::Catalog, store::StoreError};

/// What a listing says of a connection's newest backup.
pub struct Newest {
    pub taken: Option<Timestamp>,
    /// Why it can't be restored.
    pub problem: Option<String>,
}

/// Lists the connection's part of the store.
pub async fn newest(reader: &Reader, opened: &Opened, now: Timestamp) -> Newest {
    match list(reader, opened).await {
        Ok(catalog) => judge(&catalog, opened, now),
        Err(error) => Newest { taken: None, problem: Some(error.to_string()) },
    }
}

async fn list(reader: &Reader, opened: &Opened) -> Result<Catalog, StoreError> {
    let store = reader.store(&opened.id)?;
    Catalog::load(&store, opened.id.as_str(), Some(&opened.public_key)).await
}

fn judge(catalog: &Catalog, opened: &Opened, now: Timestamp) -> Newest {
    let live = || catalog.manifests.iter().filter(|(_, manifest)| manifest.expires_at > now);
    let is_own = |manifest: &Manifest| Some(&manifest.audit.chain) == opened.chain.as_ref();
    let has_own = live().any(|(_, manifest)| is_own(manifest));
    let newest = live()
        .filter(|(_, manifest)| !has_own || is_own(manifest))
        .max_by_key(|(_, manifest)| (manifest.sequence, manifest.created_at));
    let damaged = catalog.damaged.iter().max_by(|one, other| one.0.cmp(&other.0));
    let newer = damaged.filter(|(id, _)| newest.is_none_or(|(newest, _)| newest < id));
    let problem = newer.map(|(id, problem)| format!("backup {id} is damaged: {problem}"));
    let Some((id, manifest)) = newest else { return Newest { taken: None, problem } };
    let identity = manifest.identity.parse().ok().and_then(|name| opened.identities.identity(name));
    let missing = || format!("the identity {} that opens backup {id} isn't escrowed", manifest.identity);
    let problem = problem.or_else(|| identity.is_none().then(missing));
    let since = opened.erasures.since.filter(|since| manifest.created_at < *since);
    let problem = problem.or_else(|| {
        Some(format!("backup {id} would bring back what was erased before {}, which isn't escrowed", since?))
    });
    Newest { taken: Some(manifest.created_at), problem }
}
