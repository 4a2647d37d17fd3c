//! One after the other on the same server: a backup and its restore, and restic's of the same database's file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use marketrelay_api::backup::S3Store;
use tempfile::TempDir;

use crate::{
    authority::Authority,
    measured::Measured,
    programs::{Relay, back_up, restore, store},
    restic::Restic,
    s3::{Bucket, S3},
    shop::{CONNECTION, Shop},
};

/// A server and a shop.
pub struct Bench {
    authority: Authority,
    s3: S3,
    store: S3Store,
    pub shop: Shop,
    rounds: u32,
    folder: TempDir,
}

/// A backup.
pub struct Written {
    pub measured: Measured,
    /// What the store has more.
    pub bytes: u64,
}

/// Backups of the same database.
pub struct Backups {
    pub ours: Written,
    /// The relay's highest memory meanwhile.
    pub relay_peak: f64,
    pub restic: Written,
}

/// What one round came to.
pub struct Round {
    pub backups: Backups,
    pub restore: Measured,
    pub restic_restore: Measured,
    repository: Restic,
}

impl Bench {
    pub async fn start() -> Self {
        let folder = || TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let authority = Authority::new();
        let s3 = S3::start(&authority, folder()).await;
        s3.make_bucket(Bucket::Plain).await;
        let store = store(&s3, &authority);
        let folder = folder();
        let shop = Shop::new(folder.path().to_owned());
        Self { authority, s3, store, shop, rounds: 0, folder }
    }

    /// Of the database as it is; restic's repository is a new one each time.
    pub async fn rounds(&mut self, count: u32) -> Vec<Round> {
        let file = self.copy();
        let relay = Relay::start(&self.shop, &self.authority).await;
        let mut rounds = Vec::new();
        for _ in 0..count {
            self.rounds += 1;
            let (prefix, folder) = (format!("restic-{}", self.rounds), self.folder.path().join("restic"));
            let repository = Restic::init(&self.s3, &self.authority.pem, prefix, folder).await;
            rounds.push(self.round(&relay, repository, &file).await);
        }
        relay.end().await;
        rounds
    }

    /// Of the database as it has become, into the repository of that round.
    pub async fn later(&self, last: &Round) -> Backups {
        let file = self.copy();
        let relay = Relay::start(&self.shop, &self.authority).await;
        let backups = self.back_up(&relay, &last.repository, &file).await;
        relay.end().await;
        backups
    }

    async fn round(&self, relay: &Relay, repository: Restic, file: &Path) -> Round {
        let backups = self.back_up(relay, &repository, file).await;
        let restore = restore(&self.shop, &self.store, &self.folder.path().join("restored")).await;
        let restic_restore = repository.restore(file).await;
        Round { backups, restore, restic_restore, repository }
    }

    async fn back_up(&self, relay: &Relay, repository: &Restic, file: &Path) -> Backups {
        let (ours, restic) = (self.stored(CONNECTION), self.stored(&repository.prefix));
        let root = self.folder.path().join("job");
        let (measured, relay_peak) = back_up(&self.shop, relay, &self.store, &self.authority, &root).await;
        let ours = Written { measured, bytes: self.stored(CONNECTION) - ours };
        let measured = repository.backup(file).await;
        let restic = Written { measured, bytes: self.stored(&repository.prefix) - restic };
        Backups { ours, relay_peak, restic }
    }

    /// While no relay runs, all of the database is in its file.
    fn copy(&self) -> PathBuf {
        let folder = self.folder.path().join("copy");
        fs::create_dir_all(&folder).expect("a folder");
        let (database, file) = (self.shop.file(), folder.join("marketrelay.db"));
        assert!(!database.with_extension("db-wal").exists(), "there is a log beside the database");
        fs::copy(database, &file).expect("copied");
        file
    }

    /// Bytes in the store.
    fn stored(&self, prefix: &str) -> u64 {
        let objects = self.s3.objects().into_iter().filter(|(key, _)| key.starts_with(prefix));
        objects.map(|(_, path)| fs::metadata(path).map_or(0, |file| file.len())).sum()
    }
}
