//! A way to a store that stops in the middle of an upload, with the connection open.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

/// Passes on what it doesn't understand: TLS goes through it.
pub struct Stalled {
    /// Where it listens, on the store's own address.
    pub address: SocketAddr,
    /// Of one connection to the store, before it stops; `None`: it doesn't.
    limit: Arc<watch::Sender<Option<u64>>>,
    most: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Stalled {
    /// In front of a store; passes everything.
    pub async fn before(store: SocketAddr) -> Self {
        let listener = TcpListener::bind((store.ip(), 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let limit = Arc::new(watch::Sender::new(None));
        let most = Arc::new(AtomicU64::new(0));
        let (limits, seen) = (limit.clone(), most.clone());
        let task = tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(pass(from, store, limits.subscribe(), seen.clone()));
            }
        });
        Self { address, limit, most, task: task.abort_handle() }
    }

    /// Stops each connection after so many bytes to the store.
    pub fn stop_after(&self, bytes: u64) {
        self.most.store(0, Ordering::Relaxed);
        self.limit.send_replace(Some(bytes));
    }

    /// Whether one has come so far.
    pub fn has_stopped(&self) -> bool {
        self.limit.borrow().is_some_and(|limit| self.most.load(Ordering::Relaxed) >= limit)
    }

    /// Passes everything again.
    pub fn go_on(&self) {
        self.limit.send_replace(None);
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(from: TcpStream, store: SocketAddr, limit: watch::Receiver<Option<u64>>, seen: Arc<AtomicU64>) {
    let Ok(to) = TcpStream::connect(store).await else { return };
    let ((mut from_read, mut from_write), (mut to_read, mut to_write)) = (from.into_split(), to.into_split());
    tokio::select! {
        _ = counted(&mut from_read, &mut to_write, limit, &seen) => {}
        _ = copy(&mut to_read, &mut from_write) => {}
    }
}

async fn counted(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut limit: watch::Receiver<Option<u64>>,
    seen: &AtomicU64,
) -> std::io::Result<()> {
    let (mut passed, mut buffer) = (0, vec![0; 4096]);
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        passed += read as u64;
        seen.fetch_max(passed, Ordering::Relaxed);
        if limit.wait_for(|limit| limit.is_none_or(|limit| passed < limit)).await.is_err() {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}
