//! The kubelet asks a program to end by SIGTERM.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Is cancelled once the process is asked to end. Fails if the signal can't be waited for.
pub fn token() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        tracing::info!("asked to end");
        asked.cancel();
    });
    Ok(stop)
}
