//! Up to when the marketplace has told all shipments.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::Result;

/// What is known at `now`: until the first listing was read to its end, the time of the first page. A clock that ran
/// ahead once makes nothing known that hasn't happened.
pub fn until(connection: &Connection, now: Timestamp) -> Result<Timestamp> {
    let sql = "SELECT coalesce(known_until, begun_at) FROM relay";
    let known: Option<i64> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    let known = known.and_then(|at| Timestamp::from_millisecond(at).ok());
    Ok(known.map_or(now, |known| known.min(now)))
}

/// Notes what a page says, and when the first one came. What is known grows only.
pub(super) fn note(connection: &Connection, said: Option<Timestamp>, now: Timestamp) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE relay SET begun_at = coalesce(begun_at, ?2),
             known_until = max(coalesce(known_until, ?1), coalesce(?1, known_until))",
        )?
        .execute(params![said.map(Timestamp::as_millisecond), now.as_millisecond()])?;
    Ok(())
}
