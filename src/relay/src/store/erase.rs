//! Erasing on request: orders lose their personal data, stay away when they are collected again, and the destination is
//! told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::{SubjectDigest, relay::ErasureAnswer};
use marketrelay_keyring::{DestroyAt, Digest, Keyring, Limits, OpenError, RecordKind, RecordRef, Sealed};
use marketrelay_marketplace::Order;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use snafu::{ResultExt, ensure};

use super::{
    LogInUseSnafu, Result, SealSnafu, Store, UnreadableSnafu, generation, hold, journal, outbox, read_order,
    reduce, revision,
};
use crate::audit::{self, Action, Actor, Deed, Tally};

/// A request's answer is kept this long at least.
const REPEATED: SignedDuration = SignedDuration::from_hours(24 * 30);

/// A request, with what it needs.
pub struct Request {
    /// The same answer to the same one.
    pub uid: String,
    /// Whom or what to erase.
    pub subject: Vec<SubjectDigest>,
    /// To seal what the destination is told.
    pub keyring: Arc<Keyring>,
    /// The retention in effect.
    pub limits: Limits,
    /// Now.
    pub now: Timestamp,
}

impl Store {
    /// Erases in one transaction, and makes sure that the write-ahead log holds nothing of it any more.
    pub async fn erase(&self, request: Request) -> Result<ErasureAnswer> {
        let room = self.room.clone();
        self.writer
            .run(move |connection| {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let answer = erase(&transaction, &request)?;
                transaction.commit()?;
                // Waiting for the end of a snapshot would keep everybody else from writing.
                ensure!(!room.is_taken(), LogInUseSnafu);
                empty_log(connection)?;
                Ok(answer)
            })
            .await
    }
}

/// How many orders have the subject in them.
pub fn known(connection: &Connection, subject: &[SubjectDigest]) -> Result<u64> {
    find(connection, subject).map(|orders| orders.len() as u64)
}

/// Pages as they were before are in the log until it is emptied; in the database they are overwritten.
fn empty_log(connection: &Connection) -> Result<()> {
    let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    ensure!(!busy, LogInUseSnafu);
    Ok(())
}

fn erase(connection: &Connection, request: &Request) -> Result<ErasureAnswer> {
    match answered(connection, &request.uid)? {
        Some(answer) => Ok(answer),
        None => erase_now(connection, request),
    }
}

/// Does a completed request once more, in a database that may be older than it; says how many orders it erased. One that
/// the database has answered was done in it.
pub(super) fn repeat(connection: &Connection, request: &Request) -> Result<u64> {
    match answered(connection, &request.uid)? {
        Some(_) => Ok(0),
        None => erase_now(connection, request).map(|answer| answer.erased),
    }
}

fn erase_now(connection: &Connection, request: &Request) -> Result<ErasureAnswer> {
    generation::check(connection, &request.keyring)?;
    let orders = find(connection, &request.subject)?;
    let tally = Tally::begin(connection)?;
    let held = held(connection, &request.subject, &orders)?;
    let mut sealed_until = held.values().copied().max();
    let mut matched: BTreeSet<_> = held.keys().copied().collect();
    for id in &orders {
        let row = erase_order(connection, *id, request)?;
        matched.insert(row.number_digest);
        sealed_until = sealed_until.max(Some(row.destroy_at.as_second()));
    }
    let answer = ErasureAnswer {
        matched: matched.len() as u64,
        erased: orders.len() as u64,
        held: held.len() as u64,
        sealed_until: sealed_until.and_then(|at| Timestamp::from_second(at).ok()),
    };
    note(connection, request, &answer)?;
    let deed = Deed::new(Action::OrdersErased, Actor::Operator, request.uid.as_str()).of(answer.erased);
    audit::append(connection, &deed, request.now)?;
    tally.record_given_up(connection, &request.uid, request.now)?;
    Ok(answer)
}

fn answered(connection: &Connection, uid: &str) -> Result<Option<ErasureAnswer>> {
    let mut statement = connection
        .prepare_cached("SELECT matched, erased, sealed_until, held FROM erasures WHERE uid = ?1")?;
    let answer = statement.query_row([uid], |row| {
        let until: Option<i64> = row.get(2)?;
        Ok(ErasureAnswer {
            matched: row.get(0)?,
            erased: row.get(1)?,
            held: row.get(3)?,
            sealed_until: until.and_then(|at| Timestamp::from_second(at).ok()),
        })
    });
    Ok(answer.optional()?)
}

fn note(connection: &Connection, request: &Request, answer: &ErasureAnswer) -> Result<()> {
    let forget_at = (request.now + REPEATED).max(answer.sealed_until.unwrap_or(Timestamp::MIN));
    connection.execute(
        "INSERT INTO erasures (uid, matched, erased, held, sealed_until, forget_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            request.uid,
            answer.matched,
            answer.erased,
            answer.held,
            answer.sealed_until.map(Timestamp::as_second),
            forget_at.as_millisecond()
        ],
    )?;
    Ok(())
}

/// The orders with the subject in them.
fn find(connection: &Connection, subject: &[SubjectDigest]) -> Result<BTreeSet<i64>> {
    let mut by_number = connection.prepare_cached("SELECT id FROM orders WHERE number_digest = ?1")?;
    let mut by_buyer = connection.prepare_cached(
        "SELECT id FROM orders WHERE buyer_digest = ?1
         UNION SELECT order_id FROM other_buyer_digests WHERE digest = ?1",
    )?;
    let mut found = BTreeSet::new();
    for digest in subject {
        let (statement, bytes) = match digest {
            SubjectDigest::Order(bytes) => (&mut by_number, bytes),
            SubjectDigest::Buyer(bytes) => (&mut by_buyer, bytes),
        };
        for id in statement.query_map([bytes], |row| row.get(0))? {
            found.insert(id?);
        }
    }
    Ok(found)
}

/// Orders with the subject in them that holds keep, by their number, and until when.
fn held(
    connection: &Connection,
    subject: &[SubjectDigest],
    orders: &BTreeSet<i64>,
) -> Result<BTreeMap<[u8; 32], i64>> {
    let mut asked = subject.to_vec();
    for id in orders {
        asked.push(SubjectDigest::Order(row(connection, *id)?.number_digest));
    }
    let mut held = BTreeMap::new();
    for kept in hold::find(connection, &asked)? {
        let until = held.entry(kept.number_digest).or_insert(kept.until);
        *until = kept.until.max(*until);
    }
    Ok(held)
}

pub(super) struct Row {
    number_digest: [u8; 32],
    revision: u64,
    placed_at: i64,
    destroy_at: DestroyAt,
}

/// Takes an order away, keeps it away, and puts the event for the destination into the outbox. What holds keep of it
/// stays.
fn erase_order(connection: &Connection, id: i64, request: &Request) -> Result<Row> {
    let row = again(connection, id, &request.keyring, request.now)?;
    let until = journal::natural_end(row.placed_at, request.limits);
    journal::keep_away(connection, &row.number_digest, until)?;
    Ok(row)
}

/// Takes an order away, and tells the destination.
pub(super) fn again(connection: &Connection, id: i64, keyring: &Keyring, now: Timestamp) -> Result<Row> {
    let row = row(connection, id)?;
    let number = number(connection, id, keyring, now)?;
    take_away(connection, id)?;
    match number {
        Some(order) => tell(connection, &row, &order.pii.expose().number, keyring, now)?,
        None => {
            connection.execute("UPDATE relay SET given_up = given_up + 1", [])?;
        }
    }
    Ok(row)
}

/// Reduces the order to what identifies nobody; its waiting event isn't given up but replaced.
fn take_away(connection: &Connection, id: i64) -> Result<()> {
    outbox::supersede(connection, id)?;
    connection.prepare_cached("DELETE FROM outbox WHERE order_id = ?1")?.execute([id])?;
    reduce::stored(connection, id)
}

fn row(connection: &Connection, id: i64) -> Result<Row> {
    let mut statement = connection.prepare_cached(
        "SELECT number_digest, revision, placed_at, destroy_at
         FROM orders WHERE id = ?1",
    )?;
    let row = statement.query_row([id], |row| {
        Ok(Row {
            number_digest: row.get(0)?,
            revision: row.get(1)?,
            placed_at: row.get(2)?,
            destroy_at: DestroyAt::from_second(row.get(3)?),
        })
    })?;
    Ok(row)
}

/// The order with its number, to tell the destination of it; nothing once its key has died on time.
fn number(connection: &Connection, id: i64, keyring: &Keyring, now: Timestamp) -> Result<Option<Order>> {
    match read_order::read(connection, id, keyring)?.1 {
        Ok(order) => Ok(Some(order)),
        Err(OpenError::KeyGone { name }) if name.is_due(now) => Ok(None),
        Err(error) => UnreadableSnafu { reason: error.to_string() }.fail(),
    }
}

fn tell(connection: &Connection, row: &Row, number: &str, keyring: &Keyring, now: Timestamp) -> Result<()> {
    let revision = revision::after(connection, row.revision)?;
    let record = RecordRef { kind: RecordKind::ErasedOrder, revision, destroy_at: row.destroy_at };
    let Sealed { body, wrapped_key, volume_generation } =
        keyring.seal(record, number.as_bytes()).context(SealSnafu)?;
    connection.execute(
        "INSERT INTO erased_orders (number_digest, revision, destroy_at, pii, pii_key, volume_generation)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            row.number_digest,
            revision,
            row.destroy_at.as_second(),
            body,
            wrapped_key,
            volume_generation
        ],
    )?;
    outbox::put_erased(connection, connection.last_insert_rowid(), revision, now)
}

/// Who else is in an order, in place of who was.
pub(super) fn write_people(connection: &Connection, order: i64, others: &[Digest]) -> Result<()> {
    connection.prepare_cached("DELETE FROM other_buyer_digests WHERE order_id = ?1")?.execute([order])?;
    let mut statement =
        connection.prepare_cached("INSERT INTO other_buyer_digests (order_id, digest) VALUES (?1, ?2)")?;
    for digest in others {
        statement.execute(params![order, digest.as_bytes()])?;
    }
    Ok(())
}

/// Forgets what has ended: entries of the journal, answers, and events whose key is dead. Says how many events.
pub fn forget_ended(connection: &Connection, now: Timestamp) -> Result<usize> {
    let millisecond = now.as_millisecond();
    connection.prepare_cached("DELETE FROM erasure_journal WHERE until <= ?1")?.execute([millisecond])?;
    connection.prepare_cached("DELETE FROM erasures WHERE forget_at <= ?1")?.execute([millisecond])?;
    let untold = "SELECT id FROM erased_orders WHERE destroy_at <= ?1";
    let ended = connection
        .prepare_cached(&format!("DELETE FROM outbox WHERE erased_id IN ({untold})"))?
        .execute([now.as_second()])?;
    if ended > 0 {
        outbox::dissolve_message(connection)?;
        connection.execute("UPDATE relay SET given_up = given_up + ?1", [ended])?;
        let deed = Deed::new(Action::EventsGivenUp, Actor::Relay, "ErasedOrder").of(ended as u64);
        audit::append(connection, &deed, now)?;
    }
    Ok(ended)
}
