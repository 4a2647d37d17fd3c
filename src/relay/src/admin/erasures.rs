//! `PUT /v1/erasures/{uid}`, and `POST /v1/subjects`, which only looks.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{DefaultBodyLimit, Path, State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{MethodRouter, post, put},
};
use marketrelay_api::{
    SubjectDigest,
    relay::{Erasure, ErasureAnswer, SubjectAnswer},
};
use marketrelay_keyring::{Keyring, Limits};
use marketrelay_mtls::Role;
use tokio::sync::{Notify, watch};

use super::{Admin, forbidden, unavailable};
use crate::{
    mounts::Mounted,
    store::erase::{Request, known},
};

/// [`Erasure::MOST`] digests are about 22 KiB.
const LARGEST_BODY: usize = 64 * 1024;
/// A uid has 36 characters.
const LONGEST_UID: usize = 64;
const NO_SUBJECT: &str = "the body isn't {\"subject\": [digests]}, or there are too few or too many\n";

/// What erasing needs.
#[derive(Clone)]
pub struct Erasing {
    /// The mounted keyring: what the destination is told is sealed until then.
    pub keyring: watch::Receiver<Mounted<Keyring>>,
    /// The retention in effect.
    pub limits: Limits,
    /// Rung when the destination is to be told.
    pub bell: Arc<Notify>,
}

pub(super) fn route() -> MethodRouter<Admin> {
    put(erase).layer(DefaultBodyLimit::max(LARGEST_BODY))
}

pub(super) fn subjects() -> MethodRouter<Admin> {
    post(look).layer(DefaultBodyLimit::max(LARGEST_BODY))
}

async fn look(
    State(admin): State<Admin>,
    Extension(role): Extension<Role>,
    body: Result<Json<Erasure>, JsonRejection>,
) -> Response {
    if role != Role::Operator {
        return forbidden();
    }
    let Some(subject) = subject(body) else { return bad_request(NO_SUBJECT) };
    match admin.store.read(move |connection| known(connection, &subject)).await {
        Ok(orders) => Json(SubjectAnswer { orders }).into_response(),
        Err(error) => unavailable(&error),
    }
}

/// A rejection's own text could repeat what was sent.
fn subject(body: Result<Json<Erasure>, JsonRejection>) -> Option<Vec<SubjectDigest>> {
    let Json(Erasure { subject }) = body.ok()?;
    (1..=Erasure::MOST).contains(&subject.len()).then_some(subject)
}

async fn erase(
    State(admin): State<Admin>,
    Extension(role): Extension<Role>,
    Path(uid): Path<String>,
    body: Result<Json<Erasure>, JsonRejection>,
) -> Response {
    if role != Role::Operator {
        return forbidden();
    }
    let Some(subject) = subject(body) else { return bad_request(NO_SUBJECT) };
    if uid.len() > LONGEST_UID {
        return bad_request("too long a uid\n");
    }
    let keyring = match admin.erasing.keyring.borrow().clone() {
        Ok(keyring) => keyring,
        Err(reason) => return unavailable(&reason),
    };
    let request = Request { uid, subject, keyring, limits: admin.erasing.limits, now: admin.clock.now() };
    match admin.store.erase(request).await {
        Ok(answer) => {
            let ErasureAnswer { matched, erased, held, .. } = answer;
            tracing::info!(matched, erased, held, "erased on request");
            admin.erasing.bell.notify_one();
            Json(answer).into_response()
        }
        Err(error) => unavailable(&error),
    }
}

fn bad_request(why: &'static str) -> Response {
    (StatusCode::BAD_REQUEST, why).into_response()
}
