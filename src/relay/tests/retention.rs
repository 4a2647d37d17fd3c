//! Whatever happens: no personal data opens after its deadline, and none is lost before it but for less than one key
//! epoch. What a hold keeps opens until the hold's end and not after, and nothing else is kept by it.
//!
//! `SEED` repeats a run, `RETENTION_RUNS` makes it longer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::relay::{HeldSelection, Placed};
use marketrelay_keyring::{
    ConnectionId, DestroyAt, DigestKey, Grid, Keyring, Limits, RecordKind, RecordRef, Sealed, SecretKey,
    deadline,
};
use marketrelay_marketplace::{Cursor, Marketplace, Order, OrderStatus};
use marketrelay_relay::{
    activity::Reporter,
    clock::Clock,
    mounts::Mounted,
    privacy::{Done, Keeper},
    store::{Prepared, Store, hold, ingest},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::common::{DATABASE_KEY, ID, order, with_hold, with_volume, without_hold, without_volume};

const RUNS: u64 = 12;
const EVENTS: u32 = 40;
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// An order appears that was placed so many minutes ago.
    Placed(i64),
    /// The marketplace tells an order again: which, how it stands, when it shipped (minutes ago), and whether that is
    /// an older state of it.
    Told { which: usize, status: OrderStatus, shipped: Option<i64>, outdated: bool },
    /// A listing was read to its end.
    Known,
    /// Minutes pass; the operator destroys and adds keys.
    Passed(i64),
    /// The policy changes, the relay starts with it.
    Policy { age: i64, after: i64, epoch: i64 },
    /// The policy asks for a hold of orders that were placed so many minutes ago, for so many minutes.
    Hold { from: i64, to: i64, lasts: i64 },
    /// The policy doesn't ask for a hold any more; whether that may end it.
    Unhold { which: usize, may_end: bool },
    /// The operator adds a volume key, and takes the older one out when that is confirmed.
    VolumeKey,
    /// The relay starts anew.
    Restarted,
    /// The relay's clock is set by minutes.
    Clock(i64),
}

fn event(rng: &mut StdRng, orders: usize) -> Event {
    let statuses =
        [OrderStatus::Unshipped, OrderStatus::Shipped, OrderStatus::Cancelled, OrderStatus::Refunded];
    match rng.random_range(0..24) {
        0..4 => Event::Placed(rng.random_range(0..600)),
        4..8 if orders > 0 => Event::Told {
            which: rng.random_range(0..orders),
            status: statuses[rng.random_range(0..statuses.len())],
            shipped: rng.random_bool(0.6).then(|| rng.random_range(0..3_000)),
            outdated: rng.random_bool(0.3),
        },
        4..11 => Event::Known,
        11..15 => Event::Passed(rng.random_range(1..480)),
        15 | 16 => Event::Policy {
            age: rng.random_range(4..60),
            after: rng.random_range(4..40),
            epoch: rng.random_range(1..3),
        },
        17 => Event::VolumeKey,
        18 => Event::Restarted,
        19..22 => {
            let to = rng.random_range(-600..600);
            Event::Hold { from: to + rng.random_range(60..900), to, lasts: rng.random_range(200..4_000) }
        }
        22 => Event::Unhold { which: rng.random_range(0..8), may_end: rng.random_bool(0.5) },
        _ => Event::Clock(rng.random_range(-180..180)),
    }
}

/// An order as it ought to be.
struct Expected {
    newest: Order,
    shipped: Option<Timestamp>,
    /// Its time has come at some moment, or was less than an epoch away: it may be gone since.
    may_be_gone: bool,
}

/// A hold as it ought to be.
struct Hold {
    placed: Placed,
    until: Timestamp,
    /// The policy asks for it.
    asked: bool,
    /// Its end has come by one of the clocks, or earlier on purpose.
    over: bool,
    /// What it has been seen to keep.
    kept: BTreeSet<String>,
}

struct World {
    folder: TempDir,
    /// The operator's time; the relay's clock is off by `off`.
    time: Timestamp,
    off: SignedDuration,
    limits: Limits,
    keys: Keyring,
    mounted: watch::Sender<Mounted<Keyring>>,
    keeper: Keeper,
    orders: BTreeMap<String, Expected>,
    holds: BTreeMap<String, Hold>,
    begun: Option<Timestamp>,
    known: Option<Timestamp>,
}

fn id() -> ConnectionId {
    ID.parse().expect("an id")
}

fn digest_key() -> DigestKey {
    DigestKey::new(&SecretKey::from([2; 32]))
}

fn millisecond(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).expect("in range")
}

fn keeper(
    folder: &TempDir,
    limits: Limits,
    holds: Vec<HeldSelection>,
    keyring: watch::Receiver<Mounted<Keyring>>,
) -> Keeper {
    Keeper {
        store: Store::open(folder.path(), &SecretKey::from(DATABASE_KEY), &id()).expect("a database"),
        limits,
        audit_retention: HOUR * 24 * 400,
        holds: holds.into(),
        keyring,
        bell: Arc::default(),
        reporter: Reporter::new("keepingDeadlines"),
        clock: Clock::of(|| Timestamp::UNIX_EPOCH),
        stop: CancellationToken::new(),
        done: Done::default(),
    }
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let limits = Limits { anonymize_after: HOUR * 40, delete_after_shipment: HOUR * 20, key_epoch: HOUR };
        let keys = Keyring::generate(id()).expect("a keyring");
        let (mounted, keyring) = watch::channel(Ok(Arc::new(keys.clone())));
        let mut world = Self {
            keeper: keeper(&folder, limits, Vec::new(), keyring),
            folder,
            time: "2026-03-28T20:00:00Z".parse().expect("a time"),
            off: SignedDuration::ZERO,
            limits,
            keys,
            mounted,
            orders: BTreeMap::new(),
            holds: BTreeMap::new(),
            begun: None,
            known: None,
        };
        world.operate();
        world
    }

    /// By the relay's clock.
    fn now(&self) -> Timestamp {
        millisecond(self.time + self.off)
    }

    /// By whichever clock is ahead: keys die by both.
    fn latest(&self) -> Timestamp {
        self.time.max(self.now())
    }

    /// The operator's turn, and what the relay sees of it.
    fn operate(&mut self) {
        self.keys.drop_due(self.time);
        let grid = Grid::new(&id(), self.limits.key_epoch);
        self.keys.extend(grid, self.time, self.time + HOUR * 70).expect("keys");
        let mut mounted = self.keys.clone();
        mounted.drop_due(self.now());
        let is_new = self.mounted.borrow().as_ref().is_ok_and(|old| old.entries() != mounted.entries());
        if is_new {
            drop(self.mounted.send_replace(Ok(Arc::new(mounted))));
        }
        let now = self.now();
        self.keeper.clock = Clock::of(move || now);
    }

    fn deadline(&self, order: &Expected) -> Timestamp {
        let known = self.known.or(self.begun).unwrap_or(self.now()).min(self.now());
        deadline(order.newest.placed_at, order.shipped, known, self.limits)
    }

    /// Notes which orders may be gone from now on.
    fn note(&mut self) {
        let (latest, epoch) = (self.latest(), self.limits.key_epoch);
        let due: Vec<_> = self
            .orders
            .iter()
            .filter(|(_, order)| self.deadline(order) - epoch <= latest)
            .map(|(number, _)| number.clone())
            .collect();
        for number in due {
            self.orders.get_mut(&number).expect("it is there").may_be_gone = true;
        }
    }

    /// False if the relay refuses it, as its clock is so far behind that the operator destroyed the key already.
    async fn page(&mut self, orders: Vec<Order>, known: Option<Timestamp>) -> bool {
        let now = self.now();
        let orders = orders.into_iter().map(|order| Prepared::new(order, &digest_key())).collect();
        let page = ingest::Page { orders, cursor: Cursor(serde_json::json!({})), known_until: known };
        let keyring = self.mounted.borrow().clone().expect("a keyring");
        let limits = self.limits;
        let ingest = move |connection: &_| ingest::ingest(connection, &page, &keyring, limits, now);
        if let Err(error) = self.keeper.store.write(ingest).await {
            assert!(self.off < SignedDuration::ZERO && error.category() == "KeyringTooShort", "{error}");
            return false;
        }
        self.begun.get_or_insert(now);
        self.known = self.known.max(known);
        true
    }

    async fn happen(&mut self, event: Event) {
        match event {
            Event::Placed(ago) => self.placed(ago).await,
            Event::Told { which, status, shipped, outdated } => {
                self.told(which, status, shipped, outdated).await;
            }
            Event::Known => {
                self.page(vec![], Some(self.now() - MINUTE * 5)).await;
            }
            Event::Passed(minutes) => {
                for _ in 0..minutes / 20 {
                    self.time += MINUTE * 20;
                    self.keep().await;
                }
            }
            Event::Policy { age, after, epoch } => {
                self.limits = Limits {
                    anonymize_after: SignedDuration::from_hours(age),
                    delete_after_shipment: SignedDuration::from_hours(after),
                    key_epoch: SignedDuration::from_hours(epoch),
                };
                self.restart().await;
            }
            Event::Hold { from, to, lasts } => self.ask(from, to, lasts).await,
            Event::Unhold { which, may_end } => self.ask_no_more(which, may_end).await,
            Event::VolumeKey => self.replace_volume_key().await,
            Event::Restarted => self.restart().await,
            Event::Clock(minutes) => self.off = SignedDuration::from_mins(minutes),
        }
    }

    async fn placed(&mut self, minutes_ago: i64) {
        let number = format!("A{}", self.orders.len());
        let mut newest = order(&number);
        newest.placed_at = self.now() - SignedDuration::from_mins(minutes_ago);
        newest.updated_at = newest.placed_at;
        newest.marketplace =
            [Marketplace::Amazon, Marketplace::Ebay, Marketplace::Bol][self.orders.len() % 3];
        let expected = Expected { newest: newest.clone(), shipped: None, may_be_gone: false };
        self.orders.insert(number.clone(), expected);
        self.note();
        if !self.page(vec![newest], None).await {
            self.orders.remove(&number);
        }
    }

    async fn told(&mut self, which: usize, status: OrderStatus, shipped: Option<i64>, outdated: bool) {
        let number = self.orders.keys().nth(which).expect("an order").clone();
        let stored = self.stored().await.contains_key(&number);
        let now = self.now();
        let order = self.orders.get_mut(&number).expect("an order");
        let before = (order.newest.clone(), order.shipped);
        let mut state = order.newest.clone();
        state.status = status;
        state.first_shipped_at = shipped.map(|ago| millisecond(now - SignedDuration::from_mins(ago)));
        state.updated_at =
            if outdated { order.newest.updated_at - MINUTE } else { now.max(order.newest.updated_at) };
        if stored {
            order.shipped = [order.shipped, state.first_shipped_at].into_iter().flatten().min();
        } else {
            // Its own dates alone say whether it is past its deadline.
            order.shipped = state.first_shipped_at;
        }
        if !outdated {
            order.newest = state.clone();
        }
        self.note();
        if !self.page(vec![state], None).await {
            let order = self.orders.get_mut(&number).expect("an order");
            (order.newest, order.shipped) = before;
        }
    }

    async fn ask(&mut self, from: i64, to: i64, lasts: i64) {
        let ago = |minutes| millisecond(self.now() - SignedDuration::from_mins(minutes));
        let placed = Placed { from: ago(from), to: ago(to) };
        let until = Timestamp::from_second(self.latest().as_second() + lasts * 60).expect("in range");
        let name = format!("h{}", self.holds.len());
        self.keys = with_hold(&self.keys, &name, until);
        self.holds.insert(name, Hold { placed, until, asked: true, over: false, kept: BTreeSet::new() });
        self.restart().await;
    }

    async fn ask_no_more(&mut self, which: usize, may_end: bool) {
        let Some((name, hold)) = self.holds.iter_mut().nth(which) else { return };
        hold.asked = false;
        if may_end {
            hold.over = true;
            self.keys = without_hold(&self.keys, name);
        }
        self.restart().await;
    }

    fn selections(&self) -> Vec<HeldSelection> {
        let asked = self.holds.iter().filter(|(_, hold)| hold.asked);
        let selection = |(name, hold): (&String, &Hold)| HeldSelection {
            name: name.clone(),
            digests: Vec::new(),
            placed: Some(hold.placed),
        };
        asked.map(selection).collect()
    }

    async fn restart(&mut self) {
        let keeper = keeper(&self.folder, self.limits, self.selections(), self.mounted.subscribe());
        std::mem::replace(&mut self.keeper, keeper).store.close().await.expect("closed");
    }

    async fn replace_volume_key(&mut self) {
        let generation = self.keys.volume_generation() + 1;
        self.keys = with_volume(&self.keys, generation);
        self.operate();
        self.keeper.look().await.expect("a look");
        let oldest = self.keeper.store.read(marketrelay_relay::store::generation::oldest).await;
        if oldest.expect("a generation") == Some(generation) {
            self.keys = without_volume(&self.keys, generation - 1);
        }
    }

    /// The envelopes in the database by their order's number.
    async fn stored(&self) -> BTreeMap<String, (RecordRef, Sealed)> {
        let digests: BTreeMap<_, _> = self
            .orders
            .iter()
            .map(|(number, order)| {
                let digest = digest_key().order(order.newest.marketplace.as_str(), number);
                (*digest.as_bytes(), number.clone())
            })
            .collect();
        let read = |connection: &rusqlite::Connection| {
            let mut statement = connection.prepare(
                "SELECT number_digest, revision, destroy_at, pii, pii_key, volume_generation FROM orders",
            )?;
            let rows = statement.query_map([], |row| {
                let record = RecordRef {
                    kind: RecordKind::Order,
                    revision: row.get(1)?,
                    destroy_at: DestroyAt::from_second(row.get(2)?),
                };
                let sealed =
                    Sealed { body: row.get(3)?, wrapped_key: row.get(4)?, volume_generation: row.get(5)? };
                Ok((row.get::<_, [u8; 32]>(0)?, (record, sealed)))
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        };
        let rows = self.keeper.store.read(read).await.expect("envelopes");
        rows.into_iter().map(|(digest, envelope)| (digests[&digest].clone(), envelope)).collect()
    }

    async fn check(&self) {
        let stored = self.stored().await;
        for (number, order) in &self.orders {
            let opens =
                stored.get(number).is_some_and(|(record, sealed)| self.keys.open(*record, sealed).is_ok());
            let deadline = self.deadline(order);
            if opens {
                assert!(self.now() < deadline, "{number} opens after its deadline {deadline}");
            } else {
                assert!(order.may_be_gone, "{number} is lost before its deadline {deadline}");
            }
        }
    }

    /// What each hold keeps, as who has the keys that are alive can read it.
    async fn held(&self, name: &str) -> BTreeSet<String> {
        let (keys, name) = (self.keys.clone(), name.to_owned());
        let page = move |connection: &rusqlite::Connection| hold::page(connection, &keys, &name, 0, 10_000);
        let page = self.keeper.store.read(page).await.expect("a page");
        let number = |json: &[u8]| {
            let order: serde_json::Value = serde_json::from_slice(json).expect("JSON");
            order["number"].as_str().expect("a number").to_owned()
        };
        page.into_iter().filter_map(|(_, order)| order.ok()).map(|json| number(&json)).collect()
    }

    async fn check_holds(&mut self) {
        let (latest, now) = (self.latest(), self.now());
        // With a clock that is behind, orders are still stored whose keys have died already: nobody can hold these.
        let stored = self.stored().await;
        let opens = |(record, sealed): &(RecordRef, Sealed)| self.keys.open(*record, sealed).is_ok();
        let readable: BTreeSet<_> =
            stored.iter().filter(|(_, envelope)| opens(envelope)).map(|(number, _)| number.clone()).collect();
        let names: Vec<_> = self.holds.keys().cloned().collect();
        for name in names {
            let opens = self.held(&name).await;
            let hold = self.holds.get_mut(&name).expect("a hold");
            hold.over |= hold.until <= latest;
            let placed = |number: &String| self.orders[number].newest.placed_at;
            let selected = |number: &String| (hold.placed.from..hold.placed.to).contains(&placed(number));
            assert!(opens.iter().all(selected), "{name} keeps what it doesn't select");
            if hold.until <= now || !self.keys.holds().any(|(key, _)| key.name() == name) {
                assert!(opens.is_empty(), "{name} keeps {opens:?} after its end {}", hold.until);
            }
            if hold.over {
                continue;
            }
            let lost: Vec<_> = hold.kept.difference(&opens).collect();
            assert!(lost.is_empty(), "{name} lost {lost:?} before its end {}", hold.until);
            if hold.asked {
                let missing: Vec<_> =
                    readable.iter().filter(|number| selected(number) && !opens.contains(*number)).collect();
                assert!(missing.is_empty(), "{name} doesn't keep {missing:?}");
            }
            hold.kept = opens;
        }
    }

    async fn step(&mut self, event: Event) {
        self.happen(event).await;
        self.keep().await;
    }

    async fn keep(&mut self) {
        self.operate();
        self.note();
        self.keeper.look().await.expect("a look");
        self.note();
        self.check().await;
        self.check_holds().await;
    }
}

#[tokio::test]
async fn no_personal_data_opens_after_its_deadline_and_none_is_lost_before_it() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (seed, runs) =
        (number("SEED").unwrap_or_else(rand::random), number("RETENTION_RUNS").unwrap_or(RUNS));
    for seed in (0..runs).map(|run| seed.wrapping_add(run)) {
        println!("to repeat: SEED={seed}");
        let (mut rng, mut world) = (StdRng::seed_from_u64(seed), World::new());
        for _ in 0..EVENTS {
            let event = event(&mut rng, world.orders.len());
            println!("{} {:?} {event:?}", world.time, world.off);
            world.step(event).await;
        }
    }
}
