//! `POST /v1/snapshot`.

use std::io::Cursor;

use axum::{
    Extension, Json,
    body::Body,
    extract::{DefaultBodyLimit, State, rejection::JsonRejection},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{MethodRouter, post},
};
use jiff::{SignedDuration, Timestamp};
use marketrelay_api::backup::{Failure, SnapshotRequest};
use marketrelay_keyring::{HoldId, Keyring, Recipient};
use marketrelay_mtls::Role;
use marketrelay_snapshot::CONTENT_TYPE as CONTAINER;
use tokio::{
    io::{AsyncReadExt, DuplexStream},
    sync::watch,
};
use tokio_util::io::ReaderStream;

use super::{Admin, forbidden, unavailable};
use crate::{
    mounts::Mounted,
    store::{
        StoreError, known,
        snapshot::{About, LONGEST, Request, Scope, Snapshot, SnapshotError},
    },
};

/// Ids and a site.
const LARGEST_BODY: usize = 4 * 1024;
/// What is read before the answer begins.
const FIRST: usize = 64 * 1024;

/// What snapshots need.
#[derive(Clone)]
pub struct Snapshots {
    /// The mounted keyring, its recipients among it.
    pub keyring: watch::Receiver<Mounted<Keyring>>,
    /// The retention after an order's first shipment.
    pub delete_after_shipment: SignedDuration,
    /// How long backups are kept; `None`: there are none.
    pub retention: Option<SignedDuration>,
    /// As a backup names it.
    pub connection: About,
}

/// Why there is none.
enum Refusal {
    /// Something has to change first: its reason and what.
    Conflict(&'static str, String),
    /// It may be tried again.
    Unavailable(String),
}

impl From<SnapshotError> for Refusal {
    fn from(error: SnapshotError) -> Self {
        let message = error.to_string();
        match error {
            SnapshotError::Running => Self::Conflict("SnapshotRunning", message),
            SnapshotError::Keyring { .. } => Self::Conflict("KeyringUnusable", message),
            SnapshotError::NoHold => Self::Conflict("HoldUnknown", message),
            _ => Self::Unavailable(message),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Conflict(reason, message) => {
                let refusal = Failure { reason: reason.to_owned(), message };
                (StatusCode::CONFLICT, Json(refusal)).into_response()
            }
            Self::Unavailable(message) => unavailable(&message),
        }
    }
}

pub(super) fn route() -> MethodRouter<Admin> {
    post(take).layer(DefaultBodyLimit::max(LARGEST_BODY))
}

async fn take(
    State(admin): State<Admin>,
    Extension(role): Extension<Role>,
    body: Result<Json<SnapshotRequest>, JsonRejection>,
) -> Response {
    if !matches!(role, Role::Backup | Role::Operator) {
        return forbidden();
    }
    let Some(Json(asked)) = body.ok().filter(|Json(asked)| is_id(&asked.backup)) else {
        let why = "the body isn't {\"backup\": \"20261129T003250Z-5f0c1a2b\", \"site\": \"onSite\" or \"offSite\"}, with \"hold\" for an archive\n";
        return (StatusCode::BAD_REQUEST, why).into_response();
    };
    match begin(&admin, asked).await {
        Ok((first, rest)) => {
            let body = Body::from_stream(ReaderStream::new(Cursor::new(first).chain(rest)));
            ([(CONTENT_TYPE, CONTAINER)], body).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// An id gets into the audit log, and must be one.
fn is_id(text: &str) -> bool {
    let shape = |(index, byte): (usize, u8)| match index {
        8 => byte == b'T',
        15 => byte == b'Z',
        16 => byte == b'-',
        17.. => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        _ => byte.is_ascii_digit(),
    };
    text.len() == 25 && text.bytes().enumerate().all(shape)
}

/// The first bytes, and the others. What fails before there are any is refused.
async fn begin(admin: &Admin, asked: SnapshotRequest) -> Result<(Vec<u8>, DuplexStream), Refusal> {
    let now = admin.clock.now();
    let (scope, recipient) = match &asked.hold {
        None => recipient(admin, now).await?,
        Some(hold) => of_hold(admin, hold, now)?,
    };
    let mounted = admin.keyring.borrow().clone();
    let signer = mounted.map_err(unusable)?.signer.clone();
    let signer = signer.ok_or_else(|| unusable("it has no key for the audit log yet"))?;
    let Snapshots { keyring, connection, .. } = admin.snapshots.clone();
    let SnapshotRequest { backup, site, .. } = asked;
    let clock = admin.clock.clone();
    let request =
        Request { backup, site, connection, scope, recipient, keyring, signer, clock, longest: LONGEST };
    let Snapshot { mut bytes, outcome } = admin.store.snapshot(request).await?;
    let mut first = Vec::with_capacity(FIRST);
    // The other end is a thread of ours: reading from it can't fail.
    let read = bytes.read_buf(&mut first).await.unwrap_or(0);
    if read == 0 {
        outcome.await.unwrap_or(Err(SnapshotError::Ended))?;
    }
    Ok((first, bytes))
}

/// What a snapshot of now is encrypted to: its identity dies before anything in it may be kept no longer.
async fn recipient(admin: &Admin, now: Timestamp) -> Result<(Scope, Recipient), Refusal> {
    let Snapshots { keyring, delete_after_shipment, retention, .. } = &admin.snapshots;
    let retention = retention.ok_or_else(|| {
        let message =
            "the relay's configuration has no retention for backups: the connection has no spec.backup";
        Refusal::Conflict("BackupNotConfigured", message.to_owned())
    })?;
    let known_until = admin.store.read(move |connection| known::until(connection, now)).await?;
    let add = |at: Timestamp, time| at.checked_add(time).unwrap_or(Timestamp::MAX);
    let expiry = add(now, retention).min(add(known_until, *delete_after_shipment));
    let keyring = keyring.borrow().clone().map_err(unusable)?;
    let found = keyring.recipient_for(expiry, now);
    let found = found.map(|(key, recipient)| (Scope::Everything(key), recipient.clone()));
    found.ok_or_else(|| {
        let message = format!(
            "the keyring has no recipient for a backup that must be gone at {expiry}: either the operator hasn't made it yet, or \
             the marketplace has told nothing for so long that nothing could be kept"
        );
        Refusal::Conflict("NoBackupKey", message)
    })
}

/// What an archive is encrypted to: its identity follows from the hold's key, and dies with it.
fn of_hold(admin: &Admin, hold: &str, now: Timestamp) -> Result<(Scope, Recipient), Refusal> {
    let keyring = admin.snapshots.keyring.borrow().clone().map_err(unusable)?;
    let id: HoldId = hold.parse().map_err(|_| SnapshotError::NoHold)?;
    let found = keyring.archive_recipient(id).filter(|(key, _)| !key.destroy_at().is_due(now));
    let (key, recipient) = found.ok_or(SnapshotError::NoHold)?;
    Ok((Scope::Hold(key.clone(), id), recipient))
}

fn unusable(reason: impl Into<String>) -> Refusal {
    SnapshotError::Keyring { reason: reason.into() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_the_shape_of_an_id_gets_into_the_audit_log() {
        assert!(is_id("20261129T003250Z-5f0c1a2b"));
        for text in [
            "",
            "20261129T003250Z-5F0C1A2B",
            "20261129T003250Z-5f0c1a2",
            "Zoë",
            "../../20261129T0032-5f0c1a2",
        ] {
            assert!(!is_id(text), "{text}");
        }
    }
}
