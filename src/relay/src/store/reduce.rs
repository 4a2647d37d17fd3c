//! Anonymising: an order becomes its remainder, and everything that could name it goes in the same transaction.

use jiff::Timestamp;
use marketrelay_keyring::DestroyAt;
use marketrelay_marketplace::{OrderLine, OrderStatus};
use rusqlite::{Connection, Row, params};

use super::{
    Result, outbox, read_order,
    remainder::{Remainder, Source},
};
use crate::audit::Tally;

/// Reduces orders whose key's time has come at `now`, at most `most`; says how many.
pub fn due(connection: &Connection, now: Timestamp, most: usize) -> Result<usize> {
    let mut statement = connection.prepare_cached(
        "SELECT destroy_at, id FROM orders WHERE destroy_at <= ?1 ORDER BY destroy_at LIMIT ?2",
    )?;
    let due = statement.query_map(params![now.as_second(), most], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let due = due.collect::<Result<Vec<(i64, i64)>, _>>()?;
    for of_one_key in due.chunk_by(|(one, _), (other, _)| one == other) {
        let tally = Tally::begin(connection)?;
        for (_, id) in of_one_key {
            stored(connection, *id)?;
        }
        let key = of_one_key.first().map(|(second, _)| DestroyAt::from_second(*second).to_string());
        tally.record(connection, &key.unwrap_or_default(), now)?;
    }
    Ok(due.len())
}

/// When the next key's time comes that an order is sealed under, the number of an erased one, or what a hold keeps.
pub fn next(connection: &Connection) -> Result<Option<Timestamp>> {
    let second: Option<i64> = connection.query_row(
        "SELECT min(next) FROM (SELECT min(destroy_at) AS next FROM orders
                                UNION ALL SELECT min(destroy_at) FROM erased_orders
                                UNION ALL SELECT min(until) FROM holds)",
        [],
        |row| row.get(0),
    )?;
    Ok(second.and_then(|second| Timestamp::from_second(second).ok()))
}

/// Reduces a stored order to what identifies nobody. Its waiting event is given up; the message that it was in is
/// dissolved. An order that isn't there any more is none.
pub fn stored(connection: &Connection, id: i64) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT marketplace, status, country, placed_at, total_minor, total_currency, tax_minor, tax_currency
         FROM orders WHERE id = ?1",
    )?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else { return Ok(()) };
    replace(connection, id, &remainder(row, &read_order::lines(connection, id)?)?)
}

fn remainder(row: &Row<'_>, lines: &[OrderLine]) -> Result<Remainder> {
    let total = read_order::money(row, "total_minor", "total_currency")?;
    let tax = read_order::money(row, "tax_minor", "tax_currency")?;
    Ok(Remainder::of(&Source {
        marketplace: read_order::marketplace(row)?,
        country: row.get::<_, Option<String>>("country")?.as_deref(),
        placed_at: read_order::placed_at(row)?,
        // A word that this version doesn't know keeps nothing from its end.
        status: OrderStatus::parse(&row.get::<_, String>("status")?).unwrap_or(OrderStatus::Unknown),
        total: total.as_ref(),
        tax: tax.as_ref(),
        lines,
    }))
}

/// Puts `remainder` in the place of the order.
pub(super) fn replace(connection: &Connection, id: i64, remainder: &Remainder) -> Result<()> {
    remainder.write(connection)?;
    outbox::supersede(connection, id)?;
    let given_up = connection.prepare_cached("DELETE FROM outbox WHERE order_id = ?1")?.execute([id])?;
    connection.prepare_cached("DELETE FROM orders WHERE id = ?1")?.execute([id])?;
    connection
        .prepare_cached("UPDATE relay SET anonymised = anonymised + 1, given_up = given_up + ?1")?
        .execute([given_up])?;
    Ok(())
}
