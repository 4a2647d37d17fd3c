//! Removing what a listing has found.

use crate::store::{Store, StoreError, Upload, Version};

/// What has become of it.
#[derive(Debug, Default)]
pub struct Removed<'a> {
    /// What isn't, and why: a version, or an upload.
    pub kept: Vec<(Option<&'a Version>, StoreError)>,
    /// The store itself is away: nothing else was tried.
    pub away: Option<StoreError>,
}

impl Removed<'_> {
    /// Why not everything is removed: that the store is away, or the first reason.
    pub fn problem(self) -> Option<StoreError> {
        self.away.or_else(|| self.kept.into_iter().next().map(|(_, error)| error))
    }
}

/// Removes versions, then unfinished uploads, in their order, and counts them. What can't be removed keeps nothing else back.
pub async fn remove<'a>(
    store: &Store,
    versions: impl IntoIterator<Item = &'a Version>,
    uploads: impl IntoIterator<Item = &'a Upload>,
    count: &mut u64,
) -> Removed<'a> {
    let mut removed = Removed::default();
    for version in versions {
        match store.delete(version).await {
            Ok(()) => *count += 1,
            Err(error) if error.is_passing() => return Removed { away: Some(error), ..removed },
            Err(error) => removed.kept.push((Some(version), error)),
        }
    }
    for upload in uploads {
        match store.abort(upload).await {
            Ok(()) => *count += 1,
            Err(error) if error.is_passing() => return Removed { away: Some(error), ..removed },
            Err(error) => removed.kept.push((None, error)),
        }
    }
    removed
}
