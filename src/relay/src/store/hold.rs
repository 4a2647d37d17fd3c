//! Holds: a second envelope of an order, that lives as long as its hold's key, whatever becomes of the order.

use jiff::Timestamp;
use marketrelay_api::{SubjectDigest, relay::HeldSelection};
use marketrelay_keyring::{DestroyAt, HeldRef, HoldId, Keyring, OpenError, Sealed};
use rusqlite::{Connection, OptionalExtension, Row, params};
use snafu::ResultExt;
use zeroize::Zeroizing;

use super::{Result, SealSnafu, generation, read_order};
use crate::{
    audit::{self, Action, Actor, Deed},
    deliver::body,
};

/// Orders and holds that select them and don't have them in their newest revision. What a hold has, it goes on to
/// select.
const SELECTED: &str = include_str!("selected.sql");

/// Notes which holds there are, by the keyring, and what they select. One whose key is gone though its end hasn't come ends
/// now, if nobody asks for it any more or the keyring is later than the last that had its key.
pub fn settle(connection: &Connection, keyring: &Keyring, selections: &[HeldSelection]) -> Result<()> {
    generation::check(connection, keyring)?;
    for (key, id) in keyring.holds() {
        let selection = selections.iter().find(|selection| selection.name == key.name());
        let placed = selection.and_then(|selection| selection.placed);
        let row: i64 = connection
            .prepare_cached(
                "INSERT INTO holds (key_id, name, until, placed_from, placed_to, seen_generation, seen_last_epoch)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (key_id) DO UPDATE SET until = excluded.until, placed_from = excluded.placed_from,
                 placed_to = excluded.placed_to, seen_generation = excluded.seen_generation,
                 seen_last_epoch = excluded.seen_last_epoch RETURNING id",
            )?
            .query_row(
                params![
                    id.as_bytes(),
                    key.name(),
                    key.destroy_at().as_second(),
                    placed.map(|range| range.from.as_millisecond()),
                    placed.map(|range| range.to.as_millisecond()),
                    keyring.volume_generation(),
                    last_epoch(keyring),
                ],
                |row| row.get(0),
            )?;
        select(connection, row, selection.map_or(&[][..], |selection| &selection.digests))?;
    }
    end_lost(connection, keyring, selections)
}

fn select(connection: &Connection, hold: i64, digests: &[SubjectDigest]) -> Result<()> {
    connection.prepare_cached("DELETE FROM hold_digests WHERE hold_id = ?1")?.execute([hold])?;
    let mut statement =
        connection.prepare_cached("INSERT INTO hold_digests VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
    for SubjectDigest::Order(bytes) | SubjectDigest::Buyer(bytes) in digests {
        statement.execute(params![hold, bytes])?;
    }
    Ok(())
}

fn last_epoch(keyring: &Keyring) -> Option<i64> {
    keyring.last_epoch().map(DestroyAt::as_second)
}

/// A key that isn't mounted yet, or not any more on the way from one node to another, is waited for: until a mount shows that
/// it is later than the key's destruction.
fn end_lost(connection: &Connection, keyring: &Keyring, selections: &[HeldSelection]) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT id, key_id, name, ifnull(?1 > seen_generation OR ?2 > seen_last_epoch, FALSE) FROM holds",
    )?;
    let rows = statement.query_map(params![keyring.volume_generation(), last_epoch(keyring)], |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, [u8; 32]>(1)?,
            row.get::<_, String>(2)?,
            row.get::<_, bool>(3)?,
        ))
    })?;
    let mut end = connection.prepare_cached("UPDATE holds SET until = 0 WHERE id = ?1")?;
    for row in rows.collect::<Result<Vec<_>, _>>()? {
        let (row, id, name, is_later) = row;
        let has_key = keyring.holds().any(|(_, known)| known == HoldId::from(id));
        let replaced = keyring.holds().any(|(key, _)| key.name() == name);
        let wanted = selections.iter().any(|selection| selection.name == name);
        if !has_key && (is_later || replaced || !wanted) {
            end.execute([row])?;
        }
    }
    Ok(())
}

/// Forgets what ended holds kept, at most `most` orders; says how many rows went.
pub fn forget_ended(connection: &Connection, now: Timestamp, most: usize) -> Result<usize> {
    let orders = connection
        .prepare_cached(
            "DELETE FROM held_orders WHERE id IN (SELECT held_orders.id FROM held_orders
             JOIN holds ON holds.id = hold_id WHERE until <= ?1 LIMIT ?2)",
        )?
        .execute(params![now.as_second(), most])?;
    if orders > 0 {
        let deed = Deed::new(Action::HeldOrdersDestroyed, Actor::Relay, "holds").of(orders as u64);
        audit::append(connection, &deed, now)?;
    }
    if orders == most {
        return Ok(orders);
    }
    let holds =
        connection.prepare_cached("DELETE FROM holds WHERE until <= ?1")?.execute([now.as_second()])?;
    Ok(orders + holds)
}

/// Orders that a hold selects and doesn't keep yet in their newest revision.
pub fn missing(connection: &Connection) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(SELECTED)?;
    let rows = statement.query_map([], |row| row.get(0))?;
    let mut ids = rows.collect::<Result<Vec<i64>, _>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Keeps these orders for the holds that select them; says how many can't be opened. One that went meanwhile is left.
pub fn keep(connection: &Connection, orders: &[i64], keyring: &Keyring, now: Timestamp) -> Result<usize> {
    generation::check(connection, keyring)?;
    let (mut unreadable, mut held) = (0, 0);
    for order in orders {
        match keep_order(connection, *order, keyring, now)? {
            Ok(true) => held += 1,
            Ok(false) => {}
            Err(_) => unreadable += 1,
        }
    }
    if held > 0 {
        connection
            .prepare_cached("UPDATE holds SET selected_at = kept_at WHERE kept_at >= ?1")?
            .execute([now.as_millisecond()])?;
        audit::append(connection, &Deed::new(Action::OrdersHeld, Actor::Operator, "holds").of(held), now)?;
    }
    Ok(unreadable)
}

/// Seals the order, as it is now, for every hold that selects it and whose key there is. Says whether there is one.
pub(super) fn keep_order(
    connection: &Connection,
    order: i64,
    keyring: &Keyring,
    now: Timestamp,
) -> Result<Result<bool, OpenError>> {
    let holds = selecting(connection, order)?;
    let holds = holds.into_iter().filter(|(_, id)| keyring.holds().any(|(_, known)| known == *id));
    let holds: Vec<_> = holds.collect();
    if holds.is_empty() {
        return Ok(Ok(false));
    }
    let json = match read_order::read(connection, order, keyring)?.1 {
        Ok(order) => body::render_order(&order)?,
        Err(error) => return Ok(Err(error)),
    };
    let sql = "SELECT revision FROM orders WHERE id = ?1";
    let revision = connection.prepare_cached(sql)?.query_row([order], |row| row.get(0))?;
    for (hold, id) in holds {
        let sealed = keyring.seal_held(HeldRef { hold: id, revision }, &json).context(SealSnafu)?;
        write(connection, hold, order, revision, &sealed)?;
        connection
            .prepare_cached("UPDATE holds SET kept_at = max(kept_at + 1, ?2) WHERE id = ?1")?
            .execute(params![hold, now.as_millisecond()])?;
    }
    Ok(Ok(true))
}

fn selecting(connection: &Connection, order: i64) -> Result<Vec<(i64, HoldId)>> {
    let mut statement = connection.prepare_cached(&format!("{SELECTED} AND selected.order_id = ?1"))?;
    let rows =
        statement.query_map([order], |row| Ok((row.get(1)?, HoldId::from(row.get::<_, [u8; 32]>(2)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn write(connection: &Connection, hold: i64, order: i64, revision: u64, sealed: &Sealed) -> Result<()> {
    let row: i64 = connection
        .prepare_cached(
            "INSERT INTO held_orders (hold_id, number_digest, revision, pii, pii_key, volume_generation)
             SELECT ?1, number_digest, ?3, ?4, ?5, ?6 FROM orders WHERE id = ?2
             ON CONFLICT (hold_id, number_digest) DO UPDATE SET revision = excluded.revision, pii = excluded.pii,
             pii_key = excluded.pii_key, volume_generation = excluded.volume_generation RETURNING id",
        )?
        .query_row(
            params![hold, order, revision, sealed.body, sealed.wrapped_key, sealed.volume_generation],
            |row| row.get(0),
        )?;
    connection.prepare_cached("DELETE FROM held_people WHERE held_id = ?1")?.execute([row])?;
    connection
        .prepare_cached(
            "INSERT INTO held_people SELECT ?1, buyer_digest FROM orders WHERE id = ?2 AND buyer_digest IS NOT NULL
             UNION SELECT ?1, digest FROM other_buyer_digests WHERE order_id = ?2",
        )?
        .execute([row, order])?;
    Ok(())
}

/// Notes whether everything that was selected is kept.
pub fn confirm(connection: &Connection, keyring: &Keyring, complete: bool) -> Result<()> {
    let mut statement =
        connection.prepare_cached("UPDATE holds SET complete = ?2 WHERE key_id = ?1 AND complete <> ?2")?;
    for (_, id) in keyring.holds() {
        statement.execute(params![id.as_bytes(), complete])?;
    }
    Ok(())
}

/// Where an order is kept.
pub(super) struct Kept {
    /// Of its number.
    pub(super) number_digest: [u8; 32],
    /// When its hold ends, in whole seconds.
    pub(super) until: i64,
}

/// The kept orders with the subject in them.
pub(super) fn find(connection: &Connection, subject: &[SubjectDigest]) -> Result<Vec<Kept>> {
    let kept = "SELECT number_digest, until FROM held_orders JOIN holds ON holds.id = hold_id";
    let mut by_number = connection.prepare_cached(&format!("{kept} WHERE number_digest = ?1"))?;
    let mut by_person = connection.prepare_cached(&format!(
        "{kept} WHERE held_orders.id IN (SELECT held_id FROM held_people WHERE digest = ?1)"
    ))?;
    let mut found = Vec::new();
    for digest in subject {
        let (statement, bytes) = match digest {
            SubjectDigest::Order(bytes) => (&mut by_number, bytes),
            SubjectDigest::Buyer(bytes) => (&mut by_person, bytes),
        };
        let row = |row: &Row<'_>| Ok(Kept { number_digest: row.get(0)?, until: row.get(1)? });
        for kept in statement.query_map([bytes], row)? {
            found.push(kept?);
        }
    }
    Ok(found)
}

/// How many orders a hold of this name keeps that can be read with the keyring; `None`: there is no such hold.
pub fn count(connection: &Connection, keyring: &Keyring, name: &str) -> Result<Option<u64>> {
    let mut statement = connection.prepare_cached(
        "SELECT (SELECT count(*) FROM held_orders WHERE hold_id = holds.id) FROM holds WHERE key_id = ?1",
    )?;
    let mut found = None;
    for (_, id) in keyring.holds().filter(|(key, _)| key.name() == name) {
        let count: Option<u64> = statement.query_row([id.as_bytes()], |row| row.get(0)).optional()?;
        found = count.map(|count| count + found.unwrap_or(0)).or(found);
    }
    Ok(found)
}

/// A kept order as JSON, or why it can't be opened.
pub type Opened = Result<Zeroizing<Vec<u8>>, OpenError>;

/// Kept orders of the hold after the one with the id `after`, at most `most`.
pub fn page(
    connection: &Connection,
    keyring: &Keyring,
    name: &str,
    after: i64,
    most: usize,
) -> Result<Vec<(i64, Opened)>> {
    let mut statement = connection.prepare_cached(
        "SELECT held_orders.id, key_id, revision, pii, pii_key, volume_generation
         FROM held_orders JOIN holds ON holds.id = hold_id
         WHERE name = ?1 AND held_orders.id > ?2 ORDER BY held_orders.id LIMIT ?3",
    )?;
    let rows = statement.query_map(params![name, after, most], |row| {
        let record = HeldRef { hold: HoldId::from(row.get::<_, [u8; 32]>(1)?), revision: row.get(2)? };
        let sealed = Sealed { body: row.get(3)?, wrapped_key: row.get(4)?, volume_generation: row.get(5)? };
        Ok((row.get(0)?, keyring.open_held(record, &sealed)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
