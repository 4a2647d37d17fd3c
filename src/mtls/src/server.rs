//! Accepting connections.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::Role;

/// The configuration in use, or why there is none.
pub type Current = watch::Receiver<Result<Arc<ServerConfig>, String>>;

const HANDSHAKE: Duration = Duration::from_secs(5);
/// A peer that doesn't answer a ping this long is gone.
const PING: Duration = Duration::from_mins(1);
const CONNECTIONS: usize = 32;
/// Connections are closed after this long, so that nobody keeps the room of others.
const LIFE: Duration = Duration::from_mins(10);
/// Without a certificate: enough for a probe.
const LIFE_OF_NOBODY: Duration = Duration::from_secs(15);

/// As [`serve_many`], for a server whose callers are few.
pub async fn serve(listener: TcpListener, tls: Current, router: Router, stop: CancellationToken) {
    serve_many(CONNECTIONS, listener, tls, router, stop).await;
}

/// Serves `connections` at a time until `stop`, then finishes the requests that were begun. A replaced certificate counts from the next
/// connection on; a replacement that can't be used leaves the one before it in place.
pub async fn serve_many(
    connections: usize,
    listener: TcpListener,
    tls: Current,
    router: Router,
    stop: CancellationToken,
) {
    let (tasks, room) = (TaskTracker::new(), Arc::new(Semaphore::new(connections)));
    let mut usable = tls.borrow().clone().ok();
    while let Some(Ok(permit)) = stop.run_until_cancelled(room.clone().acquire_owned()).await {
        let stream = match stop.run_until_cancelled(listener.accept()).await {
            Some(Ok((stream, _))) => stream,
            Some(Err(error)) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            None => break,
        };
        if let Ok(newest) = &*tls.borrow() {
            usable = Some(newest.clone());
        }
        let Some(config) = usable.clone() else { continue };
        let (router, stop) = (router.clone(), stop.clone());
        tasks.spawn(async move {
            connection(stream, config, router, stop).await;
            drop(permit);
        });
    }
    tasks.close();
    tasks.wait().await;
}

async fn connection(stream: TcpStream, config: Arc<ServerConfig>, router: Router, stop: CancellationToken) {
    let Ok(Ok(stream)) = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await else { return };
    let role = Role::of(stream.get_ref().1.peer_certificates());
    let service = TowerToHyperService::new(router.layer(Extension(role)));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE).max_buf_size(16 * 1024);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING).max_concurrent_streams(8);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        () = stop.cancelled() => {}
        () = tokio::time::sleep(if role == Role::Nobody { LIFE_OF_NOBODY } else { LIFE }) => {}
    }
    serving.as_mut().graceful_shutdown();
    // The pod's grace period bounds what a peer that never ends can hold up.
    let _ended = timeout(HANDSHAKE, serving).await;
}
