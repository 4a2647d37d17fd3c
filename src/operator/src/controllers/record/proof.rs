//! From what is known and what was found to the proof. Pure, so that it may be interrupted anywhere.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use marketrelay_api::record::{ClosedObject, ClosureProof};

use super::found::{Found, Object, Turn};
use crate::names::DIGEST_KEY;

/// With what is new or gone since.
pub fn updated(before: &ClosureProof, found: &Found, now: &Time) -> ClosureProof {
    let is_there = |known: &ClosedObject| found.objects.iter().find(|object| object.uid == known.uid);
    let was_taken_back = |known: &ClosedObject| {
        known.name == DIGEST_KEY && known.gone_at.is_none() && found.digest_key_is_shared
    };
    let mut objects: Vec<_> = before
        .objects
        .iter()
        .filter(|known| !was_taken_back(known))
        .map(|known| match is_there(known) {
            Some(object) => closed(object),
            None => {
                ClosedObject { gone_at: known.gone_at.clone().or_else(|| Some(now.clone())), ..known.clone() }
            }
        })
        .collect();
    let is_new = |object: &&Object| before.objects.iter().all(|known| known.uid != object.uid);
    objects.extend(found.objects.iter().filter(is_new).map(closed));
    let has_keys = found.objects.iter().any(Object::is_key);
    ClosureProof {
        keys_destroyed_at: (!has_keys)
            .then(|| before.keys_destroyed_at.clone().unwrap_or_else(|| now.clone())),
        objects,
        ..before.clone()
    }
}

fn closed(object: &Object) -> ClosedObject {
    let entries = object.entries.clone();
    ClosedObject {
        kind: object.kind.clone(),
        name: object.name.clone(),
        uid: object.uid.clone(),
        entry_count: entries.as_ref().map(|entries| i64::try_from(entries.len()).unwrap_or(i64::MAX)),
        entries: entries.unwrap_or_default(),
        gone_at: None,
    }
}

/// What is to be deleted now, in this order. With a keyring there, nothing that it opens goes before it.
pub fn doomed(found: &Found) -> impl Iterator<Item = &Object> {
    found.objects.iter().filter(|object| object.turn.is_some() && !object.is_leaving)
}

/// Whether a failure to delete one thing is a reason to leave another alone for now: a relay that can't be stopped isn't
/// for the keys, keys that can't be destroyed are for the volume.
pub fn holds_up(failed: Turn, next: Turn) -> bool {
    failed <= Turn::Keys && next > Turn::Keys
}

/// What a person must know of what is still there.
pub fn waiting(found: &Found) -> String {
    let shown = found.objects.iter().map(|object| {
        let why = object.stays.map(|why| format!(" ({why})")).unwrap_or_default();
        format!("{} {}{why}", object.kind, object.name)
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use marketrelay_api::record::ClosureCause;

    use super::{super::found::NamespaceState, *};

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(1_800_000_000 + second).expect("in range"))
    }

    fn object(kind: &str, name: &str, turn: Option<Turn>, entries: Option<&[&str]>) -> Object {
        Object::sample(kind, name, turn, entries)
    }

    fn found(objects: Vec<Object>) -> Found {
        Found { namespace: NamespaceState::There, objects, digest_key_is_shared: false }
    }

    fn empty() -> ClosureProof {
        ClosureProof {
            cause: ClosureCause::ConnectionConfirmed,
            began_at: at(0),
            keys_destroyed_at: None,
            closed_at: None,
            objects: Vec::new(),
            stores: Vec::new(),
            purge_attempts: 0,
            listing: None,
        }
    }

    #[test]
    fn each_object_is_noted_with_its_keys_and_when_it_was_seen_to_be_gone() {
        let keyring = object("Secret", "bol-keyring", Some(Turn::Keyring), Some(&["epoch.1", "volume.1"]));
        let claim = object("PersistentVolumeClaim", "bol-data", Some(Turn::Volume), None);
        let first = updated(&empty(), &found(vec![keyring.clone(), claim.clone()]), &at(1));
        assert_eq!(first.objects[0].entry_count, Some(2));
        assert!(first.keys_destroyed_at.is_none() && first.objects.iter().all(|one| one.gone_at.is_none()));
        let second = updated(&first, &found(vec![claim.clone()]), &at(2));
        assert_eq!(second.objects[0].gone_at, Some(at(2)));
        assert_eq!(second.objects[0].entries, ["epoch.1", "volume.1"]);
        assert_eq!(
            (second.keys_destroyed_at.clone(), second.objects[1].gone_at.clone()),
            (Some(at(2)), None)
        );
        let third = updated(&second, &found(Vec::new()), &at(3));
        assert_eq!(
            (third.objects[0].gone_at.clone(), third.keys_destroyed_at.clone()),
            (Some(at(2)), Some(at(2)))
        );
        assert_eq!(third.objects[1].gone_at, Some(at(3)));
        let back = updated(&third, &found(vec![Object { uid: "other".into(), ..keyring }]), &at(4));
        assert_eq!((back.objects.len(), back.keys_destroyed_at), (3, None), "keys that were put back");
    }

    #[test]
    fn a_shared_key_that_another_connection_needs_meanwhile_is_no_part_of_the_proof() {
        let key = object("Secret", DIGEST_KEY, Some(Turn::Keys), Some(&["digest-key"]));
        let first = updated(&empty(), &found(vec![key]), &at(1));
        assert_eq!(first.objects.len(), 1);
        let needed = Found { digest_key_is_shared: true, ..found(Vec::new()) };
        assert_eq!(updated(&first, &needed, &at(2)).objects, []);
        assert_eq!(updated(&first, &found(Vec::new()), &at(2)).objects[0].gone_at, Some(at(2)));
    }

    #[test]
    fn nothing_waits_for_the_relay_but_the_volume_waits_for_the_keys() {
        for (failed, next, expected) in [
            (Turn::Relay, Turn::Keyring, false),
            (Turn::Relay, Turn::Keys, false),
            (Turn::Identities, Turn::Keyring, false),
            (Turn::Identities, Turn::Volume, true),
            (Turn::Keyring, Turn::Keys, false),
            (Turn::Relay, Turn::Volume, true),
            (Turn::Keyring, Turn::Volume, true),
            (Turn::Keys, Turn::Rest, true),
            (Turn::Volume, Turn::Rest, false),
        ] {
            assert_eq!(holds_up(failed, next), expected, "{failed:?} {next:?}");
        }
    }

    #[test]
    fn what_leaves_already_is_left_alone_and_what_stays_says_why() {
        let pod = object("Pod", "bol-relay-0", None, None);
        let claim = Object {
            is_leaving: true,
            ..object("PersistentVolumeClaim", "bol-data", Some(Turn::Volume), None)
        };
        let volume = Object { stays: Some("delete it"), ..object("PersistentVolume", "pv-1", None, None) };
        let found = found(vec![claim, pod, volume]);
        assert_eq!(doomed(&found).count(), 0);
        assert_eq!(
            waiting(&found),
            "PersistentVolumeClaim bol-data, Pod bol-relay-0, PersistentVolume pv-1 (delete it)"
        );
    }
}
