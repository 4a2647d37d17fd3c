//! Which stores a record knows. Pure.

use marketrelay_api::{
    backup::{S3Store, Site},
    record::{RecordStore, Unused},
};

use super::{expired::has_backups_left, withdraw::has_escrow_left};
use crate::{compare::hash, controllers::connection::backup};

/// So many are purged at a closure: a Job reports of each within 4 KiB.
const MOST: usize = 8;
/// Of a digest, in hex digits.
const ID: usize = 16;

/// A store as a record has it. Its region may be corrected; another endpoint, bucket or prefix is another store.
pub fn of(site: Site, store: &S3Store) -> RecordStore {
    RecordStore {
        id: id(&store.identity()),
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
        unused: None,
        never_used_at: None,
        abandoned_at: None,
        given_up_before: false,
    }
}

/// What a store is known by.
pub fn id(identity: &str) -> String {
    hash(identity.as_bytes()).chars().take(ID).collect()
}

/// Where a store's bucket is: what the number of Jobs at the same time is counted by.
pub fn bucket(store: &RecordStore) -> String {
    backup::bucket(store.endpoint.as_ref(), &store.region, &store.bucket)
}

/// Where everything of the connection is.
pub fn address(store: &RecordStore) -> String {
    format!("{}/{}/", bucket(store), store.prefix)
}

/// With those that are used now, and those that give way to them: of those that aren't, first what nothing is left in, then what
/// was given up, then the longest known. `new`: what is noted of
/// one that wasn't known, as long as none was forgotten.
pub fn known(
    before: &[RecordStore],
    used: &[RecordStore],
    new: Option<&Unused>,
) -> (Vec<RecordStore>, Vec<RecordStore>) {
    let newest = |store: &RecordStore| match used.iter().find(|used| used.id == store.id) {
        Some(used) => RecordStore {
            unused: still_unused(store, used),
            given_up_before: store.abandoned_at.is_some() || store.given_up_before,
            ..used.clone()
        },
        None => store.clone(),
    };
    let mut all: Vec<_> = before.iter().map(newest).collect();
    for store in used {
        if all.iter().all(|known| known.id != store.id) {
            let unused = new.filter(|_| before.len() < MOST).cloned();
            all.push(RecordStore { unused, ..store.clone() });
        }
    }
    let mut gave_way = Vec::new();
    while all.len() > MOST
        && let Some(place) = least_needed(&all, used)
    {
        gave_way.push(all.remove(place));
    }
    (all, gave_way)
}

/// With what isn't named any more as new as any other. `named`: spec.abandonStores.
pub fn named_anew(stores: &[RecordStore], named: &[String]) -> Vec<RecordStore> {
    let noted = |store: &RecordStore| RecordStore {
        given_up_before: store.given_up_before && named.contains(&store.id),
        ..store.clone()
    };
    stores.iter().map(noted).collect()
}

fn least_needed(all: &[RecordStore], used: &[RecordStore]) -> Option<usize> {
    let is_unused = |known: &RecordStore| used.iter().all(|used| used.id != known.id);
    let unused = all.iter().enumerate().filter(|(_, known)| is_unused(known));
    let least = unused.min_by_key(|(_, store)| (may_hold(store), store.abandoned_at.is_some()));
    least.map(|(place, _)| place)
}

/// Whether something of the connection may be in it.
pub fn may_hold(store: &RecordStore) -> bool {
    store.left_at.is_none() || has_backups_left(store) || has_escrow_left(store)
}

/// What Jobs told of the same store by another site or region isn't matched to what they tell now.
fn still_unused(before: &RecordStore, now: &RecordStore) -> Option<Unused> {
    before.unused.clone().filter(|_| before.site == now.site && before.region == now.region)
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

    fn new() -> Unused {
        let since = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        Unused { since, jobs: Vec::new() }
    }

    /// Without what is noted of a new one.
    fn places(stores: &[RecordStore]) -> Vec<RecordStore> {
        stores.iter().map(|store| RecordStore { unused: None, ..store.clone() }).collect()
    }

    #[test]
    fn a_store_that_was_left_stays_known_until_there_are_too_many() {
        let many: Vec<_> = (0..10).map(|number| sample(&format!("bucket-{number}"))).collect();
        let (mut all, mut lost) = (Vec::new(), Vec::new());
        for store in &many {
            let (next, gave_way) = known(&all, &[many[0].clone(), store.clone()], Some(&new()));
            (all, lost) = (next, [lost, gave_way].concat());
        }
        assert_eq!(all.len(), MOST);
        assert_eq!(places(&lost), many[1..3], "the first one is still used");
        let is_unused: Vec<_> = all.iter().map(|store| store.unused.is_some()).collect();
        assert_eq!(
            is_unused,
            [true, true, true, true, true, true, false, false],
            "it may be one that was forgotten"
        );
        assert_eq!(
            known(&all, &many[..1], Some(&new())),
            (all.clone(), Vec::new()),
            "nothing new, nothing changes"
        );
    }

    #[test]
    fn a_store_that_may_hold_backups_gives_way_last() {
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        let left = |bucket: &str| RecordStore { left_at: Some(time.clone()), ..sample(bucket) };
        let given_up = RecordStore { abandoned_at: Some(time.clone()), ..left("given-up") };
        let never_used = RecordStore { never_used_at: Some(time.clone()), ..left("never-used") };
        let full: Vec<_> = (0..6).map(|number| left(&format!("full-{number}"))).collect();
        let mut all = [&full[..], &[given_up.clone(), never_used.clone()]].concat();
        for expected in [&never_used, &given_up, &full[0]] {
            let new = sample(&format!("instead-of-{}", expected.bucket));
            let (next, gave_way) = known(&all, std::slice::from_ref(&new), None);
            assert_eq!(gave_way, std::slice::from_ref(expected));
            all =
                next.into_iter().map(|store| RecordStore { left_at: Some(time.clone()), ..store }).collect();
        }
    }

    #[test]
    fn a_store_that_is_used_again_after_it_was_given_up_is_given_up_again_only_if_it_is_named_anew() {
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        let given_up = RecordStore { abandoned_at: Some(time), ..sample("bucket") };
        let named = std::slice::from_ref(&given_up.id);
        let used = known(std::slice::from_ref(&given_up), &[sample("bucket")], None).0;
        assert_eq!((used[0].abandoned_at.as_ref(), used[0].given_up_before), (None, true));
        let used = known(&used, &[sample("bucket")], None).0;
        assert!(used[0].given_up_before && named_anew(&used, named)[0].given_up_before);
        assert_eq!(named_anew(&used, &[]), [sample("bucket")]);
    }

    #[test]
    fn a_corrected_region_is_the_same_store_and_another_prefix_is_another_one() {
        let first = sample("bucket");
        for endpoint in [first.endpoint.clone(), None] {
            let s3 = S3Store { endpoint, ..first.s3("") };
            let typo = of(Site::OnSite, &s3);
            let corrected = of(Site::OnSite, &S3Store { region: "eu-central-1".to_owned(), ..s3 });
            let (noted, _) = known(&[], &[typo], Some(&new()));
            assert!(noted[0].unused.is_some());
            assert_eq!(
                known(&noted, std::slice::from_ref(&corrected), Some(&new())).0,
                [corrected],
                "it may be used"
            );
        }
        let mut s3 = first.s3("");
        s3.prefix = "other/id".to_owned();
        let moved = of(Site::OnSite, &s3);
        let (both, _) = known(std::slice::from_ref(&first), std::slice::from_ref(&moved), Some(&new()));
        assert_eq!(places(&both), [first, moved]);
    }
}
