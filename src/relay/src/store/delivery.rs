//! How the destination takes messages: what survives a restart.

use jiff::{SignedDuration, Timestamp};
use marketrelay_keyring::Digest;
use rusqlite::{Connection, params};

use super::{
    Result,
    outbox::{Message, dissolve_message},
};
use crate::audit::{self, Action, Actor, Deed};

/// The row of the table `delivery`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// The message that is being sent.
    pub message: Option<(String, Timestamp)>,
    /// Attempts in a row that failed.
    pub failures: u32,
    /// No attempt before.
    pub next_attempt_at: Timestamp,
    /// Events in a row that were refused by themselves.
    pub refusals: u32,
    /// Events per message while the destination refuses larger ones.
    pub max_events: Option<u32>,
    /// The destination that all this is about, digested.
    pub target: Option<Digest>,
    /// It answered 410 Gone.
    pub disabled: bool,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx.
    Delivered,
    /// Nothing was taken; try the same message again after this time.
    Failed {
        /// From now.
        after: SignedDuration,
    },
    /// The destination doesn't take this message's content: smaller ones, or this one event later.
    Refused {
        /// From now, if it was a single event.
        after: SignedDuration,
        /// Nothing is sent for this long, as too many events were refused.
        pause: Option<SignedDuration>,
    },
    /// 410: nothing more, until the destination changes.
    Gone,
}

/// Reads the row.
pub fn read(connection: &Connection) -> Result<DeliveryRow> {
    let row = connection.query_row(
        "SELECT message_id, message_at, failures, next_attempt_at, refusals, max_events, target, disabled
         FROM delivery",
        [],
        |row| {
            let (id, at): (Option<String>, Option<i64>) = (row.get(0)?, row.get(1)?);
            Ok(DeliveryRow {
                message: id.zip(at).map(|(id, at)| (id, time(at))),
                failures: row.get(2)?,
                next_attempt_at: time(row.get(3)?),
                refusals: row.get(4)?,
                max_events: row.get(5)?,
                target: row.get::<_, Option<[u8; 32]>>(6)?.map(Digest::from),
                disabled: row.get(7)?,
            })
        },
    )?;
    Ok(row)
}

fn time(millisecond: i64) -> Timestamp {
    Timestamp::from_millisecond(millisecond).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The destination changed: it gets everything that waits, at once.
pub fn reset(connection: &Connection, target: Digest, now: Timestamp) -> Result<()> {
    let action =
        if read(connection)?.disabled { Action::DestinationEnabled } else { Action::DestinationChanged };
    audit::append(connection, &Deed::new(action, Actor::Operator, "destination"), now)?;
    connection.execute(
        "UPDATE delivery SET failures = 0, next_attempt_at = 0, refusals = 0, max_events = NULL, disabled = 0,
         target = ?1",
        [target.as_bytes()],
    )?;
    connection
        .execute("UPDATE outbox SET refusals = 0, next_attempt_at = 0 WHERE next_attempt_at > 0", [])?;
    Ok(())
}

/// Records what came of sending `message`; `most` is the configured number of events per message.
pub fn record(
    connection: &Connection,
    message: &Message,
    outcome: &Outcome,
    most: u32,
    now: Timestamp,
) -> Result<()> {
    match outcome {
        Outcome::Delivered => delivered(connection, message, most),
        Outcome::Failed { after } => failed(connection, later(now, *after)),
        Outcome::Refused { after, pause } => {
            refused(connection, message, later(now, *after), pause.map(|pause| later(now, pause)))
        }
        Outcome::Gone => {
            connection.execute("UPDATE delivery SET disabled = 1", [])?;
            let deed = Deed::new(Action::DestinationDisabled, Actor::Destination, "destination");
            audit::append(connection, &deed, now)
        }
    }
}

fn later(now: Timestamp, after: SignedDuration) -> i64 {
    now.checked_add(after).unwrap_or(Timestamp::MAX).as_millisecond()
}

fn delivered(connection: &Connection, message: &Message, most: u32) -> Result<()> {
    let mut statement =
        connection.prepare_cached("DELETE FROM outbox WHERE sequence = ?1 AND revision = ?2")?;
    for (sequence, revision) in &message.events {
        statement.execute(params![sequence, revision])?;
    }
    dissolve_message(connection)?;
    connection.execute(
        "UPDATE delivery SET failures = 0, next_attempt_at = 0, refusals = 0,
         max_events = CASE WHEN max_events * 2 < ?1 THEN max_events * 2 END",
        [most],
    )?;
    Ok(())
}

fn failed(connection: &Connection, next: i64) -> Result<()> {
    connection.execute("UPDATE delivery SET failures = failures + 1, next_attempt_at = ?1", [next])?;
    Ok(())
}

/// Halves the next messages; an event that is refused alone waits by itself, and the others go on.
fn refused(connection: &Connection, message: &Message, next: i64, pause: Option<i64>) -> Result<()> {
    dissolve_message(connection)?;
    if let [(sequence, revision)] = message.events[..] {
        connection.execute(
            "UPDATE outbox SET refusals = refusals + 1, next_attempt_at = ?3 WHERE sequence = ?1 AND revision = ?2",
            params![sequence, revision, next],
        )?;
        connection.execute(
            "UPDATE delivery SET refusals = refusals + 1, next_attempt_at = coalesce(?1, next_attempt_at)",
            [pause],
        )?;
    } else {
        let half = (message.events.len() / 2).max(1);
        connection.execute("UPDATE delivery SET max_events = ?1", [half])?;
    }
    Ok(())
}

/// How often the event was refused by itself.
pub fn refusals(connection: &Connection, sequence: i64) -> Result<u32> {
    let mut statement =
        connection.prepare_cached("SELECT coalesce(max(refusals), 0) FROM outbox WHERE sequence = ?1")?;
    Ok(statement.query_row([sequence], |row| row.get(0))?)
}

/// How many events wait because they were refused.
pub fn waiting_refused(connection: &Connection) -> Result<u64> {
    let mut statement = connection.prepare_cached("SELECT count(*) FROM outbox WHERE next_attempt_at > 0")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// When the next event that waits by itself is due; `None` if none waits.
pub fn next_due(connection: &Connection) -> Result<Option<Timestamp>> {
    let at: Option<i64> =
        connection.query_row("SELECT min(next_attempt_at) FROM outbox", [], |row| row.get(0))?;
    Ok(at.map(time))
}
