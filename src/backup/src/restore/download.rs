//! A backup's data for a thread that reads it as it comes.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use tokio_util::{
    io::{StreamReader, SyncIoBridge},
    sync::CancellationToken,
};

use crate::{
    BackupId,
    size::size,
    store::{Store, StoreError},
};

/// Between two lines in the log.
const INTERVAL: Duration = Duration::from_secs(10);

/// What the store said when it failed in the middle.
#[derive(Clone, Default)]
pub(super) struct Fault(Arc<Mutex<Option<StoreError>>>);

impl Fault {
    pub(super) fn take(&self) -> Option<StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, error: StoreError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// The data; it says in the log how far it has come.
pub(super) struct Download {
    from: SyncIoBridge<StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>>,
    total: u64,
    bytes: u64,
    told: Instant,
}

impl Download {
    /// Begins. Once `stop` is cancelled, or the store fails, the data ends.
    pub(super) async fn begin(
        store: &Store,
        id: &BackupId,
        total: u64,
        stop: &CancellationToken,
    ) -> Result<(Self, Fault), StoreError> {
        let fault = Fault::default();
        let put = fault.clone();
        let failed = move |error: StoreError| {
            let told = io::Error::other(error.to_string());
            put.put(error);
            told
        };
        let data = store.data(id).await?.map_err(failed).take_until(stop.clone().cancelled_owned()).boxed();
        let from = SyncIoBridge::new(StreamReader::new(data));
        Ok((Self { from, total, bytes: 0, told: Instant::now() }, fault))
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.bytes += read as u64;
        if self.told.elapsed() >= INTERVAL {
            self.told = Instant::now();
            let percent = 100 * self.bytes / self.total.max(1);
            tracing::info!("{} of {} read, {percent} %", size(self.bytes), size(self.total));
        }
        Ok(read)
    }
}
