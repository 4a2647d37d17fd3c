//! What follows when all rows are there: digests, and what of them has ended since the backup.

use std::sync::Arc;

use jiff::Timestamp;
use marketrelay_keyring::{Digest, HoldId, Keyring};
use marketrelay_snapshot::Manifest;
use rusqlite::{Connection, params};
use snafu::ensure;
use tokio_util::sync::CancellationToken;

use super::{ImportError, Imported, Keys, Result, Since, StoppedSnafu, sealed::end};
use crate::{
    audit::{self, Action, Actor, Deed, Tally},
    store::{Prepared, erase, journal, outbox, read_order, reduce, revision},
};

/// Orders that are read at once.
const BATCH: usize = 500;
/// As the records of what follows from a restore name it.
pub(super) const RESTORED: &str = "Restored";

/// Brings the database up to `now`; the record of the restore is the next of its audit log.
pub(super) fn settle(
    connection: &Connection,
    manifest: Manifest,
    keys: Keys<'_>,
    since: Since<'_>,
    now: Timestamp,
    stop: &CancellationToken,
) -> Result<Imported> {
    let transaction = connection.unchecked_transaction()?;
    let restored = Deed::new(Action::Restored, Actor::Operator, manifest.backup.as_str());
    audit::append(connection, &restored, now)?;
    let tally = Tally::begin(connection)?;
    let anonymised = orders(connection, keys, stop)?;
    tally.record(connection, RESTORED, now)?;
    give_up_erased(connection, now)?;
    end_holds(connection, keys.keyring, now)?;
    connection.execute(
        "UPDATE relay SET sealing_generation = ?1, snapshots = max(snapshots, ?2)",
        params![keys.keyring.volume_generation(), since.snapshots],
    )?;
    revision::skip(connection, now)?;
    let marks = "UPDATE holds SET kept_at = max(kept_at + 1, ?1), selected_at = max(kept_at + 1, ?1)";
    connection.execute(marks, [now.as_millisecond()])?;
    let erased = erase_again(connection, since, keys.keyring, now)?;
    let count =
        |table: &str| connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
    let (orders, held) = (count("orders")?, count("held_orders")?);
    transaction.commit()?;
    Ok(Imported { manifest, orders, anonymised, erased, held })
}

/// Opens every order, and takes its digests; reduces those whose key is dead, and says how many.
fn orders(connection: &Connection, keys: Keys<'_>, stop: &CancellationToken) -> Result<u64> {
    let (mut after, mut reduced) = (i64::MIN, 0);
    loop {
        ensure!(!stop.is_cancelled(), StoppedSnafu);
        let mut statement = connection.prepare_cached(
            "SELECT id, length(pii_key) = 0 FROM orders WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let rows = statement.query_map(params![after, BATCH], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let rows = rows.collect::<rusqlite::Result<Vec<(i64, bool)>>>()?;
        for (id, is_dead) in &rows {
            if *is_dead {
                reduce::stored(connection, *id)?;
                reduced += 1;
            } else {
                write_digests(connection, *id, keys)?;
            }
        }
        match rows.last() {
            Some((last, _)) => after = *last,
            None => return Ok(reduced),
        }
    }
}

fn write_digests(connection: &Connection, id: i64, keys: Keys<'_>) -> Result<()> {
    let (_, order) = read_order::read(connection, id, keys.keyring)?;
    let order = order.map_err(|error| ImportError::Unreadable { reason: error.to_string() })?;
    let prepared = Prepared::new(order, keys.digest);
    connection
        .prepare_cached(
            "UPDATE orders SET number_digest = ?2, buyer_digest = ?3, content_digest = ?4 WHERE id = ?1",
        )?
        .execute(params![
            id,
            prepared.number_digest.as_bytes(),
            prepared.buyer_digest.as_ref().map(Digest::as_bytes),
            prepared.content_digest.as_bytes()
        ])?;
    if !prepared.other_buyer_digests.is_empty() {
        erase::write_people(connection, id, &prepared.other_buyer_digests)?;
    }
    Ok(())
}

/// What was erased after the backup; says how many orders.
fn erase_again(connection: &Connection, since: Since<'_>, keyring: &Keyring, now: Timestamp) -> Result<u64> {
    let mut erased = journal::replay(connection, since.journal, keyring, now)?;
    if erased > 0 {
        let deed = Deed::new(Action::OrdersErased, Actor::Relay, RESTORED).of(erased);
        audit::append(connection, &deed, now)?;
    }
    let keyring = Arc::new(keyring.clone());
    for past in since.requests {
        let (uid, subject, keyring) = (past.uid.clone(), past.subject.clone(), keyring.clone());
        let request = erase::Request { uid, subject, keyring, limits: since.limits, now };
        erased += erase::repeat(connection, &request)?;
    }
    Ok(erased)
}

/// The destination can't be told any more of erased orders whose key is dead.
fn give_up_erased(connection: &Connection, now: Timestamp) -> Result<()> {
    let keyless = "SELECT id FROM erased_orders WHERE length(pii_key) = 0";
    let ended = connection.execute(&format!("DELETE FROM outbox WHERE erased_id IN ({keyless})"), [])?;
    connection.execute(&format!("DELETE FROM erased_orders WHERE id IN ({keyless})"), [])?;
    if ended > 0 {
        outbox::dissolve_message(connection)?;
        connection.execute("UPDATE relay SET given_up = given_up + ?1", [ended])?;
        let deed = Deed::new(Action::EventsGivenUp, Actor::Relay, "ErasedOrder").of(ended as u64);
        audit::append(connection, &deed, now)?;
    }
    Ok(())
}

/// Forgets holds that have ended; the others end when their keys of now do.
fn end_holds(connection: &Connection, keyring: &Keyring, now: Timestamp) -> Result<()> {
    let mut statement = connection.prepare("SELECT id, key_id FROM holds")?;
    let holds = statement.query_map([], |row| Ok((row.get(0)?, HoldId::from(row.get::<_, [u8; 32]>(1)?))))?;
    for (row, hold) in holds.collect::<rusqlite::Result<Vec<(i64, HoldId)>>>()? {
        match end(keyring, hold, now) {
            Some(end) => connection
                .execute("UPDATE holds SET until = ?2 WHERE id = ?1", params![row, end.as_second()])?,
            None => connection.execute("DELETE FROM holds WHERE id = ?1", [row])?,
        };
    }
    Ok(())
}
