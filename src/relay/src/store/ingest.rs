//! One page of the marketplace: orders, outbox and cursor in one transaction.

use jiff::Timestamp;
use marketrelay_keyring::{DestroyAt, Keyring, Limits, RecordKind, RecordRef, Sealed, deadline};
use marketrelay_marketplace::{Cursor, Money};
use rusqlite::{Connection, OptionalExtension, named_params, params};
use snafu::{ResultExt, ensure};

use super::{
    KeyringTooShortSnafu, Prepared, Result, SealSnafu, UnreadableSnafu, erase, generation, hold, journal,
    known, outbox,
    prepared::Columns,
    reduce,
    remainder::Remainder,
    reseal::{self, Terms},
    revision,
};
use crate::audit::Tally;

/// What one step of collecting brings.
pub struct Page {
    /// The orders.
    pub orders: Vec<Prepared>,
    /// Where the next step goes on.
    pub cursor: Cursor,
    /// Up to when the marketplace has told all shipments.
    pub known_until: Option<Timestamp>,
}

/// What became of a page's orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Seen for the first time.
    pub new: u64,
    /// Stored as a new revision.
    pub changed: u64,
    /// As they were, or older than what is stored.
    pub unchanged: u64,
    /// Past their deadline: not stored.
    pub dropped: u64,
    /// Erased on request: not stored.
    pub erased: u64,
}

struct Existing {
    id: i64,
    revision: u64,
    content_digest: [u8; 32],
    updated_at: i64,
    first_shipped_at: Option<i64>,
}

/// Stores a page. Nothing of it is stored if this fails; the cursor then stays where it was.
pub fn ingest(
    connection: &Connection,
    page: &Page,
    keyring: &Keyring,
    limits: Limits,
    now: Timestamp,
) -> Result<Ingested> {
    generation::check(connection, keyring)?;
    known::note(connection, page.known_until, now)?;
    let terms = Terms { keyring, limits, now };
    let (mut ingested, known_until) = (Ingested::default(), known::until(connection, now)?);
    let tally = Tally::begin(connection)?;
    for order in &page.orders {
        match store(connection, order, known_until, terms)? {
            Change::New => ingested.new += 1,
            Change::Changed => ingested.changed += 1,
            Change::None => ingested.unchanged += 1,
            Change::Dropped => ingested.dropped += 1,
            Change::Erased => ingested.erased += 1,
        }
    }
    tally.record(connection, "LateShipment", now)?;
    connection
        .prepare_cached("UPDATE relay SET cursor = ?1, dropped_past_deadline = dropped_past_deadline + ?2")?
        .execute(params![page.cursor.0.to_string(), ingested.dropped])?;
    Ok(ingested)
}

/// Whether the marketplace has told everything once.
pub fn has_collected(connection: &Connection) -> Result<bool> {
    let mut statement = connection.prepare_cached("SELECT known_until IS NOT NULL FROM relay")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// The cursor that was stored with the last page.
pub fn cursor(connection: &Connection) -> Result<Option<Cursor>> {
    let text: Option<String> = connection.query_row("SELECT cursor FROM relay", [], |row| row.get(0))?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).map(Cursor))
}

enum Change {
    New,
    Changed,
    None,
    Dropped,
    Erased,
}

fn store(
    connection: &Connection,
    order: &Prepared,
    known_until: Timestamp,
    terms: Terms<'_>,
) -> Result<Change> {
    let Terms { keyring, limits, now } = terms;
    let existing = existing(connection, order)?;
    let first_shipped_at = [
        order.columns.first_shipped_at.map(Timestamp::as_millisecond),
        existing.as_ref().and_then(|row| row.first_shipped_at),
    ]
    .into_iter()
    .flatten()
    .min();
    let shipped = first_shipped_at.and_then(|at| Timestamp::from_millisecond(at).ok());
    let deadline = deadline(order.columns.placed_at, shipped, known_until, limits);
    if journal::is_erased(connection, order, limits)? {
        return Ok(Change::Erased);
    }
    ensure!(deadline <= now || keyring.reaches(deadline), KeyringTooShortSnafu);
    let Some(destroy_at) = keyring.name_for(deadline, now) else {
        // A later deadline has a key, unless the keyring is still the one of a coarser epoch.
        ensure!(deadline.duration_since(now) < limits.key_epoch, KeyringTooShortSnafu);
        // The shipment may have been learned late: what is stored goes at once.
        existing.map_or(Ok(()), |row| reduce(connection, &row, order))?;
        return Ok(Change::Dropped);
    };
    let revision = match &existing {
        Some(row) if row.content_digest == *order.content_digest.as_bytes() => return Ok(Change::None),
        Some(row) if row.updated_at > order.columns.updated_at.as_millisecond() => {
            if first_shipped_at == row.first_shipped_at {
                return Ok(Change::None);
            }
            // An older state is none, but the first shipment that it tells counts.
            let sealed = reseal::again(connection, row.id, first_shipped_at, deadline, destroy_at, keyring)?;
            let revision = sealed.map_err(|error| UnreadableSnafu { reason: error.to_string() }.build())?;
            outbox::supersede(connection, row.id)?;
            outbox::put(connection, row.id, revision, now)?;
            keep_held(connection, row.id, terms)?;
            return Ok(Change::Changed);
        }
        Some(row) => revision::after(connection, row.revision)?,
        None => revision::after(connection, 0)?,
    };
    let record = RecordRef { kind: RecordKind::Order, revision, destroy_at };
    let sealed = keyring.seal(record, &order.pii).context(SealSnafu)?;
    let row = Row { order, revision, first_shipped_at, deadline, destroy_at, sealed };
    write(connection, &row)?;
    let id = match &existing {
        Some(row) => {
            connection.prepare_cached("DELETE FROM order_lines WHERE order_id = ?1")?.execute([row.id])?;
            outbox::supersede(connection, row.id)?;
            row.id
        }
        None => connection.last_insert_rowid(),
    };
    write_lines(connection, id, &order.columns)?;
    erase::write_people(connection, id, &order.other_buyer_digests)?;
    outbox::put(connection, id, revision, now)?;
    keep_held(connection, id, terms)?;
    Ok(if existing.is_some() { Change::Changed } else { Change::New })
}

/// The order was sealed just now, so it can be opened.
fn keep_held(connection: &Connection, id: i64, Terms { keyring, now, .. }: Terms<'_>) -> Result<()> {
    let kept = hold::keep_order(connection, id, keyring, now)?;
    kept.map(drop).map_err(|error| UnreadableSnafu { reason: error.to_string() }.build())
}

/// Reduces a stored order to what is left of its newest state.
fn reduce(connection: &Connection, stored: &Existing, order: &Prepared) -> Result<()> {
    if stored.updated_at > order.columns.updated_at.as_millisecond() {
        return reduce::stored(connection, stored.id);
    }
    reduce::replace(connection, stored.id, &Remainder::of(&order.columns.source()))
}

fn existing(connection: &Connection, order: &Prepared) -> Result<Option<Existing>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, revision, content_digest, updated_at, first_shipped_at FROM orders WHERE number_digest = ?1",
    )?;
    let row = statement.query_row([order.number_digest.as_bytes()], |row| {
        Ok(Existing {
            id: row.get(0)?,
            revision: row.get(1)?,
            content_digest: row.get(2)?,
            updated_at: row.get(3)?,
            first_shipped_at: row.get(4)?,
        })
    });
    Ok(row.optional()?)
}

struct Row<'a> {
    order: &'a Prepared,
    revision: u64,
    first_shipped_at: Option<i64>,
    deadline: Timestamp,
    destroy_at: DestroyAt,
    sealed: Sealed,
}

fn write(connection: &Connection, row: &Row<'_>) -> Result<()> {
    let (order, columns) = (row.order, &row.order.columns);
    let mut statement = connection.prepare_cached(include_str!("upsert_order.sql"))?;
    statement.execute(named_params! {
        ":number_digest": order.number_digest.as_bytes(),
        ":buyer_digest": order.buyer_digest.as_ref().map(marketrelay_keyring::Digest::as_bytes),
        ":content_digest": order.content_digest.as_bytes(),
        ":revision": row.revision,
        ":marketplace": columns.marketplace.as_str(),
        ":status": columns.status.as_str(),
        ":marketplace_status": columns.marketplace_status,
        ":fulfilment": columns.fulfilment.as_str(),
        ":sales_channel": columns.sales_channel,
        ":country": columns.country,
        ":placed_at": columns.placed_at.as_millisecond(),
        ":updated_at": columns.updated_at.as_millisecond(),
        ":first_shipped_at": row.first_shipped_at,
        ":total_minor": minor(columns.total.as_ref()),
        ":total_currency": currency(columns.total.as_ref()),
        ":tax_minor": minor(columns.tax.as_ref()),
        ":tax_currency": currency(columns.tax.as_ref()),
        ":deadline": row.deadline.as_millisecond(),
        ":destroy_at": row.destroy_at.as_second(),
        ":pii": row.sealed.body,
        ":pii_key": row.sealed.wrapped_key,
        ":volume_generation": row.sealed.volume_generation,
    })?;
    Ok(())
}

fn write_lines(connection: &Connection, order: i64, columns: &Columns) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO order_lines VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    for (position, line) in columns.lines.iter().enumerate() {
        statement.execute(params![
            order,
            position,
            line.sku,
            line.title,
            line.product_id,
            line.quantity,
            line.quantity_shipped,
            line.quantity_cancelled,
            minor(line.unit_price.as_ref()),
            currency(line.unit_price.as_ref()),
            minor(line.total.as_ref()),
            currency(line.total.as_ref()),
            minor(line.tax.as_ref()),
            currency(line.tax.as_ref()),
        ])?;
    }
    Ok(())
}

fn minor(money: Option<&Money>) -> Option<i64> {
    money.map(|money| money.minor)
}

fn currency(money: Option<&Money>) -> Option<&str> {
    money.map(|money| money.currency.as_str())
}
