//! Pruning a store by age: what is due goes, and a look tells what is left. The same for whoever asks for it.

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::backup::Expiry;

use crate::{
    archives::Holds,
    catalog::Catalog,
    prune::{self, Pruned},
    settings::{self, SettingsError},
    store::{Store, StoreError},
};

/// When the time of a connection's backups and archives has come.
pub struct Rules {
    connection_id: String,
    public_key: Option<String>,
    /// No backup may be older.
    pub retention: SignedDuration,
    interval: SignedDuration,
    /// The holds whose keys there are; `None`: that isn't known.
    pub holds: Option<Holds>,
}

impl Rules {
    /// Those of a connection.
    pub fn new(connection_id: &str, expiry: &Expiry) -> Result<Self, SettingsError> {
        Ok(Self {
            connection_id: connection_id.to_owned(),
            public_key: expiry.public_key.clone(),
            retention: SignedDuration::from_secs(expiry.backup_retention_seconds),
            interval: SignedDuration::from_secs(expiry.interval_seconds),
            holds: expiry.holds.as_deref().map(settings::holds).transpose()?,
        })
    }

    /// Who must have signed, if that is known.
    pub fn public_key(&self) -> Option<&str> {
        self.public_key.as_deref()
    }

    /// Removes what expires before the next run.
    pub async fn prune(&self, store: &Store) -> Result<Pruned, StoreError> {
        let catalog = self.look(store, self.public_key()).await?;
        let now = Timestamp::now();
        let at = now.checked_add(self.interval).unwrap_or(Timestamp::MAX);
        Ok(prune::remove(store, catalog.goes(self.retention, self.holds.as_ref(), at, now)).await)
    }

    /// What is there. `public_key`: who must have signed, if that is known.
    pub async fn look(&self, store: &Store, public_key: Option<&str>) -> Result<Catalog, StoreError> {
        Catalog::load(store, &self.connection_id, public_key).await
    }
}
