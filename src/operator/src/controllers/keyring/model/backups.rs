//! The identities of backups in the model: their Secret, what was ever in it, and what each operator knows of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use marketrelay_keyring::{BackupKey, ConnectionId, Recipient};

use super::super::identities::{
    change::{change, first},
    decide::{Seen, Step, due, next},
    facts::{Held, judge, parse},
};
use crate::clock::TOLERANCE;

/// An operator's view.
#[derive(Default)]
pub struct View {
    known: Option<Held>,
    paused: Option<Write>,
}

struct Write {
    /// What was read; `None`: it is a creation.
    version: Option<u64>,
    after: Secret,
    seen: Seen,
}

/// The Secret in the API server.
#[derive(Default)]
pub struct Backups {
    secret: Option<Secret>,
    version: u64,
    made: BTreeSet<(BackupKey, String)>,
    destroyed: BTreeSet<BackupKey>,
}

fn identities(secret: Option<&Secret>) -> BTreeMap<BackupKey, Vec<u8>> {
    let entries = secret.into_iter().flat_map(|secret| secret.data.iter().flatten());
    entries.filter_map(|(name, bytes)| Some((name.parse().ok()?, bytes.0.clone()))).collect()
}

impl View {
    /// What the operator believes to be openable.
    pub fn recipients(&self) -> BTreeMap<BackupKey, Recipient> {
        let known = self.known.as_ref().and_then(|held| held.identities.as_ref().ok());
        known.map(|facts| facts.recipients.clone()).unwrap_or_default()
    }
}

impl Backups {
    /// As the controller asks before it looks at a keyring.
    pub fn look(&self, view: &mut View) {
        view.known = self.secret.as_ref().map(judge);
    }

    /// The operator reads, decides, and is then paused. Whether there is anything to do.
    pub fn read(&self, view: &mut View, id: &ConnectionId, only_due: bool, seen: Seen) -> bool {
        let decide: fn(&Held, &Seen) -> Option<Step> = if only_due { due } else { next };
        let (version, after) = match self.secret.clone() {
            Some(mut after) => {
                let Some(step) = decide(&judge(&after), &seen) else { return false };
                change(&mut after, &step, &seen).expect("own entries");
                (Some(self.version), after)
            }
            None => match seen.reach.filter(|_| seen.agreed && !only_due) {
                Some(reach) => (None, first("bol", id, &reach, &seen)),
                None => return false,
            },
        };
        view.paused = Some(Write { version, after, seen });
        true
    }

    /// It goes on. As the API server does it: of two writes of one version, the first.
    pub fn replace(&mut self, view: &mut View, time: Timestamp) {
        let Some(Write { version, after, seen }) = view.paused.take() else { return };
        let is_newest = match version {
            Some(version) => self.secret.is_some() && version == self.version,
            None => self.secret.is_none(),
        };
        if !is_newest {
            return;
        }
        self.check(&after, &seen, time);
        // Who creates it anew may have decided that long ago.
        let back = identities(Some(&after)).into_keys().find(|name| self.destroyed.contains(name));
        assert!(back.is_none() || version.is_none(), "{back:?} came back");
        let recipients = parse(&after).expect("own entries").recipients();
        self.made.extend(recipients.into_iter().map(|(name, to)| (name, to.to_string())));
        self.version += 1;
        self.secret = Some(after);
        self.look(view);
    }

    fn check(&mut self, after: &Secret, seen: &Seen, time: Timestamp) {
        let (old, new) = (identities(self.secret.as_ref()), identities(Some(after)));
        for (name, identity) in &old {
            if let Some(kept) = new.get(name) {
                assert_eq!(kept, identity, "{name} was exchanged");
            } else {
                let at = name.destroy_at();
                assert!(at.is_due(seen.now) && at.is_due(time + TOLERANCE), "{name} was lost while alive");
                self.destroyed.insert(*name);
            }
        }
    }

    /// Somebody deletes it.
    pub fn lose(&mut self) {
        self.secret = None;
        self.version += 1;
    }

    /// No recipient is in a keyring before its identity is in the Secret.
    pub fn check_recipients(
        &self,
        old: &BTreeMap<BackupKey, Recipient>,
        new: &BTreeMap<BackupKey, Recipient>,
    ) {
        for (name, to) in new.iter().filter(|(name, to)| old.get(name) != Some(to)) {
            assert!(self.made.contains(&(*name, to.to_string())), "nobody can open what {name} closes");
        }
    }

    /// After an operator's work: nothing outlives its time, and there are enough.
    pub fn check_settled(&self, id: &ConnectionId, only_due: bool, seen: &Seen) {
        let alive: Vec<_> = identities(self.secret.as_ref()).into_keys().collect();
        let late = alive.iter().find(|name| seen.agreed && name.destroy_at().is_due(seen.now));
        assert_eq!(late, None, "still alive at {}", seen.now);
        if let Some(reach) = seen.reach.filter(|_| seen.agreed && !only_due) {
            let held = self.secret.as_ref().map(judge).expect("it was made");
            let facts = held.identities.expect("it can be used");
            assert!(reach.is_covered(&facts, seen.unreached) && facts.id == *id);
        }
    }

    /// What can be opened, at that time.
    pub fn live(&self, now: Timestamp) -> BTreeMap<BackupKey, Recipient> {
        let all = self.secret.as_ref().map(|secret| parse(secret).expect("own entries").recipients());
        let is_live = |(name, _): &(BackupKey, Recipient)| !name.destroy_at().is_due(now);
        all.into_iter().flatten().filter(is_live).collect()
    }
}

#[test]
fn identities_that_cannot_be_used_are_destroyed_at_their_second_all_the_same() {
    use marketrelay_api::{labels, relay::Retention};

    let retention = Retention {
        anonymize_after_seconds: 3_000,
        delete_after_shipment_seconds: 3_000,
        key_epoch_seconds: 300,
        backup_retention_seconds: Some(3_000),
    };
    let id = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34".parse().expect("a UUID");
    let now = Timestamp::from_second(1_800_000_000).expect("in range");
    let reach = super::super::identities::facts::Reach::of(retention);
    let seen = |now| Seen { reach, now, unreached: now, agreed: true };
    let mut secret = first("bol", &id, &reach.expect("backups"), &seen(now));
    assert_eq!(
        secret.metadata.labels.as_ref().map(|labels| labels[labels::COMPONENT].as_str()),
        Some("keys")
    );
    let before = identities(Some(&secret)).len();
    let foreign = k8s_openapi::ByteString(b"1".to_vec());
    secret.data.get_or_insert_default().insert("theirs".to_owned(), foreign);
    let later = seen(now + jiff::SignedDuration::from_secs(601));
    let step = next(&judge(&secret), &later).expect("some are due");
    change(&mut secret, &step, &later).expect("by name");
    assert_eq!(next(&judge(&secret), &later), None);
    let left = identities(Some(&secret));
    assert!(left.len() < before && left.keys().all(|name| !name.destroy_at().is_due(later.now)));
}
