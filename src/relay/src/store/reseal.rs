//! Orders whose deadline moved away from their key: sealed under another one, or reduced.

use jiff::Timestamp;
use marketrelay_keyring::{DestroyAt, Keyring, Limits, OpenError, RecordKind, RecordRef, deadline};
use rusqlite::{Connection, Row, params};
use snafu::ResultExt;

use super::{Result, SealSnafu, generation, known, read_order, reduce, revision};
use crate::{
    audit::{self, Action, Actor, Deed, Tally},
    privacy::{Step, step},
};

/// What deadlines and keys are judged by.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// The live keys.
    pub keyring: &'a Keyring,
    /// The retention in effect.
    pub limits: Limits,
    /// Now.
    pub now: Timestamp,
}

/// What became of orders whose key didn't fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Sealed under another key.
    pub resealed: usize,
    /// Reduced.
    pub reduced: usize,
    /// They can't be opened: a key is gone too early.
    pub unreadable: usize,
    /// The first deadline of an order that waits for its key to be mounted.
    pub waiting: Option<Timestamp>,
}

/// The dates that an order's key depends on.
struct Dates {
    placed: Timestamp,
    shipped: Option<Timestamp>,
    destroy_at: DestroyAt,
}

const DATES: &str = "SELECT id, placed_at, first_shipped_at, destroy_at FROM orders";

impl Dates {
    fn read(row: &Row<'_>) -> rusqlite::Result<(i64, Self)> {
        let time = |at| Timestamp::from_millisecond(at).unwrap_or(Timestamp::MIN);
        let dates = Self {
            placed: time(row.get(1)?),
            shipped: row.get::<_, Option<i64>>(2)?.map(time),
            destroy_at: DestroyAt::from_second(row.get(3)?),
        };
        Ok((row.get(0)?, dates))
    }

    fn step(&self, known_until: Timestamp, terms: Terms<'_>) -> (Timestamp, Step) {
        let deadline = deadline(self.placed, self.shipped, known_until, terms.limits);
        (deadline, step(self.destroy_at, deadline, terms.keyring, terms.limits.key_epoch, terms.now))
    }
}

/// The orders whose key doesn't fit their deadline. It reads an index alone.
pub fn misplaced(connection: &Connection, terms: Terms<'_>) -> Result<Vec<i64>> {
    let known_until = known::until(connection, terms.now)?;
    let mut statement = connection.prepare_cached(DATES)?;
    let mut rows = statement.query([])?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, dates) = Dates::read(row)?;
        if dates.step(known_until, terms).1 != Step::Keep {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Seals these orders under the keys of their deadlines, or reduces them. One that was moved or went meanwhile is left.
pub fn reseal(connection: &Connection, ids: &[i64], terms: Terms<'_>) -> Result<Moved> {
    generation::check(connection, terms.keyring)?;
    let known_until = known::until(connection, terms.now)?;
    let mut statement = connection.prepare_cached(&format!("{DATES} WHERE id = ?1"))?;
    let (mut moved, tally) = (Moved::default(), Tally::begin(connection)?);
    for id in ids {
        let Some((id, dates)) = statement.query_map([id], Dates::read)?.next().transpose()? else { continue };
        let (deadline, step) = dates.step(known_until, terms);
        match step {
            Step::Keep => {}
            Step::Reduce => {
                reduce::stored(connection, id)?;
                moved.reduced += 1;
            }
            Step::Reseal(name) => match again(connection, id, None, deadline, name, terms.keyring)? {
                Ok(_) => moved.resealed += 1,
                Err(_) => moved.unreadable += 1,
            },
            Step::Wait => moved.waiting = Some(moved.waiting.map_or(deadline, |first| first.min(deadline))),
        }
    }
    tally.record(connection, "DeadlineMoved", terms.now)?;
    if moved.resealed > 0 {
        let deed = Deed::new(Action::OrdersResealed, Actor::Relay, "DeadlineMoved");
        audit::append(connection, &deed.of(moved.resealed as u64), terms.now)?;
    }
    Ok(moved)
}

/// Seals what the order's envelope holds anew, under the key `destroy_at`; as the next revision if an earlier first
/// shipment became known. Says which revision it has.
pub(super) fn again(
    connection: &Connection,
    id: i64,
    shipped_earlier: Option<i64>,
    deadline: Timestamp,
    destroy_at: DestroyAt,
    keyring: &Keyring,
) -> Result<Result<u64, OpenError>> {
    let mut statement = connection.prepare_cached(
        "SELECT revision, destroy_at, pii, pii_key, volume_generation FROM orders WHERE id = ?1",
    )?;
    let mut rows = statement.query([id])?;
    let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let pii = match read_order::unseal(row, keyring)? {
        Ok(pii) => pii,
        Err(error) => return Ok(Err(error)),
    };
    let mut revision = row.get("revision")?;
    if shipped_earlier.is_some() {
        revision = revision::after(connection, revision)?;
    }
    let record = RecordRef { kind: RecordKind::Order, revision, destroy_at };
    let sealed = keyring.seal(record, &pii).context(SealSnafu)?;
    connection
        .prepare_cached(
            "UPDATE orders SET deadline = ?2, destroy_at = ?3, pii = ?4, pii_key = ?5, volume_generation = ?6,
             revision = ?7, first_shipped_at = coalesce(?8, first_shipped_at) WHERE id = ?1",
        )?
        .execute(params![
            id,
            deadline.as_millisecond(),
            destroy_at.as_second(),
            sealed.body,
            sealed.wrapped_key,
            sealed.volume_generation,
            revision,
            shipped_earlier
        ])?;
    Ok(Ok(revision))
}
