//! What Jobs do, event by event as a watch tells it: the state after each is one that there was.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use marketrelay_api::labels;

/// Of one CronJob: Kubernetes makes a second one where it couldn't note the first in the CronJob's status. Whichever isn't
/// released goes when its next one is due.
const MOST_WAITING: usize = 2;

/// A tenant's namespace and one of its sites.
pub type Place = (String, String);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waits,
    Runs(Instant),
    Ended,
}

struct Known {
    stage: Stage,
    store: String,
    cron_job: (String, String),
}

/// Of the runs of a tenant at a site.
pub struct Turns {
    /// That ended.
    pub ended: usize,
    /// Since when the next one is waited for: the last end, or the first Job.
    pub since: Instant,
    /// The longest time that one was waited for.
    pub longest: Duration,
}

/// Of one store.
#[derive(Default)]
pub struct Store {
    at_work: HashSet<String>,
    /// Waiting ones.
    waiting: usize,
    /// The most at work at the same time.
    pub highest: usize,
    /// When each was released.
    pub released: Vec<Instant>,
    /// How long each that ended had its place.
    pub held: Vec<Duration>,
    /// Since when the two below are counted.
    changed: Option<Instant>,
    /// Seconds that places were taken, while others waited.
    taken: f64,
    /// Seconds that others waited.
    busy: f64,
}

/// Everything that was seen.
pub struct Ledger {
    most: usize,
    jobs: HashMap<String, Known>,
    waiting: HashMap<(String, String), HashSet<String>>,
    /// By address.
    pub stores: BTreeMap<String, Store>,
    /// Of runs.
    pub turns: HashMap<Place, Turns>,
    /// The most that waited at the same time.
    pub most_waiting: usize,
    /// How often a CronJob had two of them.
    pub doubled: usize,
    /// Deleted before they began.
    pub dropped: usize,
    /// The names of those that ended well.
    pub succeeded: HashSet<(String, String)>,
}

impl Ledger {
    /// `most`: places at each store.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            jobs: HashMap::new(),
            waiting: HashMap::new(),
            stores: BTreeMap::new(),
            turns: HashMap::new(),
            most_waiting: 0,
            doubled: 0,
            dropped: 0,
            succeeded: HashSet::new(),
        }
    }

    /// A Job came or changed.
    pub fn saw(&mut self, job: &Job, now: Instant) {
        let (namespace, uid) = (job.namespace().expect("a namespace"), job.uid().expect("a uid"));
        let label = |name: &str| job.labels().get(name).expect(name).clone();
        let (site, task) = (label(labels::SITE), label(labels::TASK));
        let before = self.jobs.get(&uid).map(|known| known.stage);
        let stage = stage(job, before, now);
        if before == Some(stage) {
            return;
        }
        let store = job.annotations().get(labels::STORE).expect("a store").clone();
        let cron_job = (namespace.clone(), job.owner_references()[0].name.clone());
        let known = Known { stage, store, cron_job };
        self.count(&uid, &known, now);
        self.jobs.insert(uid, known);
        if matches!(stage, Stage::Ended) {
            assert!(is_true(job, "Complete"), "{namespace}/{}: {:?}", job.name_any(), job.status);
            self.succeeded.insert((namespace.clone(), job.name_any()));
        }
        if task == "run" {
            let first = Turns { ended: 0, since: now, longest: Duration::ZERO };
            let turns = self.turns.entry((namespace, site)).or_insert(first);
            if matches!(stage, Stage::Ended) {
                turns.ended += 1;
                turns.longest = turns.longest.max(now - turns.since);
                turns.since = now;
            }
        }
    }

    /// A Job was deleted.
    pub fn gone(&mut self, job: &Job, now: Instant) {
        let uid = job.uid().expect("a uid");
        let Some(known) = self.jobs.remove(&uid) else { return };
        if known.stage == Stage::Waits {
            self.dropped += 1;
        }
        self.count(&uid, &Known { stage: Stage::Ended, ..known }, now);
    }

    /// Those that wait or are at work.
    pub fn unended(&self) -> usize {
        self.jobs.values().filter(|known| known.stage != Stage::Ended).count()
    }

    /// The longest time that a tenant waited for its turn at a site, or waits now.
    pub fn longest_wait(&self, now: Instant) -> Duration {
        let waits = self.turns.values().map(|turns| turns.longest.max(now - turns.since));
        waits.max().unwrap_or_default()
    }

    /// How long it takes until all tenants had a turn at a store, as long as Jobs really hold their places.
    pub fn round(&self, tenants: usize) -> Duration {
        let held: Vec<_> = self.stores.values().flat_map(|store| &store.held).collect();
        let mean = held.iter().map(|held| held.as_secs_f64()).sum::<f64>() / float(held.len());
        Duration::from_secs_f64(mean * float(tenants) / float(self.most) / self.used())
    }

    /// Of all places, the share that was taken while Jobs waited for one.
    pub fn used(&self) -> f64 {
        let sum = |of: fn(&Store) -> f64| self.stores.values().map(of).sum::<f64>();
        sum(|store| store.taken) / sum(|store| store.busy) / float(self.most)
    }

    fn count(&mut self, uid: &str, known: &Known, now: Instant) {
        let waiting = self.waiting.entry(known.cron_job.clone()).or_default();
        let store = self.stores.entry(known.store.clone()).or_default();
        if let Some(changed) = store.changed.replace(now).filter(|_| store.waiting > 0) {
            let passed = (now - changed).as_secs_f64();
            store.busy += passed;
            store.taken += passed * float(store.at_work.len());
        }
        let has_waited = waiting.remove(uid);
        let has_run = store.at_work.remove(uid);
        store.waiting -= usize::from(has_waited);
        match known.stage {
            Stage::Waits => {
                self.doubled += usize::from(!waiting.is_empty());
                waiting.insert(uid.to_owned());
                store.waiting += 1;
            }
            Stage::Runs(_) => {
                store.at_work.insert(uid.to_owned());
                store.released.push(now);
            }
            Stage::Ended => {
                if let Some(Known { stage: Stage::Runs(since), .. }) = self.jobs.get(uid).filter(|_| has_run)
                {
                    store.held.push(now - *since);
                }
            }
        }
        assert!(waiting.len() <= MOST_WAITING, "{:?} has {} that wait", known.cron_job, waiting.len());
        store.highest = store.highest.max(store.at_work.len());
        assert!(store.highest <= self.most, "{} at work at {}", store.highest, known.store);
        let all = self.stores.values().map(|store| store.waiting).sum();
        self.most_waiting = self.most_waiting.max(all);
    }
}

fn stage(job: &Job, before: Option<Stage>, now: Instant) -> Stage {
    if is_true(job, "Complete") || is_true(job, "Failed") {
        return Stage::Ended;
    }
    match before {
        _ if job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true) => Stage::Waits,
        Some(Stage::Runs(since)) => Stage::Runs(since),
        _ => Stage::Runs(now),
    }
}

fn is_true(job: &Job, kind: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| one.type_ == kind && one.status == "True")
}

/// Of a number of things that fit a test.
pub fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("not that many"))
}
