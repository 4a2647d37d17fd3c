//! The record's status. Pure.

use jiff::Timestamp;
use kube::ResourceExt;
use marketrelay_api::{
    ConnectionRecord, ConnectionRecordStatus,
    backup::Site,
    hold::HoldStatus,
    record::{ClosureCause, ClosureProof, Listing, PurgedStore, RecordPhase},
};

use super::{
    confirm::Waits,
    found::{Found, NamespaceState, resources, selector},
    proof,
    stores::{self, Facts, Purge},
};
use crate::conditions::seconds;

const RETAINED: &str = "the connection is deleted; its volume and keys are retained, and its keys go on dying on time: apply \
    the connection again to adopt them, or set spec.closure.confirm to close the account, which destroys what holds keep, too";

/// In a phase before the closure.
pub fn marked(before: &ConnectionRecordStatus, phase: RecordPhase, now: Timestamp) -> ConnectionRecordStatus {
    let message = (phase == RecordPhase::Retained).then(|| RETAINED.to_owned());
    ConnectionRecordStatus { phase, since: Some(seconds(now)), message, ..before.clone() }
}

/// In the phase that it has. `waits`: what is still to be removed from stores that were left.
pub fn waiting(before: ConnectionRecordStatus, waits: Vec<String>) -> ConnectionRecordStatus {
    let retained = (before.phase == RecordPhase::Retained).then(|| RETAINED.to_owned());
    let message = match before.phase {
        RecordPhase::Active | RecordPhase::Retained => {
            let parts: Vec<_> = retained.into_iter().chain(waits).collect();
            (!parts.is_empty()).then(|| parts.join("; "))
        }
        _ => before.message.clone(),
    };
    ConnectionRecordStatus { message, ..before }
}

/// The closure waits for a confirmation on the record. The connection says the same.
/// `held`: what the connection told last of its holds.
pub fn awaiting(
    before: &ConnectionRecordStatus,
    waits: &Waits,
    held: &[HoldStatus],
    home: &str,
    id: &str,
    now: Timestamp,
) -> ConnectionRecordStatus {
    let why = match waits {
        Waits::Holds(names) => {
            let count = |name: &String| {
                let orders = held.iter().find(|hold| hold.name == *name).and_then(|hold| hold.orders);
                orders.map_or_else(|| name.clone(), |orders| format!("{name} ({orders} orders)"))
            };
            let names = names.iter().map(count).collect::<Vec<_>>().join(", ");
            format!("the holds {names} keep orders of this account, which would be destroyed too")
        }
        Waits::Breaker => {
            "more closures than closure.breaker of the operator's values began within an hour".to_owned()
        }
    };
    let message = Some(format!(
        "{why}, so this closure waits, and meanwhile nothing is collected or delivered: to close the account, kubectl -n {home} patch connrec {id} --type=merge -p \
         '{{\"spec\":{{\"closure\":{{\"confirm\":\"{id}\"}}}}}}'; to keep it, remove spec.closure of the connection"
    ));
    let phase = RecordPhase::AwaitingConfirmation;
    ConnectionRecordStatus { phase, since: Some(seconds(now)), message, ..before.clone() }
}

/// The closure begins.
pub fn begun(
    before: ConnectionRecordStatus,
    cause: ClosureCause,
    found: &Found,
    now: Timestamp,
) -> ConnectionRecordStatus {
    let now = seconds(now);
    let proof = ClosureProof {
        cause,
        began_at: now.clone(),
        keys_destroyed_at: None,
        closed_at: None,
        objects: Vec::new(),
        stores: stores::begun(&before),
        purge_attempts: 0,
        listing: None,
    };
    let proof = proof::updated(&proof, found, &now);
    let (phase, message) = (RecordPhase::Closing, Some(message(&proof, found, None)));
    ConnectionRecordStatus { phase, since: Some(now), message, closure: Some(proof), ..before }
}

/// The closure goes on, or ends because nothing is left. `facts`: of the stores, once nothing can write into them.
pub fn purging(
    record: &ConnectionRecord,
    found: &Found,
    facts: Option<&Facts>,
    now: Timestamp,
) -> ConnectionRecordStatus {
    let before = record.status.clone().unwrap_or_default();
    let Some(known) = &before.closure else { return before };
    let purge = Purge::of(known);
    let is_over = found.objects.is_empty() && purge.is_over();
    let purged = facts.map_or_else(|| known.clone(), |facts| stores::noted(&purge, facts, now).onto(known));
    let now = seconds(now);
    let proof = proof::updated(&purged, found, &now);
    if !is_over {
        let message = Some(message(&proof, found, facts));
        return ConnectionRecordStatus { message, closure: Some(proof), ..before };
    }
    let kinds = resources().into_iter().map(|resource| resource.kind);
    let listing = Listing {
        at: now.clone(),
        namespace: record.spec.namespace.clone(),
        namespace_exists: found.namespace != NamespaceState::Gone,
        selector: selector(record),
        kinds: kinds.chain(["PersistentVolume".to_owned()]).collect(),
        found: 0,
    };
    ConnectionRecordStatus {
        phase: RecordPhase::Closed,
        since: Some(now.clone()),
        message: Some(closed(record, &proof)),
        closure: Some(ClosureProof { closed_at: Some(now), listing: Some(listing), ..proof }),
        ..before
    }
}

fn closed(record: &ConnectionRecord, proof: &ClosureProof) -> String {
    let left: Vec<_> = proof.stores.iter().filter(|store| store.abandoned_at.is_some()).collect();
    let left: Vec<_> = left.into_iter().map(|store| format!("{} {}", store.site, store.store)).collect();
    let id = record.name_any();
    if left.is_empty() {
        return format!("nothing of connection {id} is left");
    }
    format!(
        "nothing of connection {id} is left but what may be in the stores that were given up{}: {}",
        if may_be_escrowed(&proof.stores) { ", and what was escrowed of the keys there" } else { "" },
        left.join(", ")
    )
}

fn may_be_escrowed(stores: &[PurgedStore]) -> bool {
    let is_rid = |store: &PurgedStore| store.purged_at.is_some() || store.never_used_at.is_some();
    stores.iter().any(|store| store.site == Site::OffSite && !is_rid(store))
}

fn message(proof: &ClosureProof, found: &Found, facts: Option<&Facts>) -> String {
    let keys = match &proof.keys_destroyed_at {
        Some(_) if may_be_escrowed(&proof.stores) => {
            "the keys are destroyed, and what was escrowed of them goes with the off-site store"
        }
        Some(_) => "the keys are destroyed, so no copy of the data can be read any more",
        None => "the keys are being destroyed",
    };
    let still = (!found.objects.is_empty()).then(|| format!("still there: {}", proof::waiting(found)));
    let parts = still.into_iter().chain(stores::waiting(&Purge::of(proof), facts));
    ["there is no way back", keys].map(str::to_owned).into_iter().chain(parts).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use marketrelay_api::{ConnectionRecordSpec, hold::HoldState};

    use super::{
        super::found::{Object, Turn},
        *,
    };

    const ID: &str = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_250 + 1_000 * second).expect("in range")
    }

    fn record(status: ConnectionRecordStatus) -> ConnectionRecord {
        let spec = ConnectionRecordSpec {
            namespace: "acme".to_owned(),
            connection: "bol".to_owned(),
            marketplace: "bol".to_owned(),
            volume: "bol-data".to_owned(),
            closure: None,
            abandon_stores: Vec::new(),
        };
        ConnectionRecord { status: Some(status), ..ConnectionRecord::new(ID, spec) }
    }

    fn found(objects: Vec<Object>) -> Found {
        Found { namespace: NamespaceState::There, objects, digest_key_is_shared: true }
    }

    #[test]
    fn a_look_that_finds_nothing_closes_and_one_that_finds_the_same_changes_nothing() {
        let keyring = Object::sample("Secret", "bol-keyring", Some(Turn::Keyring), Some(&["volume.1"]));
        let claim = Object::sample("PersistentVolumeClaim", "bol-data", Some(Turn::Volume), None);
        let both = || found(vec![keyring.clone(), claim.clone()]);
        let begun =
            begun(ConnectionRecordStatus::default(), ClosureCause::ConnectionConfirmed, &both(), at(0));
        assert_eq!(begun.phase, RecordPhase::Closing);
        assert_eq!(
            purging(&record(begun.clone()), &both(), None, at(1)),
            begun,
            "nothing new, nothing to write"
        );
        let keyless = purging(&record(begun), &found(vec![claim]), None, at(2));
        assert_eq!(keyless.phase, RecordPhase::Closing);
        let message = keyless.message.clone().unwrap_or_default();
        assert!(
            message.ends_with("can be read any more; still there: PersistentVolumeClaim bol-data"),
            "{message}"
        );
        let closed = purging(&record(keyless), &found(Vec::new()), None, at(3));
        let proof = closed.closure.expect("a proof");
        assert_eq!(
            (closed.phase, proof.listing.as_ref().map(|listing| listing.found)),
            (RecordPhase::Closed, Some(0))
        );
        assert_eq!((proof.keys_destroyed_at, proof.closed_at), (Some(seconds(at(2))), Some(seconds(at(3)))));
        assert!(proof.objects.iter().all(|object| object.gone_at.is_some()));
    }

    #[test]
    fn a_key_of_a_hold_is_seen_also_where_its_name_can_not_be_read() {
        let entries = ["epoch.20270131T000000Z", "hold.tax.20270131T000000Z", "hold.odd", "volume.1"];
        let keyring = Object::sample("Secret", "bol-keyring", Some(Turn::Keyring), Some(&entries));
        assert_eq!(found(vec![keyring]).holds(), ["odd", "tax"].into());
    }

    #[test]
    fn a_closure_that_waits_says_how_to_confirm_it_and_how_to_take_it_back() {
        let before = ConnectionRecordStatus::default();
        let until = seconds(at(900));
        let court = HoldStatus { name: "court".to_owned(), until, orders: Some(12), state: HoldState::Held };
        let holds = Waits::Holds(["court", "tax"].map(str::to_owned).into());
        for (waits, why) in
            [(holds, "the holds court (12 orders), tax keep"), (Waits::Breaker, "closure.breaker")]
        {
            let waits =
                awaiting(&before, &waits, std::slice::from_ref(&court), "marketrelay-system", ID, at(0));
            assert_eq!(waits.phase, RecordPhase::AwaitingConfirmation);
            let message = waits.message.unwrap_or_default();
            assert!(message.contains(why), "{message}");
            assert!(message.contains(&format!("-n marketrelay-system patch connrec {ID}")), "{message}");
            let confirmation = format!(r#"{{"spec":{{"closure":{{"confirm":"{ID}"}}}}}}"#);
            assert!(message.contains(&confirmation), "{message}");
            assert!(message.contains("remove spec.closure"), "{message}");
        }
    }
}
