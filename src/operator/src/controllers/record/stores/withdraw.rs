//! Which stores a connection has left with keys that may be escrowed there, and what is noted of them. Pure.

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::{
    ConnectionRecord, ConnectionRecordStatus, MarketplaceConnection, OperatorConfig,
    backup::Site,
    record::{PurgedStore, RecordPhase, RecordStore},
};

use super::{
    decide::{is_since_left, settled, unpurged},
    known::address,
    purge::{Purge, What},
};
use crate::conditions::seconds;

/// So long the copy that was left may be the only one, while the new store can't be written into.
const LATEST: SignedDuration = SignedDuration::from_hours(24);

/// Whether what is escrowed there must go.
pub(super) fn has_escrow_left(store: &RecordStore) -> bool {
    let is_withdrawn = store.escrow_withdrawn_at.is_some() || store.is_settled();
    store.site == Site::OffSite && store.left_at.is_some() && !is_withdrawn
}

/// A deleted connection uses none: with those that aren't marked so yet.
pub fn retained(stores: &[RecordStore], now: Timestamp) -> Vec<RecordStore> {
    leave(stores, &[], now)
}

/// With those that aren't used any more marked as left.
pub fn leave(stores: &[RecordStore], used: &[RecordStore], now: Timestamp) -> Vec<RecordStore> {
    let is_used = |store: &RecordStore| used.iter().any(|used| used.id == store.id);
    let marked = |store: &RecordStore| {
        let left_at = store.left_at.clone().or_else(|| (!is_used(store)).then(|| seconds(now)));
        RecordStore { left_at, ..store.clone() }
    };
    stores.iter().map(marked).collect()
}

/// Of the stores that it is time for; `None`: there are none.
pub fn withdrawal(
    status: &ConnectionRecordStatus,
    connection: Option<&MarketplaceConnection>,
    config: &OperatorConfig,
    now: Timestamp,
) -> Option<Purge> {
    let waits = status.stores.iter().any(|used| is_awaited(used, connection, config));
    let is_time = |store: &&RecordStore| {
        let left = store.left_at.as_ref().map(|left| left.0);
        has_escrow_left(store) && left.is_some_and(|left| !waits || now.duration_since(left) >= LATEST)
    };
    let left: Vec<_> = status.stores.iter().filter(is_time).collect();
    let since = left.iter().filter_map(|store| store.left_at.as_ref()).map(|left| left.0).min()?;
    let store =
        |store: &&RecordStore| PurgedStore { last_failure: store.escrow_failure.clone(), ..unpurged(store) };
    let stores = left.iter().map(store).collect();
    Some(Purge { what: What::Escrow, stores, attempts: status.withdraw_attempts, since })
}

/// Whether keys are to be escrowed in a store, and aren't yet.
fn is_awaited(
    used: &RecordStore,
    connection: Option<&MarketplaceConnection>,
    config: &OperatorConfig,
) -> bool {
    let has_recipients = config.backup.as_ref().is_some_and(|backup| backup.escrow.is_on());
    let is_told = connection.and_then(|connection| {
        let status = connection.status.as_ref()?;
        let known = status.backups.as_ref()?.off_site.as_ref()?;
        let place = format!("{}/{}/", known.store, status.connection_id.as_deref()?);
        let is_escrowed = known.escrowed.as_ref().is_some_and(|escrowed| !escrowed.fingerprint.is_empty());
        Some(is_escrowed && place == address(used))
    });
    let is_used = used.site == Site::OffSite && used.left_at.is_none();
    is_used && has_recipients && !is_told.unwrap_or_default()
}

/// With what has become of it.
pub fn withdrawn(before: &ConnectionRecordStatus, after: &Purge) -> ConnectionRecordStatus {
    let noted = |store: &RecordStore| match after.stores.iter().find(|known| known.id == store.id) {
        Some(known) => RecordStore {
            escrow_withdrawn_at: known.purged_at.clone().filter(|at| is_since_left(at, store)),
            escrow_failure: known.last_failure.clone(),
            ..settled(store, known)
        },
        None => store.clone(),
    };
    let stores = before.stores.iter().map(noted).collect();
    ConnectionRecordStatus { stores, withdraw_attempts: after.attempts, ..before.clone() }
}

/// Whether these stores are still left, and the connection isn't being closed.
pub fn are_left(record: &ConnectionRecord, what: What, ids: &[&str]) -> bool {
    let Some(status) = &record.status else { return false };
    let is_left = |store: &RecordStore| match what {
        What::Everything => false,
        What::Escrow => has_escrow_left(store),
        What::Expired => store.left_at.is_some() && !store.is_settled(),
    };
    let is_named = |id: &&str| status.stores.iter().any(|store| store.id == **id && is_left(store));
    record.metadata.deletion_timestamp.is_none()
        && status.phase < RecordPhase::Closing
        && ids.iter().all(is_named)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::known::tests::sample, *};

    const ID: &str = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34";

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hour * 3_600).expect("in range")
    }

    fn off_site(bucket: &str) -> RecordStore {
        RecordStore { site: Site::OffSite, prefix: format!("relays/{ID}"), ..sample(bucket) }
    }

    fn config(recipients: &str) -> OperatorConfig {
        let text = format!(
            "{{relay: {{image: 'r.example/r:1'}}, backup: {{image: 'r.example/b:1', escrow: {{recipients: [{recipients}]}}}}}}"
        );
        OperatorConfig::parse(&text).expect("a configuration")
    }

    fn status(stores: Vec<RecordStore>) -> ConnectionRecordStatus {
        ConnectionRecordStatus { stores, ..ConnectionRecordStatus::default() }
    }

    /// The buckets that something is withdrawn from.
    fn goes(
        status: &ConnectionRecordStatus,
        connection: Option<&MarketplaceConnection>,
        recipients: &str,
        hour: i64,
    ) -> Vec<String> {
        let purge = withdrawal(status, connection, &config(recipients), at(hour));
        let stores = purge.map(|purge| purge.stores).unwrap_or_default();
        stores.into_iter().map(|store| store.store).collect()
    }

    #[test]
    fn what_is_escrowed_goes_once_from_each_off_site_store_that_was_left() {
        let (near, far, new) = (sample("near"), off_site("far"), off_site("new"));
        let all = [near.clone(), far.clone(), new.clone()];
        let left = status(leave(&all, &[near, new.clone()], at(0)));
        assert_eq!(goes(&status(all.to_vec()), None, "", 1), [""; 0]);
        assert_eq!(goes(&left, None, "", 1), [address(&far)]);
        let mut purge = withdrawal(&left, None, &config(""), at(1)).expect("one");
        assert_eq!((purge.what, purge.since, purge.attempts), (What::Escrow, at(0), 0));
        purge.attempts = 1;
        purge.stores[0].purged_at = Some(seconds(at(-1)));
        let stale = withdrawn(&left, &purge);
        assert_eq!(goes(&stale, None, "", 1), [address(&far)], "it was listed before it was left");
        purge.stores[0].purged_at = Some(seconds(at(1)));
        let done = withdrawn(&left, &purge);
        assert_eq!((goes(&done, None, "", 2), done.withdraw_attempts), (Vec::new(), 1));
        assert_eq!(withdrawn(&done, &purge), done, "nothing new, nothing to write");
        let retained = status(retained(&done.stores, at(3)));
        assert_eq!(goes(&retained, None, "", 3), [address(&new)], "a deleted connection uses none");
        let again = super::super::known::known(&retained.stores, std::slice::from_ref(&far), None).0;
        assert_eq!(again[1], far, "it is used again: nothing is left of what was noted");
    }

    #[test]
    fn the_only_copy_stays_until_the_new_store_has_one_or_a_day_is_over() {
        let (far, new) = (off_site("far"), off_site("new"));
        let moved = status(leave(&[far.clone(), new.clone()], std::slice::from_ref(&new), at(0)));
        let told = |bucket: &str, fingerprint: &str| {
            let escrowed =
                json!({"fingerprint": fingerprint, "at": "2026-11-29T00:00:00Z", "oldVersions": 0});
            let store = format!("https://s3.site.example:9000/{bucket}/relays");
            let off_site = json!({"store": store, "since": "2026-11-29T00:00:00Z", "count": 0, "bytes": 0, "overdue": 0,
                                  "foreign": 0, "damaged": 0, "escrowed": escrowed});
            serde_json::from_value::<MarketplaceConnection>(json!({
                "apiVersion": "marketrelay.dev/v1alpha1", "kind": "MarketplaceConnection", "metadata": {"name": "bol"},
                "spec": {"bol": {}, "credentialsSecretRef": {"name": "c"}, "destination": {"webhook": {
                    "url": "https://erp.example/orders", "signingSecretRef": {"name": "s"}}}},
                "status": {"connectionId": ID, "backups": {"offSite": off_site}}}))
            .expect("a connection")
        };
        let recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
        let gone = [address(&far)];
        assert_eq!(goes(&moved, Some(&told("new", "f")), recipient, 1), gone);
        for elsewhere in [told("far", "f"), told("new", "")] {
            assert_eq!(goes(&moved, Some(&elsewhere), recipient, 23), [""; 0]);
            assert_eq!(goes(&moved, Some(&elsewhere), recipient, 24), gone);
            assert_eq!(goes(&moved, Some(&elsewhere), "", 1), gone, "nothing is escrowed any more");
        }
        let removed = status(leave(&[far], &[], at(0)));
        assert_eq!(goes(&removed, None, recipient, 1), gone, "there is no other store");
    }
}
