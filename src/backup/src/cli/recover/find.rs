use futures::{StreamExt, stream};
use jiff::Timestamp;
use marketrelay_api::backup::S3Store;
use marketrelay_escrow::{Escrow, EscrowError, Identity};
use marketrelay_keyring::ConnectionId;
use snafu::{ResultExt, Whatever, ensure_whatever};

use super::{
    super::{Bucket, PATIENCE, credentials},
    Opened,
};
use crate::store::{Credentials, Store, StoreError, folders};

/// Documents that are read at a time.
const AT_A_TIME: usize = 8;

/// The escrowed keys of a connection, or why they can't be opened.
pub struct Found {
    pub id: ConnectionId,
    /// Namespace and name, once they are known.
    pub of: Option<(String, String)>,
    pub opened: Result<Box<Opened>, String>,
}

/// Reads what is under the operator's prefix.
pub struct Reader {
    place: S3Store,
    credentials: Credentials,
}

impl Reader {
    pub fn new(bucket: &Bucket, prefix: &str) -> Result<Self, Whatever> {
        let last = prefix.rsplit('/').next().unwrap_or_default();
        ensure_whatever!(
            last.parse::<ConnectionId>().is_err(),
            "--prefix {prefix} ends with a connection's id: give the prefix above it, and --connection {last} for that one alone"
        );
        Ok(Self { place: bucket.below(prefix)?, credentials: credentials()? })
    }

    /// Where a connection's part is.
    pub fn place(&self, id: &ConnectionId) -> S3Store {
        let prefix = match self.place.prefix.as_str() {
            "" => id.to_string(),
            above => format!("{above}/{id}"),
        };
        S3Store { prefix, ..self.place.clone() }
    }

    pub fn store(&self, id: &ConnectionId) -> Result<Store, StoreError> {
        Store::new(&self.place(id), &self.credentials, PATIENCE)
    }

    /// All that there are, by namespace and name, those that can't be opened last. Folders without escrowed keys are none.
    pub async fn all(&self, identities: &[Identity], now: Timestamp) -> Result<Vec<Found>, Whatever> {
        let names = folders(&self.place, &self.credentials, PATIENCE).await;
        let names = names.with_whatever_context(|error| error.to_string())?;
        let ids = names.into_iter().filter_map(|name| name.parse::<ConnectionId>().ok());
        let read = |id: ConnectionId| async move { (self.read(&id).await, id) };
        let mut read = stream::iter(ids).map(read).buffer_unordered(AT_A_TIME);
        let mut all = Vec::new();
        while let Some((sealed, id)) = read.next().await {
            let opened = match sealed {
                Err(StoreError::NotFound { .. }) => continue,
                Err(error) => Err(error.to_string()),
                Ok(sealed) => open(&sealed, identities, &id, now).map(Box::new),
            };
            let of = opened.as_ref().ok().map(|opened| (opened.namespace.clone(), opened.name.clone()));
            all.push(Found { id, of, opened });
        }
        all.sort_by_key(|found| (found.of.is_none(), found.of.clone(), found.id.clone()));
        Ok(all)
    }

    async fn read(&self, id: &ConnectionId) -> Result<bytes::Bytes, StoreError> {
        Ok(self.store(id)?.read_escrowed().await?.bytes)
    }
}

fn open(sealed: &[u8], identities: &[Identity], id: &ConnectionId, now: Timestamp) -> Result<Opened, String> {
    let mut last = "there is no identity".to_owned();
    for identity in identities {
        match Escrow::open(sealed, identity) {
            Ok(escrow) => return Opened::new(escrow, id, now),
            // Another one may.
            Err(error @ EscrowError::Decrypt { .. }) => last = error.to_string(),
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(last)
}
