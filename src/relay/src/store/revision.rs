//! The revisions of orders, which the destination knows them by.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::Result;

/// More than an order has between its backup and the loss of what was not backed up.
const GAP: u64 = 1_000;

/// The revision after `current`, or the first one after 0.
pub(super) fn after(connection: &Connection, current: u64) -> Result<u64> {
    let mut statement = connection.prepare_cached("SELECT max(?1 + 1, revision_floor) FROM relay")?;
    Ok(statement.query_row([current], |row| row.get(0))?)
}

/// Of a database that was restored: the destination may know later revisions than it does, and must take none of the
/// next ones for one of them. An earlier restore, which the backup may know nothing of, began at the second of its own
/// time: no order changes so often that it is at this one's.
pub(super) fn skip(connection: &Connection, now: Timestamp) -> Result<()> {
    connection.execute(
        "UPDATE relay SET revision_floor = max(?2, ?1 + max(revision_floor,
             (SELECT coalesce(max(revision), 0) FROM orders), (SELECT coalesce(max(revision), 0) FROM erased_orders)))",
        params![GAP, now.as_second()],
    )?;
    Ok(())
}

/// The same of what holds keep: the next revision of such an order is above the one that is kept.
pub(super) fn skip_held(connection: &Connection) -> Result<()> {
    connection.execute(
        "UPDATE relay SET revision_floor = max(revision_floor,
             ?1 + (SELECT coalesce(max(revision), 0) FROM held_orders))",
        [GAP],
    )?;
    Ok(())
}
