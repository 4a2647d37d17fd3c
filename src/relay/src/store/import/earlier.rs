//! A database that is there before an import.

use std::path::Path;

use marketrelay_audit::{Hash, Position};
use marketrelay_keyring::{ConnectionId, SecretKey};
use rusqlite::{Connection, OptionalExtension, params};
use snafu::ensure;

use crate::{
    audit::{self, Action},
    store::{
        LogInUseSnafu, Result,
        journal::{self, Erased},
        open,
    },
};

/// Makes one file of a database that gives way; gives the journal of what was erased in it. Nobody else may have it open.
pub fn leave(path: &Path, key: &SecretKey, id: &ConnectionId) -> Result<Vec<Erased>> {
    let connection = open::writer(path, key)?;
    open::check(&connection, id)?;
    let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    ensure!(!busy, LogInUseSnafu);
    let erased = journal::journal(&connection)?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(erased)
}

/// The import that a database was made by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The backup's id.
    pub backup: String,
    /// The audit log's id.
    pub chain: String,
    /// Its end in the backup.
    pub head: Position,
    /// Whether a relay has begun since.
    pub was_used: bool,
    /// Orders with personal data.
    pub orders: u64,
    /// Orders that the import anonymised.
    pub anonymised: u64,
    /// Orders that it erased again.
    pub erased: u64,
    /// Orders that holds keep.
    pub held: u64,
}

/// The last import that the database was made by; `None` if it grew by itself.
pub fn made(path: &Path, key: &SecretKey, id: &ConnectionId) -> Result<Option<Made>> {
    let connection = open::reader(path, key)?;
    open::check(&connection, id)?;
    let last =
        "SELECT sequence, previous, object FROM audit WHERE action = ?1 ORDER BY sequence DESC LIMIT 1";
    let last = connection.query_row(last, [Action::Restored.as_str()], |row| {
        Ok((row.get::<_, u64>(0)?, row.get::<_, Hash>(1)?, row.get(2)?))
    });
    let Some((sequence, hash, backup)) = last.optional()? else { return Ok(None) };
    let used: Option<u64> = connection.query_row(
        "SELECT min(sequence) FROM audit WHERE action = ?1 AND sequence > ?2",
        params![Action::RelayStarted.as_str(), sequence],
        |row| row.get(0),
    )?;
    let deeds = |action: Action| deeds(&connection, action, sequence, used);
    let rows =
        |table: &str| connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
    Ok(Some(Made {
        backup,
        chain: audit::head(&connection)?.0,
        head: Position { sequence: sequence - 1, hash },
        was_used: used.is_some(),
        orders: rows("orders")?,
        anonymised: deeds(Action::OrdersAnonymised)?,
        erased: deeds(Action::OrdersErased)?,
        held: rows("held_orders")?,
    }))
}

/// How many orders the records between these two are about.
fn deeds(connection: &Connection, action: Action, after: u64, before: Option<u64>) -> Result<u64> {
    let sum = "SELECT coalesce(sum(count), 0) FROM audit
               WHERE action = ?1 AND sequence > ?2 AND (?3 IS NULL OR sequence < ?3)";
    Ok(connection.query_row(sum, params![action.as_str(), after, before], |row| row.get(0))?)
}
