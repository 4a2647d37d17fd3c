//! The operator's own port: health for the kubelet, metrics for who has the certificate for it.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use marketrelay_mtls::{Current, Pem, Role};
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    pki::{Authority, Subject},
};

/// How often the server's certificate is looked at.
const INTERVAL: std::time::Duration = std::time::Duration::from_hours(1);

/// The routes.
pub fn router(metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route("/metrics", get(show_metrics))
        .with_state(metrics)
}

async fn show_metrics(State(metrics): State<Arc<Metrics>>, Extension(role): Extension<Role>) -> Response {
    if role == Role::Nobody {
        let message = "a client certificate is needed: that of the Secret marketrelay-metrics-client\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()).into_response()
}

fn config(authority: &Authority, host: &str, now: Timestamp) -> Result<(ServerConfig, Timestamp), String> {
    let issued = authority.issue(&Subject::Server(host), now).map_err(|error| error.to_string())?;
    let pem = Pem {
        certificate: issued.certificate.as_bytes(),
        key: issued.key.as_bytes(),
        authority: authority.pem().as_bytes(),
    };
    Ok((marketrelay_mtls::server_config(pem)?, issued.renew_after))
}

/// A certificate for `host` that is renewed until `stop`.
pub fn certificate(authority: Arc<Authority>, host: String, stop: CancellationToken) -> Current {
    let first = config(&authority, &host, Timestamp::now());
    let mut renew_after = first.as_ref().map_or(Timestamp::MIN, |(_, renew_after)| *renew_after);
    let (sender, receiver) = watch::channel(first.map(|(config, _)| Arc::new(config)));
    tokio::spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
            let now = Timestamp::now();
            if now < renew_after {
                continue;
            }
            match config(&authority, &host, now) {
                Ok((renewed, after)) => {
                    renew_after = after;
                    drop(sender.send_replace(Ok(Arc::new(renewed))));
                }
                Err(error) => tracing::error!(error, "the server's certificate can't be renewed"),
            }
        }
    });
    receiver
}
