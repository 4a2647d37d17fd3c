//! A drill with the escrowed copy: nothing of the cluster is used.

use std::time::Instant;

use jiff::Timestamp;
use marketrelay_api::{
    backup::{DrillConfig, Site, SiteStore},
    relay::Retention,
};
use marketrelay_keyring::{DestroyAt, DigestKey, SecretKey};
use snafu::{ResultExt, Whatever};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{
    Found, Opened, Row,
    find::Reader,
    newest::{Newest, newest},
};
use crate::restore::{drill::Drill, mounted::Mounted};

const DAY: i64 = 86_400;

/// What each check needs.
pub struct Checks<'a> {
    pub reader: &'a Reader,
    pub now: Timestamp,
    pub stop: &'a CancellationToken,
}

impl Checks<'_> {
    /// One after the other, so that memory and disk stay those of one.
    pub async fn run(&self, found: Vec<Found>) -> Result<Vec<Row>, Whatever> {
        let mut rows = Vec::new();
        for found in found {
            rows.push(match &found.opened {
                Err(problem) => Row::unopened(&found, problem),
                Ok(opened) => {
                    let begun = Instant::now();
                    Row::of(opened, self.check(opened).await?).after(begun.elapsed())
                }
            });
        }
        Ok(rows)
    }

    async fn check(&self, opened: &Opened) -> Result<Newest, Whatever> {
        let folder = TempDir::new().whatever_context("can't make a folder for the database")?;
        let drilled = async {
            let store = self.reader.store(&opened.id).map_err(|error| error.to_string())?;
            let database = SecretKey::generate().map_err(|error| error.to_string())?;
            let mounted = Mounted::new(
                opened.keyring.clone(),
                DigestKey::new(&opened.digest),
                database,
                opened.identities.clone(),
            );
            let config = self.config(opened);
            let drill = Drill::with(config, mounted, store, folder.path().to_owned(), self.stop);
            drill.execute().await.map_err(|error| error.to_string())
        };
        Ok(match drilled.await {
            Ok(drilled) => Newest { taken: Some(drilled.created_at), problem: None },
            Err(problem) => {
                let listed = newest(self.reader, opened, self.now).await;
                Newest { problem: Some(problem), ..listed }
            }
        })
    }

    fn config(&self, opened: &Opened) -> DrillConfig {
        DrillConfig {
            connection_id: opened.id.to_string(),
            namespace: opened.namespace.clone(),
            name: opened.name.clone(),
            site: SiteStore { site: Site::OffSite, store: self.reader.place(&opened.id) },
            public_key: opened.public_key.clone(),
            chain: opened.chain.clone(),
            retention: self.retention(opened),
            oldest_seconds: i64::MAX,
            erasures: opened.erasures.clone(),
        }
    }

    /// It decides how long an erased subject is kept away, here in a database that is thrown away: for as long as there are keys.
    fn retention(&self, opened: &Opened) -> Retention {
        let last = opened.keyring.last_epoch().map_or(0, DestroyAt::as_second);
        let reach = (last - self.now.as_second()).max(DAY);
        Retention {
            anonymize_after_seconds: reach,
            delete_after_shipment_seconds: reach,
            key_epoch_seconds: DAY,
            backup_retention_seconds: None,
        }
    }
}
