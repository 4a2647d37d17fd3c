//! What the database holds, in numbers.

use jiff::Timestamp;
use rusqlite::Connection;

use super::Result;

/// Counts for the status and the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Orders.
    pub orders: u64,
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
}

/// Counts.
pub fn counts(connection: &Connection) -> Result<Counts> {
    let counts = connection.query_row(
        "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM outbox), (SELECT min(recorded_at) FROM outbox),
                (SELECT min(placed_at) FROM orders), (SELECT min(destroy_at) FROM orders), known_until,
                dropped_past_deadline, given_up
         FROM relay",
        [],
        |row| {
            let time = |at: Option<i64>| at.and_then(|at| Timestamp::from_millisecond(at).ok());
            Ok(Counts {
                orders: row.get(0)?,
                backlog: row.get(1)?,
                oldest_event: time(row.get(2)?),
                oldest_pii: time(row.get(3)?),
                next_deadline: row.get::<_, Option<i64>>(4)?.and_then(|at| Timestamp::from_second(at).ok()),
                known_until: time(row.get(5)?),
                dropped_past_deadline: row.get(6)?,
                given_up: row.get(7)?,
            })
        },
    )?;
    Ok(counts)
}
