//! Events that wait for the destination, and the message that is being sent.

use jiff::Timestamp;
use marketrelay_keyring::{ConnectionId, Digest, Keyring, OpenError, Pii};
use marketrelay_marketplace::Order;
use rusqlite::{Connection, params, params_from_iter};

use super::{Result, delivery::DeliveryRow, read_erased, read_order};

/// What an event tells.
pub enum Content {
    /// The order as it is now.
    Order(Box<Order>),
    /// The number of an order that was erased.
    Erased(Pii<String>),
}

/// An event with the order that it is about.
pub struct Event {
    /// Its place in the outbox.
    pub sequence: i64,
    /// Of the order.
    pub revision: u64,
    /// The keyed digest of the order's number.
    pub order_digest: Digest,
    /// What it tells, opened; or why it can't be.
    pub content: Result<Content, OpenError>,
}

impl Event {
    /// The event's id, the same at every attempt: of the connection, the order and the revision.
    pub fn id(&self, connection: &ConnectionId) -> String {
        event_id(connection, self.order_digest, self.revision)
    }
}

fn event_id(connection: &ConnectionId, order: Digest, revision: u64) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(connection.as_str().as_bytes());
    context.update(order.as_bytes());
    context.update(&revision.to_be_bytes());
    let hash = context.finish();
    let hex = hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}"));
    format!("evt_{}", hex.collect::<String>())
}

/// A message that was begun: the same id at every attempt, as long as its events stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The `webhook-id`.
    pub id: String,
    /// When it was put together.
    pub at: Timestamp,
    /// Sequence and revision of each event.
    pub events: Vec<(i64, u64)>,
}

/// Before a newer revision of the order: if an older one is in the message that is being sent, that message is given
/// up. What it holds isn't true any more, and its other events go with the next one.
pub(super) fn supersede(connection: &Connection, order: i64) -> Result<()> {
    let sending = connection
        .prepare_cached("SELECT 1 FROM outbox WHERE order_id = ?1 AND in_message = 1")?
        .exists([order])?;
    if sending { dissolve_message(connection) } else { Ok(()) }
}

/// Notes an order's newest revision.
pub(super) fn put(connection: &Connection, order: i64, revision: u64, now: Timestamp) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO outbox (order_id, revision, recorded_at) VALUES (?1, ?2, ?3) ON CONFLICT (order_id) DO \
             UPDATE SET revision = excluded.revision, refusals = 0, next_attempt_at = 0",
        )?
        .execute(params![order, revision, now.as_millisecond()])?;
    Ok(())
}

/// Notes that an order was erased.
pub(super) fn put_erased(connection: &Connection, erased: i64, revision: u64, now: Timestamp) -> Result<()> {
    connection
        .prepare_cached("INSERT INTO outbox (erased_id, revision, recorded_at) VALUES (?1, ?2, ?3)")?
        .execute(params![erased, revision, now.as_millisecond()])?;
    Ok(())
}

/// The message that was begun is none any more; its events go with the next one.
pub fn dissolve_message(connection: &Connection) -> Result<()> {
    connection.execute("UPDATE outbox SET in_message = 0 WHERE in_message = 1", [])?;
    connection.execute("UPDATE delivery SET message_id = NULL, message_at = NULL", [])?;
    Ok(())
}

/// The events of the message that was begun, or else those that are due, oldest first, at most `most`.
pub fn candidates(
    connection: &Connection,
    row: &DeliveryRow,
    keyring: &Keyring,
    most: u32,
    now: Timestamp,
) -> Result<Vec<Event>> {
    let begun = "WHERE in_message = 1 ORDER BY sequence";
    let due = "WHERE next_attempt_at <= ?1 ORDER BY sequence LIMIT ?2";
    let (which, parameters) = match row.message {
        Some(_) => (begun, vec![]),
        None => (due, vec![now.as_millisecond(), most.into()]),
    };
    let sql = format!("SELECT sequence, revision, order_id, erased_id FROM outbox {which}");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(parameters), |row| {
        Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<i64>>(2)?, row.get::<_, Option<i64>>(3)?))
    })?;
    rows.map(|row| {
        let (sequence, revision, order, erased) = row?;
        let (order_digest, content) = content(connection, order, erased, keyring)?;
        Ok(Event { sequence, revision, order_digest, content })
    })
    .collect()
}

/// The digest of the order's number, and what its event tells.
fn content(
    connection: &Connection,
    order: Option<i64>,
    erased: Option<i64>,
    keyring: &Keyring,
) -> Result<(Digest, Result<Content, OpenError>)> {
    if let Some(id) = erased {
        let (digest, number) = read_erased::read(connection, id, keyring)?;
        return Ok((digest, number.map(Content::Erased)));
    }
    let id = order.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let (digest, order) = read_order::read(connection, id, keyring)?;
    Ok((digest, order.map(|order| Content::Order(Box::new(order)))))
}

/// Begins a message of these events. False if one of them changed meanwhile.
pub fn begin(connection: &Connection, message: &Message) -> Result<bool> {
    let mut statement = connection
        .prepare_cached("UPDATE outbox SET in_message = 1 WHERE sequence = ?1 AND revision = ?2")?;
    for (sequence, revision) in &message.events {
        if statement.execute(params![sequence, revision])? == 0 {
            dissolve_message(connection)?;
            return Ok(false);
        }
    }
    connection.execute(
        "UPDATE delivery SET message_id = ?1, message_at = ?2",
        params![message.id, message.at.as_millisecond()],
    )?;
    Ok(true)
}

/// Takes events out whose orders can't be opened any more, and counts them.
pub fn give_up(connection: &Connection, sequences: &[i64]) -> Result<()> {
    dissolve_message(connection)?;
    let mut statement = connection.prepare_cached("DELETE FROM outbox WHERE sequence = ?1")?;
    let mut gone = 0;
    for sequence in sequences {
        gone += statement.execute([sequence])?;
    }
    connection.execute("UPDATE relay SET given_up = given_up + ?1", [gone])?;
    Ok(())
}
