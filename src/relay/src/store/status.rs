//! What the database holds, in numbers.

use jiff::{SignedDuration, Timestamp};
use marketrelay_api::relay::HoldUse;
use marketrelay_keyring::HoldId;
use rusqlite::Connection;

use super::Result;

/// Counts for the status and the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Orders that are kept, with PII or without.
    pub orders: u64,
    /// Of them, with PII.
    pub with_pii: u64,
    /// Of them, reduced to what identifies nobody.
    pub anonymised: u64,
    /// Orders whose key's time came more than a minute ago and that aren't reduced yet.
    pub overdue: u64,
    /// Events that wait.
    pub backlog: u64,
    /// When the oldest of them was recorded.
    pub oldest_event: Option<Timestamp>,
    /// When the oldest order with PII was placed.
    pub oldest_pii: Option<Timestamp>,
    /// The next deadline of an order with PII.
    pub next_deadline: Option<Timestamp>,
    /// Up to when the marketplace has told all shipments.
    pub known_until: Option<Timestamp>,
    /// Orders that arrived past their deadline.
    pub dropped_past_deadline: u64,
    /// Events whose order could not be opened any more.
    pub given_up: u64,
    /// Events that wait and whose order's key has little time left.
    pub deliveries_at_risk: u64,
    /// The oldest volume key that anything in the database's files needs, once that was made sure.
    pub oldest_generation: Option<u32>,
    /// The holds whose end hasn't come.
    pub holds: Vec<HoldUse>,
}

/// Reducing what is due takes a moment.
const GRACE_SECONDS: i64 = 60;

fn time(at: Option<i64>) -> Option<Timestamp> {
    at.and_then(|at| Timestamp::from_millisecond(at).ok())
}

/// Counts at `now`; events are at risk when their order's key dies within `at_risk`.
pub fn counts(connection: &Connection, now: Timestamp, at_risk: SignedDuration) -> Result<Counts> {
    let counts = connection.query_row(
        "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM outbox), (SELECT min(recorded_at) FROM outbox),
                (SELECT min(placed_at) FROM orders), (SELECT min(destroy_at) FROM orders), known_until,
                dropped_past_deadline, given_up, anonymised, oldest_generation,
                (SELECT count(*) FROM orders WHERE destroy_at <= ?1),
                (SELECT count(*) FROM orders WHERE destroy_at <= ?2
                     AND EXISTS (SELECT 1 FROM outbox WHERE order_id = orders.id))
         FROM relay",
        [now.as_second() - GRACE_SECONDS, now.as_second() + at_risk.as_secs()],
        |row| {
            let (with_pii, anonymised): (u64, u64) = (row.get(0)?, row.get(8)?);
            Ok(Counts {
                orders: with_pii + anonymised,
                with_pii,
                anonymised,
                overdue: row.get(10)?,
                backlog: row.get(1)?,
                oldest_event: time(row.get(2)?),
                oldest_pii: time(row.get(3)?),
                next_deadline: row.get::<_, Option<i64>>(4)?.and_then(|at| Timestamp::from_second(at).ok()),
                known_until: time(row.get(5)?),
                dropped_past_deadline: row.get(6)?,
                given_up: row.get(7)?,
                deliveries_at_risk: row.get(11)?,
                oldest_generation: row.get(9)?,
                holds: Vec::new(),
            })
        },
    )?;
    Ok(Counts { holds: holds(connection, now)?, ..counts })
}

fn holds(connection: &Connection, now: Timestamp) -> Result<Vec<HoldUse>> {
    let mut statement = connection.prepare_cached(
        "SELECT name, until, complete, (SELECT count(*) FROM held_orders WHERE hold_id = holds.id), key_id, kept_at,
                selected_at
         FROM holds WHERE until > ?1 ORDER BY name, until",
    )?;
    let rows = statement.query_map([now.as_second()], |row| {
        Ok(HoldUse {
            name: row.get(0)?,
            until: Timestamp::from_second(row.get(1)?).unwrap_or(Timestamp::MAX),
            complete: row.get(2)?,
            orders: row.get(3)?,
            id: HoldId::from(row.get::<_, [u8; 32]>(4)?).to_string(),
            revision: row.get(5)?,
            selected_revision: row.get(6)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
