//! The HTTPS server around it all.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, http::StatusCode, middleware::from_fn_with_state, routing::get};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use jiff::Timestamp;
use rustls::ServerConfig;
use snafu::{ResultExt, Snafu};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Config, TlsError, control, customer, faults, marketplaces,
    state::Shared,
    tls::{self, self_signed},
};

/// Why the sandbox can't start.
#[derive(Debug, Snafu)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum StartError {
    #[snafu(display("can't listen: {source}"))]
    Listen { source: std::io::Error },
    #[snafu(display("{source}"), context(false))]
    Tls { source: TlsError },
}

fn router(config: &Config) -> Router {
    let shared = Shared::new(config, Timestamp::now());
    let simulated = marketplaces::routes().merge(customer::routes());
    let simulated = simulated.layer(from_fn_with_state(shared.clone(), faults::inject));
    let ok = || async { StatusCode::OK };
    simulated
        .merge(control::routes(&shared))
        .route("/livez", get(ok))
        .route("/readyz", get(ok))
        .with_state(shared)
}

/// Serves `config` with this certificate until the future is dropped.
pub async fn serve(
    config: &Config,
    listener: TcpListener,
    certificate: &str,
    key: &str,
) -> Result<(), StartError> {
    accept(listener, tls::server_config(certificate, key)?, router(config)).await;
    Ok(())
}

async fn accept(listener: TcpListener, config: Arc<ServerConfig>, router: Router) {
    let acceptor = TlsAcceptor::from(config);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(router.clone()));
        connections.spawn(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                let served =
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                if let Err(error) = served {
                    tracing::debug!(%error, "connection ended");
                }
            }
        });
    }
}

/// A sandbox inside a test: on a free loopback port, until dropped.
pub struct Sandbox {
    /// Of all APIs.
    pub url: String,
    /// Of the authority that clients must trust.
    pub ca: String,
    task: JoinHandle<()>,
}

impl Sandbox {
    /// Starts one.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let identity = self_signed(&["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let tls = tls::server_config(&identity.certificate, &identity.key)?;
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.context(ListenSnafu)?;
        let port = listener.local_addr().context(ListenSnafu)?.port();
        let task = tokio::spawn(accept(listener, tls, router(config)));
        Ok(Self { url: format!("https://localhost:{port}"), ca: identity.ca, task })
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}
