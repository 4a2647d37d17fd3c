//! The database's rows as a backup has them.

use std::io::Write;

use jiff::Timestamp;
use marketrelay_keyring::{DestroyAt, HeldRef, HoldId, Keyring, OpenError, RecordKind, RecordRef};
use marketrelay_snapshot::{Value, Writer};
use rusqlite::{Connection, Row, types::ValueRef};
use snafu::ResultExt;
use tokio::sync::watch;

use super::{
    FrameSnafu, KeyringSnafu, SnapshotError,
    tables::{TABLES, Table},
};
use crate::{clock::Clock, mounts::Mounted, store::generation};

type Result<T> = std::result::Result<T, SnapshotError>;

/// Whose rows they are.
pub(super) struct Rows<'a> {
    pub(super) connection: &'a Connection,
    /// Looked at for each row: keys whose time has come meanwhile aren't used any more.
    pub(super) keyring: &'a watch::Receiver<Mounted<Keyring>>,
    pub(super) clock: &'a Clock,
    /// The row of the hold whose archive it is; `None`: a backup.
    pub(super) hold: Option<i64>,
}

impl Rows<'_> {
    /// Every table, or what the hold has.
    pub(super) fn write<W: Write>(&self, writer: &mut Writer<W>) -> Result<()> {
        for table in TABLES.iter().filter(|table| self.hold.is_none() || table.of_hold.is_some()) {
            writer.table(table.name, table.columns).context(FrameSnafu)?;
            self.table(table, writer)?;
        }
        Ok(())
    }

    fn table<W: Write>(&self, table: &Table, writer: &mut Writer<W>) -> Result<()> {
        let (name, columns) = (table.name, table.columns.join(", "));
        let more = table.envelopes.map_or(String::new(), |envelopes| {
            let (key, due) = (envelopes.key(), envelopes.due());
            format!(", {key} AS sealed_under, {due} AS due_at, volume_generation")
        });
        let which = self.hold.zip(table.of_hold);
        let some = which.map_or(String::new(), |(hold, column)| format!(" WHERE {column} = {hold}"));
        let mut statement = self.connection.prepare(&format!("SELECT {columns}{more} FROM {name}{some}"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let wrap = table.envelopes.map(|envelopes| self.wrap(envelopes, row)).transpose()?;
            let values = table.columns.iter().enumerate().map(|(index, column)| match (&wrap, *column) {
                (Some(None), "pii" | "pii_key") => Ok(Value::Null),
                (Some(Some(wrap)), "pii_key") => Ok(Value::Blob(wrap)),
                _ => value(row.get_ref(index)?),
            });
            writer.row(&values.collect::<Result<Vec<_>>>()?).context(FrameSnafu)?;
        }
        Ok(())
    }

    /// The record's key for the backup; nothing once it is due, or its hold has ended.
    fn wrap(&self, envelopes: generation::Table, row: &Row<'_>) -> Result<Option<Vec<u8>>> {
        let due = DestroyAt::from_second(row.get("due_at")?);
        if due.is_due(self.clock.now()) {
            return Ok(None);
        }
        let keyring = self.keyring.borrow().clone();
        let keyring = keyring.or_else(|reason| KeyringSnafu { reason }.fail())?;
        match wrap(envelopes, row, &keyring)? {
            Ok(wrap) => Ok(Some(wrap)),
            // An archive without what it is made for would be none.
            Err(OpenError::HoldKeyGone) if self.hold.is_none() => Ok(None),
            // Its time came just now.
            Err(OpenError::KeyGone { name }) if name.is_due(self.clock.now()) => Ok(None),
            Err(error) => KeyringSnafu { reason: format!("a stored order can't be opened: {error}") }.fail(),
        }
    }
}

fn wrap(
    envelopes: generation::Table,
    row: &Row<'_>,
    keyring: &Keyring,
) -> rusqlite::Result<std::result::Result<Vec<u8>, OpenError>> {
    let (key, generation): (Vec<u8>, u32) = (row.get("pii_key")?, row.get("volume_generation")?);
    let revision = row.get("revision")?;
    let kind = match envelopes {
        generation::Table::Orders => RecordKind::Order,
        generation::Table::ErasedOrders => RecordKind::ErasedOrder,
        generation::Table::HeldOrders => {
            let hold = HoldId::from(row.get::<_, [u8; 32]>("sealed_under")?);
            return Ok(keyring.wrap_held_for_backup(HeldRef { hold, revision }, &key, generation));
        }
    };
    let destroy_at = DestroyAt::from_second(row.get("sealed_under")?);
    Ok(keyring.wrap_for_backup(RecordRef { kind, revision, destroy_at }, &key, generation))
}

fn value(of: ValueRef<'_>) -> Result<Value<'_>> {
    Ok(match of {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(_) => Value::Text(of.as_str().map_err(rusqlite::Error::from)?),
        ValueRef::Blob(bytes) => Value::Blob(bytes),
    })
}

/// The names of the epoch keys that something is sealed under at `now`.
pub(super) fn keys(connection: &Connection, now: Timestamp) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT destroy_at FROM orders WHERE destroy_at > ?1
         UNION SELECT destroy_at FROM erased_orders WHERE destroy_at > ?1 ORDER BY 1",
    )?;
    let keys = statement.query_map([now.as_second()], |row| row.get(0))?;
    keys.map(|second| second.map(|second| DestroyAt::from_second(second).to_string())).collect()
}
