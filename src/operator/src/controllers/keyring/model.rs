//! A keyring and the identities of its backups between operators that are paused, restarted and take turns, relays that confirm late or never, policies
//! that change and clocks that are set.

mod backups;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use marketrelay_api::{
    labels,
    relay::{KeyringUse, Retention},
};
use marketrelay_keyring::{BackupKey, DestroyAt, HoldKey, Keyring, Recipient};
use proptest::prelude::*;

use super::{
    change::change,
    decide::{Escrowed, Seen, Step, due, next},
    facts::{Held, judge},
    identities::{self, facts::Reach},
};
use crate::{clock::TOLERANCE, controllers::holds::Asked};
use backups::{Backups, View};

const START: i64 = 1_800_000_000;
const ID: &str = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34";

#[derive(Clone, Debug)]
enum Event {
    /// Time passes.
    Pass(i64),
    /// An operator's clock is set this far from the API server's.
    Set(usize, i64),
    /// An operator works until nothing is to be done, or catches up only.
    Settle(usize, bool),
    /// An operator reads and decides, and is then paused.
    Read(usize),
    /// It goes on with what it had read.
    Replace(usize),
    /// A policy with this epoch, and this many epochs, of which backups are kept for so many; none at all.
    Policy(Option<(i64, i64, Option<i64>)>),
    /// An operator looks at the identities.
    Look(usize),
    /// An operator reads the identities and decides, and is then paused; it catches up only.
    ReadIdentities(usize, bool),
    /// It goes on with what it had read.
    ReplaceIdentities(usize),
    /// Somebody deletes the identities.
    LoseIdentities,
    /// The policy asks for this hold so many seconds from now on, or not at all; whether it may end early.
    Hold(usize, Option<i64>, bool),
    /// The relay takes the keyring from its mount.
    Mount,
    /// An older relay is replaced by one that has an audit log and knows recipients.
    Upgrade,
    /// It has rewritten its records.
    Rewrite,
    /// The operators hear what it says.
    Hear,
    /// Keys are to be escrowed, or not.
    Escrow(bool),
    /// They are, as they are now.
    Escrowed,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1i64..2_000).prop_map(Event::Pass),
        1 => (0usize..2, -300i64..=300).prop_map(|(who, by)| Event::Set(who, by)),
        1 => (0usize..2, -9_000i64..=9_000).prop_map(|(who, by)| Event::Set(who, by)),
        4 => (0usize..2, any::<bool>()).prop_map(|(who, only_due)| Event::Settle(who, only_due)),
        3 => (0usize..2).prop_map(Event::Read),
        3 => (0usize..2).prop_map(Event::Replace),
        1 => prop::option::of((60i64..900, 2i64..20, prop::option::of(2i64..20))).prop_map(Event::Policy),
        1 => (0usize..2).prop_map(Event::Look),
        2 => (0usize..2, any::<bool>()).prop_map(|(who, only_due)| Event::ReadIdentities(who, only_due)),
        2 => (0usize..2).prop_map(Event::ReplaceIdentities),
        1 => Just(Event::LoseIdentities),
        2 => (0usize..2, prop::option::of(-500i64..9_000), any::<bool>())
            .prop_map(|(which, until, may_end)| Event::Hold(which, until, may_end)),
        2 => Just(Event::Mount),
        1 => Just(Event::Upgrade),
        2 => Just(Event::Rewrite),
        2 => Just(Event::Hear),
        1 => any::<bool>().prop_map(Event::Escrow),
        2 => Just(Event::Escrowed),
    ]
}

#[derive(Default)]
struct Operator {
    offset: i64,
    paused: Option<(u64, Secret, Seen)>,
    view: View,
}

const HOLDS: [&str; 2] = ["court", "tax"];

struct World {
    now: i64,
    version: u64,
    secret: Secret,
    dead: BTreeSet<Vec<u8>>,
    operators: [Operator; 2],
    backups: Backups,
    retention: Option<Retention>,
    holds: Asked,
    /// When each hold ends, as the connection's status says.
    told: BTreeMap<String, DestroyAt>,
    /// What the relay has mounted, and the oldest volume key that a record of it needs.
    mounted: u32,
    needed: u32,
    heard: Option<KeyringUse>,
    is_new: bool,
    has_audit_key: bool,
    is_escrow_wanted: bool,
    /// What the keys were known by that were escrowed last, and all that ever were.
    escrowed: Option<String>,
    safe: BTreeSet<Vec<u8>>,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

fn retention(epoch: i64, epochs: i64, backups: Option<i64>) -> Retention {
    let longest = epoch * epochs;
    Retention {
        anonymize_after_seconds: longest,
        delete_after_shipment_seconds: longest,
        key_epoch_seconds: epoch,
        backup_retention_seconds: backups.map(|epochs| epoch * epochs),
    }
}

fn epochs(secret: &Secret) -> BTreeMap<DestroyAt, Vec<u8>> {
    let entries = secret.data.iter().flatten();
    entries.filter_map(|(name, bytes)| Some((name.parse().ok()?, bytes.0.clone()))).collect()
}

fn audit_key(secret: &Secret) -> Option<&ByteString> {
    secret.data.as_ref()?.get("audit")
}

fn holds(secret: &Secret) -> BTreeMap<HoldKey, Vec<u8>> {
    let entries = secret.data.iter().flatten();
    entries.filter_map(|(name, bytes)| Some((name.parse().ok()?, bytes.0.clone()))).collect()
}

/// The keys that may seal.
fn sealing(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    let entry = |name: &str| secret.data.as_ref()?.get(name).map(|bytes| bytes.0.clone());
    let pending = String::from_utf8(entry("pending").unwrap_or_default()).expect("names");
    let pending: BTreeSet<_> = pending.lines().collect();
    let names = secret.data.iter().flatten().map(|(name, _)| name);
    let keys = names.filter(|name| name.starts_with("epoch.") || name.starts_with("hold."));
    keys.filter(|name| !pending.contains(name.as_str()))
        .map(|name| (name.clone(), entry(name).expect("a key")))
        .collect()
}

fn recipients(secret: &Secret) -> BTreeMap<BackupKey, Recipient> {
    judge(secret).keyring.expect("it can be used").recipients
}

fn generations(secret: &Secret) -> Vec<u32> {
    judge(secret).keyring.expect("it can be used").generations
}

impl World {
    fn new() -> Self {
        let keyring = Keyring::generate(ID.parse().expect("a UUID")).expect("random bytes");
        let mut entries = keyring.entries();
        entries.remove("audit");
        let data = entries.into_iter().map(|(name, bytes)| (name, ByteString(bytes))).collect();
        let mut secret = Secret { data: Some(data), ..Secret::default() };
        secret.metadata.labels = Some([(labels::COMPONENT.to_owned(), labels::KEYS.to_owned())].into());
        Self {
            now: START,
            version: 0,
            secret,
            dead: BTreeSet::new(),
            operators: Default::default(),
            backups: Backups::default(),
            retention: Some(retention(300, 10, Some(6))),
            holds: Asked::default(),
            told: BTreeMap::new(),
            mounted: 1,
            needed: 1,
            heard: None,
            is_new: false,
            has_audit_key: false,
            is_escrow_wanted: false,
            escrowed: None,
            safe: BTreeSet::new(),
        }
    }

    fn escrow(&self) -> Escrowed {
        let now = judge(&self.secret).keyring.map(|facts| facts.fingerprint).unwrap_or_default();
        match self.is_escrow_wanted {
            false => Escrowed::Unwanted,
            true if self.escrowed == Some(now) => Escrowed::Confirmed,
            true => Escrowed::Waits,
        }
    }

    /// By the API server's clock.
    fn time(&self) -> Timestamp {
        at(self.now)
    }

    fn seen(&self, who: usize) -> Seen {
        let offset = self.operators[who].offset;
        let unreached = self.time().max(at(self.now + offset)) + TOLERANCE;
        let ended = self.told.iter().filter(|(_, until)| until.is_due(unreached));
        Seen {
            retention: self.retention,
            holds: self.holds.clone(),
            ended: ended.map(|(name, _)| name.clone()).collect(),
            relay: self.heard.clone(),
            escrow: self.escrow(),
            database: None,
            recipients: self.operators[who].view.recipients(),
            now: at(self.now + offset),
            unreached,
            agreed: SignedDuration::from_secs(offset.abs()) <= TOLERANCE,
        }
    }

    fn seen_of_identities(&self, who: usize) -> identities::decide::Seen {
        let Seen { now, unreached, agreed, .. } = self.seen(who);
        identities::decide::Seen { reach: self.retention.and_then(Reach::of), now, unreached, agreed }
    }

    fn read_identities(&mut self, who: usize, only_due: bool) -> bool {
        let seen = self.seen_of_identities(who);
        let id = ID.parse().expect("a UUID");
        self.backups.read(&mut self.operators[who].view, &id, only_due, seen)
    }

    fn settle_identities(&mut self, who: usize, only_due: bool) {
        let mut steps = 0;
        while self.read_identities(who, only_due) {
            self.replace_identities(who);
            steps += 1;
            assert!(steps < 4, "it never settles");
        }
        let id = ID.parse().expect("a UUID");
        self.backups.check_settled(&id, only_due, &self.seen_of_identities(who));
    }

    fn replace_identities(&mut self, who: usize) {
        let time = self.time();
        self.backups.replace(&mut self.operators[who].view, time);
    }

    fn read(&mut self, who: usize, decide: fn(&Held, &Seen) -> Option<Step>) -> bool {
        let seen = self.seen(who);
        let mut changed = self.secret.clone();
        let Some(step) = decide(&judge(&changed), &seen) else { return false };
        change(&mut changed, &step, &seen).expect("random bytes");
        self.operators[who].paused = Some((self.version, changed, seen));
        true
    }

    /// As the API server does it: of two writes of one version, the first.
    fn replace(&mut self, who: usize) {
        let Some((version, after, seen)) = self.operators[who].paused.take() else { return };
        if version != self.version {
            return;
        }
        self.check(&after, &seen);
        self.version += 1;
        self.secret = after;
    }

    fn check(&mut self, after: &Secret, seen: &Seen) {
        let (old, new) = (epochs(&self.secret), epochs(after));
        for (at, key) in &old {
            if let Some(kept) = new.get(at) {
                assert_eq!(kept, key, "{at} was exchanged");
            } else {
                assert!(at.is_due(seen.now), "{at} was lost while alive");
                assert!(at.is_due(self.time() + TOLERANCE), "{at} was lost by a wrong clock");
                self.dead.insert(at.to_string().into_bytes());
            }
        }
        for at in new.keys().filter(|at| !old.contains_key(at)) {
            assert!(!self.dead.contains(&at.to_string().into_bytes()), "{at} came back");
        }
        let signing = audit_key(&self.secret);
        assert!(signing.is_none() || signing == audit_key(after), "the audit log's key changed");
        self.check_holds(after, seen);
        self.check_escrowed(after, seen);
        self.backups.check_recipients(&recipients(&self.secret), &recipients(after));
        let (old, new) = (generations(&self.secret), generations(after));
        assert!(new.len() <= 2, "{new:?}");
        assert!(new.last() >= old.last());
        let lost = old.iter().filter(|generation| !new.contains(generation));
        assert!(
            lost.into_iter().all(|generation| *generation < self.needed),
            "needed and dropped: {old:?} {new:?}"
        );
    }

    /// What may seal from now on and could not before was escrowed, where that is wanted.
    fn check_escrowed(&self, after: &Secret, seen: &Seen) {
        let knows = seen.relay.as_ref().is_some_and(|relay| relay.recipients.is_some());
        if seen.escrow == Escrowed::Unwanted || !knows {
            return;
        }
        let before: BTreeSet<_> = sealing(&self.secret).into_values().collect();
        for (name, key) in sealing(after) {
            assert!(before.contains(&key) || self.safe.contains(&key), "{name} seals and isn't escrowed");
        }
    }

    /// `seen`: what the writer knew.
    fn check_holds(&mut self, after: &Secret, seen: &Seen) {
        let (old, new) = (holds(&self.secret), holds(after));
        for (hold, key) in &old {
            let Some((now, _)) = new.iter().find(|(_, same)| *same == key) else {
                let confirmed = seen.holds.end.contains(hold.name()) && seen.holds.outlives(hold);
                let due =
                    hold.destroy_at().is_due(seen.now) && hold.destroy_at().is_due(self.time() + TOLERANCE);
                assert!(due || confirmed, "{hold} was lost while alive");
                self.dead.insert(key.clone());
                continue;
            };
            assert_eq!(now.name(), hold.name());
            let confirmed = seen.holds.end.contains(hold.name());
            assert!(now.destroy_at() >= hold.destroy_at() || confirmed, "{hold} ends earlier: {now}");
            let was_reached =
                now.destroy_at() > hold.destroy_at() && hold.destroy_at().is_due(seen.unreached);
            assert!(!was_reached, "{hold} may have ended already: {now}");
        }
        let begun = new.iter().filter(|(_, key)| !old.values().any(|known| known == *key));
        for (hold, _) in begun {
            let decided = seen.unreached - TOLERANCE;
            let has_ended = self.told.get(hold.name()).is_some_and(|until| until.is_due(decided));
            assert!(!has_ended, "{hold} begins anew, and nobody notices what was lost");
        }
        assert!(new.values().all(|key| !self.dead.contains(key)), "a hold's key came back");
        let names: BTreeSet<_> = new.keys().map(HoldKey::name).collect();
        assert_eq!(names.len(), new.len(), "one key for each");
    }

    fn settle(&mut self, who: usize, only_due: bool) {
        self.settle_identities(who, only_due);
        self.backups.look(&mut self.operators[who].view);
        let decide = if only_due { due } else { next };
        let mut steps = 0;
        while self.read(who, decide) {
            self.replace(who);
            steps += 1;
            assert!(steps < 12, "it never settles");
        }
        let seen = self.seen(who);
        let outlived = |at: &DestroyAt| seen.agreed && at.is_due(seen.now);
        let alive: Vec<_> = epochs(&self.secret).into_keys().filter(outlived).collect();
        assert!(alive.is_empty(), "still alive at {}: {alive:?}", seen.now);
        let alive: Vec<_> =
            holds(&self.secret).into_keys().filter(|key| outlived(&key.destroy_at())).collect();
        assert!(alive.is_empty(), "still alive at {}: {alive:?}", seen.now);
        if !only_due && seen.agreed {
            self.check_asked(&seen);
            self.check_recipients(&seen);
        }
    }

    /// Backups are encrypted to what can be opened, and to nothing else.
    fn check_recipients(&self, seen: &Seen) {
        let (there, mut live) = (recipients(&self.secret), self.backups.live(seen.now));
        let knows = seen.relay.as_ref().is_some_and(|relay| relay.recipients.is_some());
        if !knows || seen.escrow == Escrowed::Waits {
            live.retain(|name, _| there.contains_key(name));
        }
        assert_eq!(there, live);
    }

    /// What the policy asks for is there, and what may end isn't.
    fn check_asked(&self, seen: &Seen) {
        let there = holds(&self.secret);
        for (name, until) in seen.holds.until.iter().filter(|(_, until)| !until.is_due(seen.unreached)) {
            let Some(key) = there.keys().find(|key| key.name() == name) else {
                assert!(seen.ended.contains(name), "{name} has no key");
                continue;
            };
            let too_late = key.destroy_at().is_due(seen.unreached);
            assert!(key.destroy_at() >= *until || too_late, "{key} ends before {until:?}");
        }
        let early = there.keys().find(|key| seen.holds.end.contains(key.name()) && seen.holds.outlives(key));
        assert_eq!(early, None, "it may end");
    }

    /// The connection's status: holds that have keys, and those that have ended and are still asked for.
    fn tell(&mut self) {
        let (asked, ended) = (&self.holds.until, self.time() + TOLERANCE);
        self.told.retain(|name, until| asked.contains_key(name) && until.is_due(ended));
        let there = holds(&self.secret).into_keys().map(|key| (key.name().to_owned(), key.destroy_at()));
        self.told.extend(there);
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Pass(seconds) => self.now += seconds,
            Event::Set(who, offset) => self.operators[who].offset = offset,
            Event::Settle(who, only_due) => self.settle(who, only_due),
            Event::Read(who) => {
                self.read(who, next);
            }
            Event::Replace(who) => self.replace(who),
            Event::Policy(policy) => {
                self.retention = policy.map(|(epoch, epochs, backups)| retention(epoch, epochs, backups));
            }
            Event::Look(who) => self.backups.look(&mut self.operators[who].view),
            Event::ReadIdentities(who, only_due) => {
                self.read_identities(who, only_due);
            }
            Event::ReplaceIdentities(who) => self.replace_identities(who),
            Event::LoseIdentities => self.backups.lose(),
            Event::Hold(which, until, may_end) => {
                let name = HOLDS[which].to_owned();
                self.holds.end.remove(&name);
                if may_end {
                    self.holds.end.insert(name.clone());
                }
                match until {
                    Some(until) => self.holds.until.insert(name, DestroyAt::from_second(self.now + until)),
                    None => self.holds.until.remove(&name),
                };
            }
            Event::Mount => {
                self.mounted = *generations(&self.secret).last().expect("a volume key");
                self.has_audit_key = audit_key(&self.secret).is_some();
                let has_pending = self.secret.data.as_ref().is_some_and(|data| data.contains_key("pending"));
                let is_older = !self.has_audit_key && recipients(&self.secret).is_empty() && !has_pending;
                assert!(self.is_new || is_older, "an older relay refuses such a keyring");
            }
            Event::Escrow(is_wanted) => self.is_escrow_wanted = is_wanted,
            Event::Escrowed => {
                self.escrowed = Some(judge(&self.secret).keyring.expect("it can be used").fingerprint);
                self.safe.extend(epochs(&self.secret).into_values());
                self.safe.extend(holds(&self.secret).into_values());
            }
            Event::Upgrade => self.is_new = true,
            Event::Rewrite => self.needed = self.mounted,
            Event::Hear => {
                self.tell();
                self.heard = Some(KeyringUse {
                    mounted_generation: self.mounted,
                    oldest_generation: self.needed,
                    first_mounted: None,
                    audit_key_missing: self.is_new && !self.has_audit_key,
                    recipients: self
                        .is_new
                        .then(|| u32::try_from(recipients(&self.secret).len()).expect("few")),
                });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn no_key_outlives_its_time_or_comes_back_and_no_live_or_needed_key_is_lost(
        events in prop::collection::vec(event(), 1..120),
    ) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
    }
}

#[test]
fn a_hold_stays_until_its_own_end_unless_an_earlier_one_is_confirmed() {
    let mut world = World::new();
    let ends =
        |world: &World| holds(&world.secret).into_keys().map(|key| key.destroy_at().as_second() - START);
    let ends = |world: &World| ends(world).collect::<Vec<_>>();
    for (until, may_end, expected) in [
        (Some(299), false, vec![]),
        (Some(301), false, vec![301]),
        (Some(900), false, vec![900]),
        (Some(600), false, vec![900]),
        (None, false, vec![900]),
        (Some(600), true, vec![600]),
        (None, false, vec![600]),
        (None, true, vec![]),
    ] {
        world.happen(&Event::Hold(0, until, may_end));
        world.settle(0, false);
        assert_eq!(ends(&world), expected, "{until:?} {may_end}");
    }
}

#[test]
fn a_hold_whose_end_some_clock_may_have_reached_is_not_prolonged_and_its_name_begins_no_other() {
    let mut world = World::new();
    let ends =
        |world: &World| holds(&world.secret).into_keys().map(|key| key.to_string()).collect::<Vec<_>>();
    let entry =
        |second| HoldKey::new("court", DestroyAt::from_second(START + second)).expect("a name").to_string();
    for (pass, until, expected) in [
        (0, Some(900), vec![entry(900)]),
        (599, Some(301), vec![entry(900)]),
        (0, Some(400), vec![entry(999)]),
        (100, Some(9_000), vec![entry(999)]),
        (301, Some(9_000), vec![]),
        (9_000, Some(9_000), vec![]),
        (0, None, vec![]),
        (0, Some(9_000), vec![entry(19_000)]),
    ] {
        world.now += pass;
        world.happen(&Event::Hold(0, until, false));
        world.settle(0, false);
        assert_eq!(ends(&world), expected, "{pass} {until:?}");
        world.happen(&Event::Hear);
    }
}

#[test]
fn a_volume_key_is_replaced_every_epoch_as_soon_as_the_relay_confirms_and_not_before() {
    let mut world = World::new();
    world.settle(0, false);
    assert_eq!(generations(&world.secret), [1, 2], "since when is not known: at once");
    world.now += 3_000;
    world.settle(0, false);
    world.happen(&Event::Mount);
    world.happen(&Event::Hear);
    world.settle(0, false);
    assert_eq!(generations(&world.secret), [1, 2]);
    world.happen(&Event::Rewrite);
    world.happen(&Event::Hear);
    world.settle(0, false);
    assert_eq!(generations(&world.secret), [2, 3], "one epoch has passed meanwhile");
    world.happen(&Event::Mount);
    world.happen(&Event::Rewrite);
    world.happen(&Event::Hear);
    world.settle(0, false);
    assert_eq!(generations(&world.secret), [3]);
    world.now += 299;
    world.settle(0, false);
    assert_eq!(generations(&world.secret), [3]);
    world.now += 1;
    world.settle(0, false);
    assert_eq!(generations(&world.secret), [3, 4]);
}

#[test]
fn recipients_come_after_their_identities_once_the_relay_knows_them_and_go_with_lost_ones() {
    let mut world = World::new();
    world.settle(0, false);
    assert!(recipients(&world.secret).is_empty(), "the relay isn't known to take them");
    world.happen(&Event::Upgrade);
    world.happen(&Event::Hear);
    world.settle(0, false);
    let before = recipients(&world.secret);
    assert!(before.len() >= 6 && before == world.backups.live(world.time()));
    world.happen(&Event::LoseIdentities);
    world.happen(&Event::Policy(None));
    world.settle(0, false);
    assert!(recipients(&world.secret).is_empty(), "nobody could open such backups");
    world.happen(&Event::Policy(Some((300, 10, Some(6)))));
    world.settle(0, false);
    let after = recipients(&world.secret);
    assert!(!after.is_empty() && before.iter().all(|(name, to)| after.get(name) != Some(to)));
}

#[test]
fn new_keys_seal_nothing_until_they_are_escrowed_and_all_do_once_nobody_wants_that() {
    let mut world = World::new();
    world.happen(&Event::Upgrade);
    world.happen(&Event::Hear);
    world.settle(0, false);
    let first = sealing(&world.secret);
    assert!(!first.is_empty(), "nobody could open them elsewhere");
    world.happen(&Event::Escrow(true));
    world.now += 900;
    world.happen(&Event::Hold(0, Some(9_000), false));
    world.settle(0, false);
    assert!(sealing(&world.secret).keys().all(|name| first.contains_key(name)));
    assert!(epochs(&world.secret).len() > sealing(&world.secret).len());
    world.happen(&Event::Escrowed);
    world.settle(0, false);
    assert_eq!(sealing(&world.secret).len(), epochs(&world.secret).len() + 1, "the hold's too");
    world.now += 900;
    world.settle(0, false);
    assert!(epochs(&world.secret).len() >= sealing(&world.secret).len(), "later ones wait again");
    world.happen(&Event::Escrow(false));
    world.settle(0, false);
    assert_eq!(sealing(&world.secret).len(), epochs(&world.secret).len() + 1);
}

#[test]
fn a_keyring_that_cannot_be_used_loses_the_keys_whose_time_has_come_all_the_same() {
    let mut world = World::new();
    world.settle(0, false);
    let data = world.secret.data.get_or_insert_default();
    data.insert("theirs".to_owned(), ByteString(b"1".to_vec()));
    let (before, now) = (data.len(), START + 601);
    world.now = now;
    let seen = world.seen(0);
    let step = next(&judge(&world.secret), &seen).expect("a key is due");
    change(&mut world.secret, &step, &seen).expect("by name");
    assert_eq!(next(&judge(&world.secret), &seen), None);
    let data = world.secret.data.unwrap_or_default();
    assert!(data.len() < before && data.contains_key("theirs"), "{:?}", data.keys());
}
