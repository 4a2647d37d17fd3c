//! Which archives of holds are needed, and which must not be in the store any more. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::{SignedDuration, Timestamp};
use marketrelay_keyring::HoldId;
use marketrelay_snapshot::Manifest;

use crate::{
    BackupId,
    inventory::Stored,
    prune::{Due, unfinished, written},
};

/// A Job may have begun before it could know of a hold.
const UNKNOWN: SignedDuration = SignedDuration::from_hours(1);

/// An archive: whose, and which. Those of a hold sort by time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArchiveId {
    /// The hold's id.
    pub hold: HoldId,
    /// The archive's own.
    pub id: BackupId,
}

impl fmt::Display for ArchiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of hold {}", self.id, self.hold)
    }
}

/// The holds whose keys there are, and when those are destroyed.
pub type Holds = BTreeMap<HoldId, Timestamp>;

/// The manifests of archives that could be read and are their own.
pub type Archives = BTreeMap<ArchiveId, Manifest>;

/// What must be gone at `now`: archives of holds that have ended, whatever their age, and what nobody finishes. An archive of
/// a living hold stays, whatever its age, and so do all while it isn't known which live. That a hold was prolonged the relay may
/// have known before the configuration did.
pub fn due(
    stored: &BTreeMap<ArchiveId, Stored>,
    good: &Archives,
    holds: Option<&Holds>,
    now: Timestamp,
) -> Vec<(ArchiveId, Due)> {
    let judge = |(id, stored): (&ArchiveId, &Stored)| {
        let has_ended = holds.is_some_and(|holds| match holds.get(&id.hold) {
            Some(until) => {
                let told = good.get(id).map_or(*until, |manifest| manifest.expires_at);
                told.max(*until) <= now
            }
            None => now.duration_since(written(&id.id, stored)) >= UNKNOWN,
        });
        let due = if has_ended { Some(Due::Everything) } else { unfinished(&id.id, stored, now) };
        due.map(|due| (id.clone(), due))
    };
    stored.iter().filter_map(judge).collect()
}

/// Those that a newer good archive of the same hold stands in for: one of the same database that has at least as many orders. A
/// database that came back without some of them, or was begun anew, doesn't have the older archive removed that has them.
pub fn superseded(stored: &BTreeMap<ArchiveId, Stored>, good: &Archives) -> BTreeSet<ArchiveId> {
    let is_superseded = |id: &&ArchiveId| {
        let mut others = good.iter().filter(|(other, _)| other.hold == id.hold);
        match good.get(*id) {
            Some(own) => others.any(|(_, other)| {
                let is_of_same = other.audit.chain == own.audit.chain;
                is_of_same && order(other) > order(own) && orders(other) >= orders(own)
            }),
            None => others.any(|(other, _)| other.id > id.id),
        }
    };
    stored.keys().filter(is_superseded).cloned().collect()
}

/// The newest of a database sorts last.
pub fn order(manifest: &Manifest) -> (u64, Timestamp) {
    (manifest.sequence, manifest.created_at)
}

/// How many orders an archive has.
pub fn orders(manifest: &Manifest) -> u64 {
    let rows = manifest.tables.iter().find(|table| table.name == "held_orders");
    rows.map_or(0, |table| table.rows)
}

#[cfg(test)]
mod tests {
    use std::slice;

    use marketrelay_snapshot::Table;

    use super::*;
    use crate::inventory::{
        Inventory,
        tests::{PREFIX, version},
    };
    use crate::restore::candidates::tests::manifest;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn now() -> Timestamp {
        "2026-11-29T00:00:00Z".parse().expect("a time")
    }

    fn hold(byte: u8) -> HoldId {
        HoldId::from([byte; 32])
    }

    /// Written then, and whole.
    fn inventory(archives: &[&ArchiveId]) -> Inventory {
        let objects = |id: &&ArchiveId| {
            let ArchiveId { hold, id } = *id;
            ["data", "manifest.json"]
                .map(|name| version(&format!("holds/{hold}/{id}/{name}"), true, false, id.begun()))
        };
        Inventory::new(PREFIX, archives.iter().flat_map(objects).collect(), Vec::new())
    }

    fn archive(of: u8, age: SignedDuration) -> ArchiveId {
        ArchiveId { hold: hold(of), id: BackupId::mint(now() - age) }
    }

    fn with(sequence: u64, orders: u64, id: &ArchiveId) -> (ArchiveId, Manifest) {
        let table = Table { name: "held_orders".to_owned(), rows: orders, sha256: String::new() };
        (id.clone(), Manifest { tables: vec![table], ..manifest(&id.id, sequence) })
    }

    #[test]
    fn an_archive_lives_as_long_as_its_holds_key_and_no_age_ends_it() {
        let [old, ended, unknown, new] =
            [archive(1, HOUR * 9_000), archive(2, HOUR * 2), archive(3, HOUR), archive(4, HOUR / 2)];
        let there = inventory(&[&old, &ended, &unknown, &new]);
        let holds = Holds::from([(hold(1), now() + HOUR), (hold(2), now())]);
        let everything = |id: &ArchiveId| (id.clone(), Due::Everything);
        let due = |good, now| due(&there.archives, &good, Some(&holds), now);
        assert_eq!(due(Archives::new(), now()), [everything(&ended), everything(&unknown)]);
        assert_eq!(due(Archives::new(), now() - SignedDuration::from_secs(1)), []);
        let by_nobody = super::due(&there.archives, &Archives::new(), None, now() + HOUR);
        assert_eq!(by_nobody, [], "it isn't known which holds live");
        let (id, mut manifest) = with(1, 2, &ended);
        manifest.expires_at = now() + HOUR;
        let prolonged = Archives::from([(id, manifest)]);
        assert_eq!(due(prolonged.clone(), now()), [everything(&unknown)]);
        let all = [&old, &ended, &unknown, &new].map(everything);
        assert_eq!(due(prolonged, now() + HOUR), all);
    }

    #[test]
    fn a_newer_archive_takes_the_place_of_older_ones_and_never_of_one_that_has_more() {
        let [first, second, third, other] =
            [archive(1, HOUR * 3), archive(1, HOUR * 2), archive(1, HOUR), archive(2, HOUR * 4)];
        let there = inventory(&[&first, &second, &third, &other]);
        let gone = |good: &[(ArchiveId, Manifest)]| {
            superseded(&there.archives, &good.iter().cloned().collect()).into_iter().collect::<Vec<_>>()
        };
        let other = with(1, 9, &other);
        let all = |orders: [u64; 3]| {
            let [one, two, three] = orders;
            gone(&[with(5, one, &first), with(6, two, &second), with(7, three, &third), other.clone()])
        };
        assert_eq!(all([3, 3, 4]), [first.clone(), second.clone()]);
        assert_eq!(all([5, 3, 4]), slice::from_ref(&second));
        assert_eq!(
            gone(&[with(5, 3, &first)]),
            [],
            "the newest good one stays, with what is damaged beside it"
        );
        assert_eq!(gone(&[with(7, 3, &third)]), [first, second], "damaged ones before it go");
        assert_eq!(gone(&[]), []);
    }

    #[test]
    fn a_database_that_was_begun_anew_takes_no_archives_place_and_loses_none_to_the_one_before() {
        let [before, first, second] = [archive(1, HOUR * 3), archive(1, HOUR * 2), archive(1, HOUR)];
        let there = inventory(&[&before, &first, &second]);
        let anew = |sequence, id| {
            let (id, mut manifest) = with(sequence, 3, id);
            manifest.audit.chain = "anew".to_owned();
            (id, manifest)
        };
        let gone = |good: &[_]| superseded(&there.archives, &good.iter().cloned().collect());
        let (before, first, second) = (with(70, 3, &before), anew(1, &first), anew(2, &second));
        assert_eq!(gone(&[before.clone(), first.clone()]), BTreeSet::new());
        assert_eq!(gone(&[before, first.clone(), second]), [first.0].into());
    }

    #[test]
    fn what_nobody_finishes_goes_after_a_day() {
        let holds = Holds::from([(hold(1), now() + HOUR)]);
        let half = |age| {
            let id = archive(1, age);
            let data = version(&format!("holds/{}/{}/data", id.hold, id.id), true, false, id.id.begun());
            let there = Inventory::new(PREFIX, vec![data], Vec::new());
            due(&there.archives, &Archives::new(), Some(&holds), now()).len()
        };
        assert_eq!((half(HOUR * 23), half(HOUR * 24)), (0, 1));
    }
}
