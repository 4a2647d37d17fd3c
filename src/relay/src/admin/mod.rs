//! The admin API: status, affected orders, erasures, snapshots, metrics and health on one port with mutual TLS.

mod affected;
mod audit;
mod erasures;
mod snapshot;

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use marketrelay_api::relay::{DeliveryState, KeyringUse, RelayStatus};
use marketrelay_audit::{Kind, Statement};
use marketrelay_keyring::Limits;
use marketrelay_mtls::{Pem, Role};
use tokio::{sync::watch, time::timeout};

pub use erasures::Erasing;
pub use snapshot::Snapshots;

use crate::{
    activity::Reporter,
    audit::Count,
    clock::Clock,
    keys::KeyringMount,
    metrics::Metrics,
    mounts::{Entries, Mounted},
    privacy,
    store::{
        Result, Store,
        delivery::{self, DeliveryRow},
        status::{self, Counts},
    },
};

/// A database that doesn't answer within this time isn't alive.
const ALIVE: Duration = Duration::from_secs(5);

/// The server's TLS from the mounted Secret.
pub fn server_config(entries: &Entries) -> Result<rustls::ServerConfig, String> {
    let entry = |name: &str| {
        entries
            .get(name)
            .map(|bytes| bytes.as_slice())
            .ok_or_else(|| format!("the Secret has no entry {name:?}"))
    };
    let pem = Pem { certificate: entry("tls.crt")?, key: entry("tls.key")?, authority: entry("ca.crt")? };
    marketrelay_mtls::server_config(pem)
}

/// What the admin API shows.
#[derive(Clone)]
pub struct Admin {
    /// The database.
    pub store: Store,
    /// Whose relay this is.
    pub connection_id: String,
    /// Of the configuration file.
    pub config_digest: String,
    /// How collecting goes.
    pub collecting: Reporter,
    /// How delivering goes.
    pub delivering: Reporter,
    /// How keeping deadlines goes.
    pub keeping: Reporter,
    /// The keyring as it is mounted.
    pub keyring: watch::Receiver<Mounted<KeyringMount>>,
    /// The retention in effect.
    pub limits: Limits,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
    /// For requests to erase.
    pub erasing: Erasing,
    /// For snapshots.
    pub snapshots: Snapshots,
}

/// The routes. Every path but the health ones needs a client certificate of its role.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/v1/status", get(show_status))
        .route("/v1/affected", affected::route())
        .route("/v1/erasures/{uid}", erasures::route())
        .route("/v1/subjects", erasures::subjects())
        .route("/v1/audit", get(audit::export))
        .route("/v1/snapshot", snapshot::route())
        .route("/metrics", get(show_metrics))
        .route("/livez", get(live))
        .route("/readyz", get(live))
        .with_state(admin)
}

fn forbidden() -> Response {
    (
        StatusCode::FORBIDDEN,
        "a client certificate of the operator's authority with the right role is needed\n",
    )
        .into_response()
}

fn unavailable(error: &dyn std::fmt::Display) -> Response {
    tracing::warn!(%error, "the admin API can't answer");
    (StatusCode::SERVICE_UNAVAILABLE, "not now; the relay's log says why\n").into_response()
}

async fn show_status(State(admin): State<Admin>, Extension(role): Extension<Role>) -> Response {
    if role != Role::Operator {
        return forbidden();
    }
    match admin.status().await {
        Ok(status) => Json(status).into_response(),
        Err(error) => unavailable(&error),
    }
}

async fn show_metrics(State(admin): State<Admin>, Extension(role): Extension<Role>) -> Response {
    if !role.reads_metrics() {
        return forbidden();
    }
    match admin.counted().await {
        Ok((counts, audit)) => {
            let activities = [
                ("collecting", admin.collecting.get()),
                ("delivering", admin.delivering.get()),
                ("keepingDeadlines", admin.keeping.get()),
            ];
            let text = admin.metrics.render(&counts, &audit, activities, admin.clock.now());
            ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

/// Both threads of the database answer.
async fn live(State(admin): State<Admin>) -> Response {
    let answers = async {
        admin.store.write(|_| Ok(())).await?;
        admin.store.read(|_| Ok(())).await
    };
    match timeout(ALIVE, answers).await {
        Ok(Ok(())) => "ok\n".into_response(),
        Ok(Err(error)) => unavailable(&error),
        Err(late) => unavailable(&late),
    }
}

impl Admin {
    async fn counts(&self) -> Result<(Counts, DeliveryRow)> {
        let (now, at_risk) = (self.clock.now(), privacy::at_risk(self.limits));
        let counts = move |connection: &_| {
            Ok((status::counts(connection, now, at_risk)?, delivery::read(connection)?))
        };
        self.store.read(counts).await
    }

    async fn counted(&self) -> Result<(Counts, Vec<Count>)> {
        let (counts, _) = self.counts().await?;
        Ok((counts, self.store.read(crate::audit::counts).await?))
    }

    /// The signed head of the audit log.
    async fn head(&self) -> Result<Option<Statement>> {
        let signer = self.keyring.borrow().clone().ok().and_then(|mounted| mounted.signer.clone());
        let Some(signer) = signer else { return Ok(None) };
        let (chain, position) = self.store.read(crate::audit::head).await?;
        Ok(Some(signer.sign(Kind::Head, &chain, position, self.clock.now())))
    }

    /// Absent while the keyring can't be used, or until nothing that is stored needs a key that isn't known to us.
    fn keyring(&self, counts: &Counts) -> Option<KeyringUse> {
        let mounted = self.keyring.borrow().clone().ok()?;
        Some(KeyringUse {
            mounted_generation: mounted.generation,
            oldest_generation: counts.oldest_generation?,
            first_mounted: mounted.first,
            audit_key_missing: mounted.signer.is_none(),
            recipients: Some(mounted.recipients),
        })
    }

    async fn status(&self) -> Result<RelayStatus> {
        let (counts, delivery) = self.counts().await?;
        let keyring = self.keyring(&counts);
        Ok(RelayStatus {
            connection_id: self.connection_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            orders: counts.orders,
            with_pii: counts.with_pii,
            backlog: counts.backlog,
            oldest_event: counts.oldest_event,
            oldest_pii: counts.oldest_pii,
            next_deadline: counts.next_deadline,
            known_until: counts.known_until,
            dropped_past_deadline: counts.dropped_past_deadline,
            anonymised: counts.anonymised,
            overdue: counts.overdue,
            given_up: counts.given_up,
            deliveries_at_risk: counts.deliveries_at_risk,
            keyring,
            audit: self.head().await?,
            holds: counts.holds,
            collecting: self.collecting.get(),
            delivering: self.delivering.get(),
            keeping_deadlines: self.keeping.get(),
            delivery_state: if delivery.disabled { DeliveryState::Disabled } else { DeliveryState::Active },
            config_digest: self.config_digest.clone(),
        })
    }
}
