//! A connection with a database on its volume, its keys, and backups of it at two sites.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::{
    SubjectDigest,
    backup::{Choice, PastErasures, RestoreConfig, S3Store, Site, SiteStore},
    relay::{HeldSelection, Placed, Retention, paths::DATA},
};
use marketrelay_audit::Signer;
use marketrelay_backup::BackupId;
use marketrelay_keyring::{
    BackupIdentities, ConnectionId, DestroyAt, DigestKey, Grid, HoldId, HoldKey, Keyring, Limits, Pii,
    Recipient, SecretKey,
};
use marketrelay_marketplace::{Buyer, Cursor, Fulfilment, Marketplace, Order, OrderPii, OrderStatus};
use marketrelay_relay::{
    clock::Clock,
    store::{
        Prepared, Store, erase, hold, ingest,
        snapshot::{About, Request, Scope, Snapshot},
    },
};
use marketrelay_snapshot::{Manifest, SignedManifest, Unpacker};
use tokio::{io::AsyncReadExt, sync::watch};

use crate::{
    relay::CONNECTION,
    s3::Bucket,
    world::{DAY, SOON, World},
};

/// Of every database here.
pub const DATABASE: [u8; 32] = [1; 32];
const LIMITS: Limits = Limits {
    anonymize_after: SignedDuration::from_hours(24 * 90),
    delete_after_shipment: SignedDuration::from_hours(24 * 30),
    key_epoch: DAY,
};

/// All of it.
pub struct Tenant {
    pub world: World,
    pub config: RestoreConfig,
    pub keyring: Keyring,
    pub identities: BackupIdentities,
    pub digest: [u8; 32],
}

/// A backup as a store has it.
#[derive(Clone)]
pub struct Taken {
    pub data: Vec<u8>,
    pub json: Vec<u8>,
    pub manifest: Manifest,
}

impl Taken {
    /// The backup's id.
    pub fn id(&self) -> &str {
        &self.manifest.backup
    }
}

pub fn id() -> ConnectionId {
    CONNECTION.parse().expect("an id")
}

pub fn signer(keyring: &Keyring) -> Signer {
    Signer::new(keyring.audit_key().expect("an audit key").expose()).expect("a key")
}

fn millisecond(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).expect("in range")
}

fn order(number: &str) -> Order {
    let placed_at = millisecond(Timestamp::now() - SignedDuration::from_hours(1));
    let buyer = Buyer { email: format!("{number}@buyer.example"), ..Buyer::default() };
    Order {
        marketplace: Marketplace::Bol,
        pii: Pii::new(OrderPii {
            number: number.to_owned(),
            buyer,
            ship_to: None,
            bill_to: None,
            lines: Vec::new(),
            shipments: Vec::new(),
            notes: String::new(),
        }),
        placed_at,
        updated_at: placed_at,
        first_shipped_at: None,
        status: OrderStatus::Unshipped,
        marketplace_status: "OPEN".to_owned(),
        fulfilment: Fulfilment::Merchant,
        sales_channel: None,
        country: None,
        total: None,
        tax: None,
        lines: Vec::new(),
    }
}

impl Tenant {
    pub async fn start() -> Self {
        let world = World::with(Bucket::Plain, 0).await;
        let now = Timestamp::now();
        let grid = Grid::new(&id(), DAY);
        let mut identities = BackupIdentities::new(id());
        identities.extend(grid, now, now + DAY * 30);
        let mut keyring = Keyring::generate(id()).expect("a keyring");
        keyring.extend(grid, now, now + DAY * 91).expect("keys");
        keyring.set_recipients(identities.recipients());
        let site = |site: Site| SiteStore {
            site,
            store: S3Store { prefix: format!("{site}/{CONNECTION}"), ..world.config.store.clone() },
        };
        let config = RestoreConfig {
            connection_id: CONNECTION.to_owned(),
            namespace: "acme".to_owned(),
            name: "bol".to_owned(),
            sites: Site::ALL.map(site).into(),
            left_out: Vec::new(),
            choice: Choice::Newest,
            public_key: signer(&keyring).public_key(),
            chain: None,
            retention: Retention {
                anonymize_after_seconds: LIMITS.anonymize_after.as_secs(),
                delete_after_shipment_seconds: LIMITS.delete_after_shipment.as_secs(),
                key_epoch_seconds: DAY.as_secs(),
                backup_retention_seconds: Some(30 * DAY.as_secs()),
            },
            replace: false,
            erasures: PastErasures::default(),
        };
        fs::create_dir_all(world.path(DATA)).expect("a folder");
        Self { world, config, keyring, identities, digest: [2; 32] }
    }

    /// A file on the volume.
    pub fn file(&self, name: &str) -> PathBuf {
        self.world.path(DATA).join(name)
    }

    /// What is on the volume, by name.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.world.path(DATA)).expect("a folder").map(|entry| entry.expect("one"));
        let name = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        entries.map(|entry| (name(&entry), fs::read(entry.path()).expect("a file"))).collect()
    }

    /// Of the files on the volume, but for what SQLite leaves beside a database that was only looked at.
    pub fn names(&self) -> Vec<String> {
        let is_left = |name: &String, bytes: &Vec<u8>| {
            name == "marketrelay.db-shm" || name == "marketrelay.db-wal" && bytes.is_empty()
        };
        let files = self.files().into_iter();
        files.filter(|(name, bytes)| !is_left(name, bytes)).map(|(name, _)| name).collect()
    }

    /// The volume is another one, and empty.
    pub fn lose_volume(&self) {
        fs::remove_dir_all(self.world.path(DATA)).expect("removed");
        fs::create_dir_all(self.world.path(DATA)).expect("a folder");
    }

    pub fn key(&self) -> DigestKey {
        DigestKey::new(&SecretKey::from(self.digest))
    }

    /// The volume's database; closed before the Job runs.
    pub fn store(&self) -> Store {
        Store::open(&self.world.path(DATA), &SecretKey::from(DATABASE), &id()).expect("the database")
    }

    /// Collects orders.
    pub async fn collect(&self, numbers: &[&str]) {
        let (store, key) = (self.store(), self.key());
        store.claim_digest_key(&key).await.expect("the first one");
        let orders = numbers.iter().map(|number| Prepared::new(order(number), &key)).collect();
        let (keyring, now) = (self.keyring.clone(), Timestamp::now());
        let page = ingest::Page { orders, cursor: Cursor(serde_json::json!({})), known_until: Some(now) };
        let ingest = move |connection: &_| ingest::ingest(connection, &page, &keyring, LIMITS, now);
        store.write(ingest).await.expect("stored");
        store.close().await.expect("closed");
    }

    /// The operator makes a hold of everything, and the relay keeps it.
    pub async fn hold(&mut self, name: &str) {
        let now = Timestamp::now();
        if self.keyring.holds().all(|(key, _)| key.name() != name) {
            let until = DestroyAt::from_second((now + DAY * 60).as_second());
            self.keyring.add_hold(HoldKey::new(name, until).expect("a name")).expect("a key");
        }
        let placed = Some(Placed { from: now - DAY, to: now + DAY });
        let selection = |(key, _): (&HoldKey, HoldId)| HeldSelection {
            name: key.name().to_owned(),
            digests: Vec::new(),
            placed,
        };
        let selections: Vec<_> = self.keyring.holds().map(selection).collect();
        let (store, keyring) = (self.store(), self.keyring.clone());
        let keep = move |connection: &_| {
            hold::settle(connection, &keyring, &selections)?;
            hold::keep(connection, &hold::missing(connection)?, &keyring, now)
        };
        assert_eq!(store.write(keep).await.expect("kept"), 0);
        store.close().await.expect("closed");
    }

    /// The id of the hold's key.
    pub fn hold_id(&self, name: &str) -> HoldId {
        self.keyring.holds().find(|(key, _)| key.name() == name).expect("the hold's key").1
    }

    /// How many orders the volume's database keeps for holds.
    pub async fn held(&self) -> i64 {
        let store = self.store();
        let sql = "SELECT count(*) FROM held_orders";
        let count = store.read(move |connection| Ok(connection.query_row(sql, [], |row| row.get(0))?)).await;
        store.close().await.expect("closed");
        count.expect("a count")
    }

    pub fn subject(&self, number: &str) -> SubjectDigest {
        SubjectDigest::Order(*self.key().order("bol", number).as_bytes())
    }

    /// Erases an order on request.
    pub async fn erase(&self, uid: &str, number: &str) {
        let request = erase::Request {
            uid: uid.to_owned(),
            subject: vec![self.subject(number)],
            keyring: Arc::new(self.keyring.clone()),
            limits: LIMITS,
            now: Timestamp::now(),
        };
        let store = self.store();
        assert_eq!(store.erase(request).await.expect("erased").erased, 1);
        store.close().await.expect("closed");
    }

    /// Whether the volume's database has this order with who bought it.
    pub async fn has(&self, number: &str) -> bool {
        let digest = self.key().order("bol", number);
        let store = self.store();
        let count = store.read(move |connection| {
            let sql = "SELECT count(*) FROM orders WHERE number_digest = ?1";
            Ok(connection.query_row(sql, [digest.as_bytes()], |row| row.get::<_, i64>(0))?)
        });
        let count = count.await.expect("a count");
        store.close().await.expect("closed");
        count == 1
    }

    /// Takes a snapshot.
    pub async fn take(&self) -> Taken {
        let now = Timestamp::now();
        let (key, recipient) = self.keyring.recipient_for(now + DAY * 30, now).expect("a recipient");
        self.take_of(Scope::Everything(key), recipient.clone()).await
    }

    /// Takes the archive of a hold.
    pub async fn take_archive(&self, name: &str) -> Taken {
        let id = self.hold_id(name);
        let (key, recipient) = self.keyring.archive_recipient(id).expect("a recipient");
        self.take_of(Scope::Hold(key.clone(), id), recipient).await
    }

    async fn take_of(&self, scope: Scope, recipient: Recipient) -> Taken {
        let now = Timestamp::now();
        let (_mounted, keyring) = watch::channel(Ok(Arc::new(self.keyring.clone())));
        let request = Request {
            backup: BackupId::mint(now).to_string(),
            site: Site::OnSite,
            connection: About {
                connection_id: CONNECTION.to_owned(),
                namespace: "acme".to_owned(),
                name: "bol".to_owned(),
                marketplace: "bol",
            },
            scope,
            recipient,
            keyring,
            signer: Arc::new(signer(&self.keyring)),
            clock: Clock::system(),
            longest: SOON,
        };
        let store = self.store();
        let Snapshot { mut bytes, outcome } = store.snapshot(request).await.expect("a snapshot");
        let mut container = Vec::new();
        bytes.read_to_end(&mut container).await.expect("bytes");
        outcome.await.expect("an outcome").expect("a snapshot");
        store.close().await.expect("closed");
        let (mut unpacker, mut data, mut rest) = (Unpacker::default(), Vec::new(), &container[..]);
        while !rest.is_empty() {
            data.extend_from_slice(unpacker.take(&mut rest).expect("a container"));
        }
        let json = unpacker.finish().expect("a whole container");
        let manifest = SignedManifest::parse(&json).and_then(|signed| signed.manifest(None));
        Taken { data, json, manifest: manifest.expect("a manifest") }
    }

    pub async fn put(&self, site: Site, taken: &Taken) {
        let folder = format!("{site}/{CONNECTION}/{}", taken.id());
        self.world.s3.put(&format!("{folder}/data"), &taken.data).await;
        self.world.s3.put(&format!("{folder}/manifest.json"), &taken.json).await;
    }

    /// Puts an archive where those of the hold are.
    pub async fn put_archive(&self, site: Site, hold: HoldId, taken: &Taken) {
        let folder = format!("{site}/{CONNECTION}/holds/{hold}/{}", taken.id());
        self.world.s3.put(&format!("{folder}/data"), &taken.data).await;
        self.world.s3.put(&format!("{folder}/manifest.json"), &taken.json).await;
    }

    /// Takes the archive of a hold.
    pub async fn archive(&self, site: Site, name: &str) -> Taken {
        let taken = self.take_archive(name).await;
        self.put_archive(site, self.hold_id(name), &taken).await;
        taken
    }

    /// Takes a backup.
    pub async fn back_up(&self, site: Site) -> Taken {
        let taken = self.take().await;
        self.put(site, &taken).await;
        taken
    }
}
