//! A relay that gives the snapshot that a test wants.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};
use axum::{
    Extension, Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use futures::stream;
use jiff::{SignedDuration, Timestamp};
use marketrelay_api::backup::SnapshotRequest;
use marketrelay_audit::{Kind, Position, Signer, hex};
use marketrelay_mtls::Role;
use marketrelay_snapshot::{Data, FORMAT, Manifest, OfHold, SignedManifest, Table, end, pieces};
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::authority::Authority;

pub const CONNECTION: &str = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34";
const PIECE: usize = 256 << 10;
const SEED: [u8; 32] = [7; 32];

/// What the relay does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    /// A whole snapshot.
    Whole,
    /// It ends before its manifest, as if that were right.
    Short,
    /// The connection is cut in the middle.
    Cut,
    /// A bit of it isn't what the manifest was made of.
    BitFlip,
    /// The manifest is of another backup.
    OtherBackup,
    /// The manifest is of another connection.
    OtherConnection,
    /// 409 with this reason.
    Refuse(&'static str),
    /// Another status.
    Status(u16),
}

/// The relay.
#[derive(Clone)]
pub struct Relay {
    pub port: u16,
    /// A whole snapshot's bytes.
    bytes: usize,
    script: Arc<Mutex<VecDeque<Act>>>,
    asked: Arc<Mutex<Vec<SnapshotRequest>>>,
    holds: Arc<Mutex<BTreeMap<String, u64>>>,
    /// Permits for pieces of a snapshot.
    pub gate: Arc<Semaphore>,
    _stop: Arc<DropGuard>,
}

impl Relay {
    pub async fn start(authority: &Authority, bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stop = CancellationToken::new();
        let relay = Self {
            port: listener.local_addr().expect("an address").port(),
            bytes,
            script: Arc::default(),
            asked: Arc::default(),
            holds: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            _stop: Arc::new(stop.clone().drop_guard()),
        };
        let router = Router::new().route("/v1/snapshot", post(answer)).with_state(relay.clone());
        tokio::spawn(marketrelay_mtls::serve(listener, authority.server(), router, stop));
        relay
    }

    /// What it does next, one after the other; after the last a whole snapshot.
    pub fn will(&self, acts: &[Act]) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = acts.iter().copied().collect();
    }

    pub fn asked(&self) -> Vec<SnapshotRequest> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It keeps so many orders for this hold.
    pub fn keeps(&self, hold: &str, orders: u64) {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.insert(hold.to_owned(), orders);
    }

    /// From now on it gives so many pieces of 256 KiB and then waits.
    pub fn hold_after(&self, pieces: usize) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
        self.gate.add_permits(pieces);
    }

    pub fn go_on(&self) {
        self.gate.add_permits(Semaphore::MAX_PERMITS / 2);
    }
}

async fn answer(
    State(relay): State<Relay>,
    Extension(role): Extension<Role>,
    Json(request): Json<SnapshotRequest>,
) -> Response {
    assert_eq!(role, Role::Backup);
    relay.asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    let act = relay.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(Act::Whole);
    let is_known =
        |hold: &String| relay.holds.lock().unwrap_or_else(PoisonError::into_inner).contains_key(hold);
    let act = if request.hold.as_ref().is_none_or(is_known) { act } else { Act::Refuse("HoldUnknown") };
    match act {
        // An archive has a key of its own.
        Act::Refuse("NoBackupKey") if request.hold.is_some() => given(relay, request, Act::Whole),
        Act::Refuse(reason) => {
            let body = json!({"reason": reason, "message": format!("because of {reason}")});
            (StatusCode::CONFLICT, Json(body)).into_response()
        }
        Act::Status(status) => StatusCode::from_u16(status).expect("a status").into_response(),
        act => given(relay, request, act),
    }
}

fn given(relay: Relay, request: SnapshotRequest, act: Act) -> Response {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(snapshot(relay, request, act, sender));
    let next = |mut from: mpsc::Receiver<io::Result<Bytes>>| async { Some((from.recv().await?, from)) };
    Body::from_stream(stream::unfold(receiver, next)).into_response()
}

async fn snapshot(
    relay: Relay,
    request: SnapshotRequest,
    act: Act,
    to: mpsc::Sender<io::Result<Bytes>>,
) -> Option<()> {
    let (mut sha256, mut left, mut number) = (Context::new(&SHA256), relay.bytes, 0u8);
    while left > 0 {
        relay.gate.acquire().await.ok()?.forget();
        number = number.wrapping_add(1);
        let mut piece = vec![number; PIECE.min(left)];
        left -= piece.len();
        sha256.update(&piece);
        if act == Act::BitFlip && number == 2 {
            piece[17] ^= 4;
        }
        if act == Act::Cut && number == 2 {
            return to.send(Err(io::Error::other("cut"))).await.ok();
        }
        to.send(Ok(pieces(&piece).into())).await.ok()?;
    }
    if act == Act::Short {
        return None;
    }
    let data = Data { bytes: relay.bytes as u64, sha256: hex(sha256.finish().as_ref()) };
    let mut manifest = manifest(&request.backup, Timestamp::now(), data);
    if let Some(hold) = request.hold {
        let orders = relay.holds.lock().unwrap_or_else(PoisonError::into_inner)[&hold];
        manifest = archive_manifest(manifest, &hold, orders);
    }
    match act {
        Act::OtherBackup => "20200101T000000Z-00000000".clone_into(&mut manifest.backup),
        Act::OtherConnection => manifest.connection_id = CONNECTION.replace('3', "4"),
        _ => {}
    }
    to.send(Ok(end(&signed(&manifest)).into())).await.ok()
}

pub fn signer() -> Signer {
    Signer::new(&SEED).expect("a key")
}

pub fn signed(manifest: &Manifest) -> Vec<u8> {
    SignedManifest::sign(manifest, &signer()).and_then(|signed| signed.to_json()).expect("JSON")
}

/// As one of an archive, with so many orders; their number is the revision.
pub fn archive_manifest(manifest: Manifest, hold: &str, orders: u64) -> Manifest {
    let hold = Some(OfHold { id: hold.to_owned(), revision: orders });
    let table = Table { name: "held_orders".to_owned(), rows: orders, sha256: "00".repeat(32) };
    Manifest { hold, tables: vec![table], ..manifest }
}

/// A manifest as a relay makes them; it expires after 30 days.
pub fn manifest(backup: &str, created_at: Timestamp, data: Data) -> Manifest {
    let position = Position { sequence: 3, hash: [1; 32] };
    let table = |name: &str, rows| Table { name: name.to_owned(), rows, sha256: "00".repeat(32) };
    Manifest {
        format: FORMAT,
        backup: backup.to_owned(),
        connection_id: CONNECTION.to_owned(),
        namespace: "acme".to_owned(),
        name: "bol".to_owned(),
        marketplace: "bol".to_owned(),
        schema: 7,
        created_at,
        known_until: Some(created_at),
        expires_at: created_at + SignedDuration::from_hours(30 * 24),
        identity: "backup.20261229T000000Z".to_owned(),
        sequence: 4,
        keys: vec!["epoch.20261210T000000Z".to_owned()],
        tables: vec![table("anonymised_orders", 5), table("orders", 37)],
        data,
        audit: signer().sign(Kind::Head, "chain", position, created_at),
        hold: None,
    }
}
