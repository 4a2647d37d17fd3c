//! Which stores a record knows. Pure.

use marketrelay_api::{
    backup::{S3Store, Site},
    record::RecordStore,
};

use crate::{compare::hash, controllers::connection::backup};

/// So many are purged at a closure: a Job reports of each within 4 KiB.
const MOST: usize = 8;
/// Of a digest, in hex digits.
const ID: usize = 16;

/// A store as a record has it. Its region may be corrected; another endpoint, bucket or prefix is another store.
pub fn of(site: Site, store: &S3Store) -> RecordStore {
    let mut known = RecordStore {
        id: String::new(),
        site,
        endpoint: store.endpoint.clone(),
        bucket: store.bucket.clone(),
        region: store.region.clone(),
        prefix: store.prefix.clone(),
        path_style: store.path_style,
        left_at: None,
        escrow_withdrawn_at: None,
        escrow_failure: None,
        backups: None,
        prune_failure: None,
    };
    let digest = hash(identity(&known).as_bytes());
    known.id.push_str(&digest[..ID]);
    known
}

/// Where a store's bucket is: what the number of Jobs at the same time is counted by.
pub fn bucket(store: &RecordStore) -> String {
    backup::bucket(store.endpoint.as_ref(), &store.region, &store.bucket)
}

/// What makes it the same store: AWS's names of buckets are unique without a region.
fn identity(store: &RecordStore) -> String {
    match &store.endpoint {
        Some(_) => address(store),
        None => format!("https://s3.amazonaws.com/{}/{}/", store.bucket, store.prefix),
    }
}

/// Where everything of the connection is.
pub fn address(store: &RecordStore) -> String {
    format!("{}/{}/", bucket(store), store.prefix)
}

/// With those that are used now, and those that give way to them: the longest known of those that aren't.
pub fn known(before: &[RecordStore], used: &[RecordStore]) -> (Vec<RecordStore>, Vec<RecordStore>) {
    let newest = |store: &RecordStore| used.iter().find(|used| used.id == store.id).unwrap_or(store).clone();
    let mut all: Vec<_> = before.iter().map(newest).collect();
    for store in used {
        if all.iter().all(|known| known.id != store.id) {
            all.push(store.clone());
        }
    }
    let mut gave_way = Vec::new();
    while all.len() > MOST
        && let Some(place) = all.iter().position(|known| used.iter().all(|used| used.id != known.id))
    {
        gave_way.push(all.remove(place));
    }
    (all, gave_way)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn sample(bucket: &str) -> RecordStore {
        let store = S3Store {
            endpoint: "https://s3.site.example:9000".parse().ok(),
            bucket: bucket.to_owned(),
            region: "us-east-1".to_owned(),
            prefix: "relays/id".to_owned(),
            path_style: true,
            ca_certificates: String::new(),
        };
        of(Site::OnSite, &store)
    }

    #[test]
    fn a_store_that_was_left_stays_known_until_there_are_too_many() {
        let many: Vec<_> = (0..10).map(|number| sample(&format!("bucket-{number}"))).collect();
        let (mut all, mut lost) = (Vec::new(), Vec::new());
        for store in &many {
            let (next, gave_way) = known(&all, &[many[0].clone(), store.clone()]);
            (all, lost) = (next, [lost, gave_way].concat());
        }
        assert_eq!(all.len(), MOST);
        assert_eq!(lost, many[1..3], "the first one is still used");
        assert_eq!(known(&all, &all[..2]), (all.clone(), Vec::new()), "nothing new, nothing changes");
    }

    #[test]
    fn a_corrected_region_is_the_same_store_and_another_prefix_is_another_one() {
        let first = sample("bucket");
        for endpoint in [first.endpoint.clone(), None] {
            let s3 = S3Store { endpoint, ..first.s3("") };
            let typo = of(Site::OnSite, &s3);
            let corrected = of(Site::OnSite, &S3Store { region: "eu-central-1".to_owned(), ..s3 });
            assert_eq!(known(&[typo], std::slice::from_ref(&corrected)).0, [corrected]);
        }
        let mut s3 = first.s3("");
        s3.prefix = "other/id".to_owned();
        let moved = of(Site::OnSite, &s3);
        assert_eq!(known(std::slice::from_ref(&first), std::slice::from_ref(&moved)).0, [first, moved]);
    }
}
