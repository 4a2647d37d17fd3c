//! The journal of erased orders: they stay away, whoever tells them again.

use jiff::Timestamp;
use marketrelay_keyring::{Digest, Keyring, Limits};
use rusqlite::{Connection, params};

use super::{Prepared, Result, erase};

/// An order that was erased: the keyed digest of its number, and until when it is kept away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Of its number.
    pub number: Digest,
    /// Its entry in the journal ends then.
    pub until: Timestamp,
}

/// The journal.
pub fn journal(connection: &Connection) -> Result<Vec<Erased>> {
    let mut statement = connection.prepare("SELECT number_digest, until FROM erasure_journal")?;
    let entries = statement.query_map([], |row| {
        let until = Timestamp::from_millisecond(row.get(1)?).unwrap_or(Timestamp::MAX);
        Ok(Erased { number: Digest::from(row.get::<_, [u8; 32]>(0)?), until })
    })?;
    Ok(entries.collect::<Result<_, _>>()?)
}

/// Erases once more, in a database that is older than the journal; says how many orders.
pub(super) fn replay(
    connection: &Connection,
    journal: &[Erased],
    keyring: &Keyring,
    now: Timestamp,
) -> Result<u64> {
    for entry in journal {
        keep_away(connection, entry.number.as_bytes(), entry.until.as_millisecond())?;
    }
    let mut statement =
        connection.prepare("SELECT id FROM orders JOIN erasure_journal USING (number_digest)")?;
    let known = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    for id in &known {
        erase::again(connection, *id, keyring, now)?;
    }
    Ok(known.len() as u64)
}

/// When the marketplace's telling the order again can't matter any more: at its age limit, which is never before its
/// deadline. Its deadline itself could move later yet, as more is known of shipments, or with a longer
/// `deleteAfterShipment`.
pub(super) fn natural_end(placed_at: i64, limits: Limits) -> i64 {
    placed_at.saturating_add(i64::try_from(limits.anonymize_after.as_millis()).unwrap_or(i64::MAX))
}

pub(super) fn keep_away(connection: &Connection, number_digest: &[u8; 32], until: i64) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO erasure_journal (number_digest, until) VALUES (?1, ?2)
             ON CONFLICT (number_digest) DO UPDATE SET until = max(until, excluded.until)",
        )?
        .execute(params![number_digest, until])?;
    Ok(())
}

/// Whether an order that the marketplace tells was erased. Its entry then lasts as long as what is told now says.
pub(super) fn is_erased(connection: &Connection, order: &Prepared, limits: Limits) -> Result<bool> {
    let digest = order.number_digest.as_bytes();
    let known = connection
        .prepare_cached("SELECT 1 FROM erasure_journal WHERE number_digest = ?1")?
        .exists([digest])?;
    if known {
        keep_away(connection, digest, natural_end(order.columns.placed_at.as_millisecond(), limits))?;
    }
    Ok(known)
}
