//! `GET /v1/affected`.

use axum::{
    Extension, Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use jiff::SignedDuration;
use marketrelay_api::relay::{Affected, AffectedQuery};
use marketrelay_mtls::Role;

use super::{Admin, forbidden, unavailable};
use crate::store::affected;

pub(super) fn route() -> MethodRouter<Admin> {
    get(count)
}

async fn count(
    State(admin): State<Admin>,
    Extension(role): Extension<Role>,
    query: Result<Query<AffectedQuery>, QueryRejection>,
) -> Response {
    if role != Role::Operator {
        return forbidden();
    }
    let Some((anonymize_after, delete_after_shipment)) = query.ok().and_then(|Query(query)| durations(query))
    else {
        let why =
            "anonymizeAfterSeconds and deleteAfterShipmentSeconds must be numbers of seconds, at least 1\n";
        return (StatusCode::BAD_REQUEST, why).into_response();
    };
    let now = admin.clock.now();
    let count =
        move |connection: &_| affected::affected(connection, anonymize_after, delete_after_shipment, now);
    match admin.store.read(count).await {
        Ok(orders) => Json(Affected { orders }).into_response(),
        Err(error) => unavailable(&error),
    }
}

fn durations(query: AffectedQuery) -> Option<(SignedDuration, SignedDuration)> {
    let seconds = |seconds: i64| (seconds > 0).then(|| SignedDuration::from_secs(seconds));
    Some((seconds(query.anonymize_after_seconds)?, seconds(query.delete_after_shipment_seconds)?))
}
