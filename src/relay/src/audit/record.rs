//! Appending, and what the log's end and figures are.

use jiff::Timestamp;
use marketrelay_audit::{Fields, Hash, Position, Statement, link};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Action, Actor, Deed};
use crate::store::Result;

/// Mints the chain of a new database.
pub fn begin(connection: &Connection) -> Result<()> {
    let chain = uuid::Uuid::new_v4().to_string();
    connection.execute("INSERT OR IGNORE INTO audit_chain (id, chain) VALUES (1, ?1)", [chain])?;
    Ok(())
}

/// The chain's id and its last record.
pub fn head(connection: &Connection) -> Result<(String, Position)> {
    let last: Option<(u64, Hash)> = connection
        .prepare_cached("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let mut chain = connection.prepare_cached("SELECT chain, checkpoint FROM audit_chain")?;
    let (chain, checkpoint) =
        chain.query_row([], |row| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?)))?;
    let pruned = || serde_json::from_str::<Statement>(&checkpoint?).ok()?.position();
    let position = last.map(|(sequence, hash)| Position { sequence, hash }).or_else(pruned);
    Ok((chain, position.unwrap_or(Position::START)))
}

/// A record without its place in the chain.
pub(super) fn fields(at: i64, action: &str, actor: &str, object: &str, count: Option<u64>) -> Fields {
    let at = Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH).to_string();
    let texts = [("action", action), ("actor", actor), ("at", &at), ("object", object)];
    let mut fields: Fields = texts.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
    fields.extend(count.map(|count| ("count".to_owned(), count.into())));
    fields
}

/// Appends a record. It lasts if and only if the transaction does.
pub fn append(connection: &Connection, deed: &Deed, now: Timestamp) -> Result<()> {
    let (chain, last) = head(connection)?;
    let Deed { action, actor, object, count } = deed;
    let at = now.as_millisecond();
    let mut record = fields(at, action.as_str(), actor.as_str(), object, *count);
    let Position { sequence, hash } = link(&mut record, &chain, last);
    connection
        .prepare_cached(
            "INSERT INTO audit (sequence, at, action, actor, object, count, previous, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![sequence, at, action.as_str(), actor.as_str(), object, count, last.hash, hash])?;
    Ok(())
}

/// Records the configuration, unless it is the one that was recorded last.
pub fn configured(connection: &Connection, digest: &str, now: Timestamp) -> Result<()> {
    let last: Option<String> = connection
        .query_row(
            "SELECT object FROM audit WHERE action = ?1 ORDER BY sequence DESC LIMIT 1",
            [Action::ConfigurationTaken.as_str()],
            |row| row.get(0),
        )
        .optional()?;
    if last.as_deref() != Some(digest) {
        append(connection, &Deed::new(Action::ConfigurationTaken, Actor::Operator, digest), now)?;
    }
    Ok(())
}

/// Records how many orders were dropped past their deadline since that was recorded last.
pub fn dropped(connection: &Connection, now: Timestamp) -> Result<()> {
    let dropped: u64 =
        connection
            .query_row("SELECT dropped_past_deadline - dropped_recorded FROM relay", [], |row| row.get(0))?;
    if dropped > 0 {
        append(connection, &Deed::new(Action::OrdersDropped, Actor::Relay, "PastDeadline").of(dropped), now)?;
        connection.execute("UPDATE relay SET dropped_recorded = dropped_past_deadline", [])?;
    }
    Ok(())
}

/// Records of one action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Which.
    pub action: String,
    /// How many records there were.
    pub records: u64,
    /// How many orders, events, keys or records they were about; one where there is nothing to count.
    pub deeds: u64,
}

/// Counts by action since the database was made.
pub fn counts(connection: &Connection) -> Result<Vec<Count>> {
    let mut statement = connection.prepare_cached("SELECT action, records, deeds FROM audit_counts")?;
    let counts = statement
        .query_map([], |row| Ok(Count { action: row.get(0)?, records: row.get(1)?, deeds: row.get(2)? }))?;
    Ok(counts.collect::<Result<_, _>>()?)
}

/// What a transaction does to orders, by the counters that it moves.
pub struct Tally {
    anonymised: u64,
    given_up: u64,
}

impl Tally {
    /// Before it.
    pub fn begin(connection: &Connection) -> Result<Self> {
        let mut statement = connection.prepare_cached("SELECT anonymised, given_up FROM relay")?;
        Ok(statement.query_row([], |row| Ok(Self { anonymised: row.get(0)?, given_up: row.get(1)? }))?)
    }

    /// Records what became of orders and of their events because of `object`.
    pub fn record(self, connection: &Connection, object: &str, now: Timestamp) -> Result<()> {
        let anonymised = Self::begin(connection)?.anonymised - self.anonymised;
        if anonymised > 0 {
            let deed = Deed::new(Action::OrdersAnonymised, Actor::Relay, object).of(anonymised);
            append(connection, &deed, now)?;
        }
        self.record_given_up(connection, object, now)
    }

    /// Records what became of events only.
    pub fn record_given_up(self, connection: &Connection, object: &str, now: Timestamp) -> Result<()> {
        let given_up = Self::begin(connection)?.given_up - self.given_up;
        if given_up > 0 {
            append(connection, &Deed::new(Action::EventsGivenUp, Actor::Relay, object).of(given_up), now)?;
        }
        Ok(())
    }
}
