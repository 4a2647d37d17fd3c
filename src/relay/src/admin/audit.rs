//! `GET /v1/audit?after=SEQUENCE`.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use marketrelay_audit::Signer;
use marketrelay_mtls::Role;
use serde::Deserialize;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_util::io::ReaderStream;

use super::{Admin, forbidden, unavailable};
use crate::{
    audit::{self, Action, Actor, Deed, export::Export},
    store::{Result, Store},
};

/// Bytes that wait for who reads.
const BUFFER: usize = 64 * 1024;

#[derive(Deserialize)]
pub(super) struct Range {
    #[serde(default)]
    after: u64,
}

/// The records after `after` as JSON lines, ending with the signed head. That they are read is a record too.
pub(super) async fn export(
    State(admin): State<Admin>,
    Extension(role): Extension<Role>,
    Query(Range { after }): Query<Range>,
) -> Response {
    if role != Role::Operator {
        return forbidden();
    }
    let signer = match admin.keyring.borrow().clone() {
        Ok(mounted) => mounted.signer.clone(),
        Err(reason) => return unavailable(&reason),
    };
    let Some(signer) = signer else {
        return unavailable(&"the keyring has no key for the audit log yet");
    };
    match begin(&admin, signer, after).await {
        Ok(Some(export)) => {
            let (writer, reader) = tokio::io::duplex(BUFFER);
            tokio::spawn(write(admin.store, export, writer));
            let body = Body::from_stream(ReaderStream::new(reader));
            ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
        }
        Ok(None) => (StatusCode::BAD_REQUEST, "there is no such record\n").into_response(),
        Err(error) => unavailable(&error),
    }
}

async fn begin(admin: &Admin, signer: Arc<Signer>, after: u64) -> Result<Option<Export>> {
    let now = admin.clock.now();
    let read = Deed::new(Action::AuditExported, Actor::Operator, format!("after {after}"));
    let begin = move |connection: &_| {
        audit::append(connection, &read, now)?;
        audit::export::begin(connection, &signer, after, now)
    };
    admin.store.write(begin).await
}

/// What ends without its signed head is incomplete.
async fn write(store: Store, mut export: Export, mut to: DuplexStream) {
    loop {
        let read = store.read(move |connection| Ok((export.next(connection)?, export))).await;
        let lines = match read {
            Ok((lines, rest)) => {
                export = rest;
                lines
            }
            Err(error) => {
                tracing::warn!(%error, "the audit log can't be read to its end");
                return;
            }
        };
        if lines.is_empty() || to.write_all(lines.as_bytes()).await.is_err() {
            return;
        }
    }
}
