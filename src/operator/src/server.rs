//! The operator's own port: health for the kubelet, metrics for who has the certificate for it, and what the receiver of eBay's
//! notices hands over.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, State, rejection::JsonRejection},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jiff::Timestamp;
use marketrelay_api::notices::{EbayNotice, HAND_OVER};
use marketrelay_mtls::{Current, Pem, Role};
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    notices::{NoticeError, Notices},
    pki::{Authority, Subject},
};

/// How often the server's certificate is looked at.
const INTERVAL: std::time::Duration = std::time::Duration::from_hours(1);
/// A notice is a few hundred bytes.
const LARGEST_NOTICE: usize = 16 * 1024;

/// The routes.
pub fn router(metrics: Arc<Metrics>, notices: Arc<Notices>) -> Router {
    let notices = Router::new()
        .route(HAND_OVER, post(take_notice).layer(DefaultBodyLimit::max(LARGEST_NOTICE)))
        .with_state(notices);
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route("/metrics", get(show_metrics))
        .with_state(metrics)
        .merge(notices)
}

async fn show_metrics(State(metrics): State<Arc<Metrics>>, Extension(role): Extension<Role>) -> Response {
    if !role.reads_metrics() {
        let message = "a client certificate is needed: that of the Secret marketrelay-metrics-client\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()).into_response()
}

async fn take_notice(
    State(notices): State<Arc<Notices>>,
    Extension(role): Extension<Role>,
    notice: Result<Json<EbayNotice>, JsonRejection>,
) -> Response {
    if role != Role::Notices {
        let message = "the certificate of the receiver of eBay's notices is needed\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    // A rejection's own text could repeat what was sent.
    let Ok(Json(notice)) = notice else {
        return (StatusCode::BAD_REQUEST, "not a notice\n").into_response();
    };
    match notices.accept(&notice).await {
        Ok(requests) => {
            tracing::info!(requests, "eBay's notice has become erasure requests");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error @ NoticeError::Form) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
        Err(error) => {
            tracing::warn!(%error, "eBay's notice hasn't become an erasure everywhere; eBay repeats it");
            (StatusCode::SERVICE_UNAVAILABLE, "not now; the operator's log says why\n").into_response()
        }
    }
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
