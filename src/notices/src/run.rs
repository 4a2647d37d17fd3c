//! The receiver put together.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use marketrelay_api::notices::{APPLICATION, CONFIG, IDENTITY, TLS};
use marketrelay_pod::{
    egress::Egress,
    mounts::{at, follow},
    tls::http_client,
};
use snafu::{ResultExt, Whatever};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    keys::Keys,
    metrics::Metrics,
    operator::Operator,
    receiver::{Receiver, router},
    settings,
};

/// Callers at the same time: eBay or an Ingress, and whoever else reaches the endpoint.
const CONNECTIONS: usize = 128;

/// Where things are.
pub struct Surroundings {
    /// Before the mounted paths; `/` in a pod.
    pub root: PathBuf,
    /// Of the endpoint.
    pub listener: TcpListener,
    /// The operator's, in place of the cluster's DNS.
    pub operator: Option<SocketAddr>,
}

/// Receives until `stop`; then the requests that were begun are finished.
pub async fn run(surroundings: Surroundings, stop: CancellationToken) -> Result<(), Whatever> {
    let Surroundings { root, listener, operator: address } = surroundings;
    let config = settings::config(&at(&root, CONFIG))?;
    let endpoints = settings::endpoints(&config);
    let egress = Egress::new(&config.egress.allowed_networks);
    for url in [&endpoints.api, &endpoints.token] {
        egress.check(url).with_whatever_context(|error| {
            format!("{} can't be used: {error}", url.host_str().unwrap_or_default())
        })?;
    }
    let http = http_client(&egress, &config.egress.extra_ca_certificates)?;
    let metrics = Arc::new(Metrics::new().whatever_context("metrics")?);
    let application = follow(at(&root, APPLICATION), settings::application, stop.clone());
    let keys = Keys::new(http, endpoints, application.clone(), metrics.clone());
    let base = config.operator.clone();
    let identity = at(&root, IDENTITY);
    let operator =
        follow(identity.clone(), move |entries| Operator::new(entries, &base, address), stop.clone());
    let tls =
        follow(at(&root, TLS), move |entries| settings::server_config(entries, &identity), stop.clone());
    let place = (config.endpoint.clone(), config.path());
    let receiver = Receiver::new(place, application, operator, keys, metrics);
    let address = listener.local_addr().whatever_context("the endpoint has no address")?;
    tracing::info!(%address, endpoint = config.endpoint, "the endpoint listens");
    marketrelay_mtls::serve_many(CONNECTIONS, listener, tls, router(Arc::new(receiver)), stop).await;
    tracing::info!("ended");
    Ok(())
}
