//! Rows go into their tables, as they come.

use std::io::Read;

use jiff::Timestamp;
use marketrelay_snapshot::{Item, Manifest, Reader, Value};
use rusqlite::{
    Connection, params_from_iter,
    types::{ToSqlOutput, ValueRef},
};
use snafu::{OptionExt, ResultExt};

use super::{
    DataSnafu, Keys, Result, RowSnafu, UnknownSnafu,
    sealed::{self, Sealing},
};
use crate::store::{
    open,
    snapshot::tables::{TABLES, Table},
};

/// Fills every table; the file is removed if it fails.
pub(super) fn fill<R: Read>(
    connection: &Connection,
    reader: &mut Reader<R>,
    manifest: &Manifest,
    keys: Keys<'_>,
    now: Timestamp,
) -> Result<()> {
    let sealing = Sealing { connection, keys, marketplace: &manifest.marketplace, now };
    let mut into = None;
    // What doesn't fit the cache is written before its end.
    let transaction = connection.unchecked_transaction()?;
    while let Some(item) = reader.next().context(DataSnafu)? {
        match item {
            Item::Table { name, columns } => into = Some(Filling::new(name, columns)?),
            Item::Row(values) => {
                let into: &Filling = into.as_ref().context(UnknownSnafu { what: "a row of no table" })?;
                into.row(&values, &sealing)?;
            }
            Item::TableEnd => {}
        }
    }
    open::check(connection, keys.keyring.connection_id())?;
    open::claim_digest_key(connection, open::digest_check(keys.digest))?;
    transaction.commit()?;
    Ok(())
}

/// A table of the data and its columns. No name of the data gets into a statement unless it is one of ours.
pub(super) fn known(name: &str, columns: &[String]) -> Result<(&'static Table, Vec<&'static str>)> {
    let table = TABLES.iter().find(|table| table.name == name);
    let table = table.with_context(|| UnknownSnafu { what: format!("a table {name}") })?;
    let known = columns.iter().map(|column| {
        let known = table.columns.iter().find(|known| *known == column);
        known.copied().with_context(|| UnknownSnafu { what: format!("a column {name}.{column}") })
    });
    Ok((table, known.collect::<Result<Vec<_>>>()?))
}

/// The table that is being filled.
struct Filling {
    table: &'static Table,
    columns: Vec<&'static str>,
    insert: String,
}

impl Filling {
    fn new(name: &str, columns: &[String]) -> Result<Self> {
        let (table, columns) = known(name, columns)?;
        let more = table.envelopes.map_or(&[][..], sealed::more_columns);
        let all: Vec<_> = columns.iter().chain(more).copied().collect();
        let places = vec!["?"; all.len()].join(", ");
        // A migration and a trigger have made rows of these.
        let replace = if matches!(name, "delivery" | "audit_counts") { " OR REPLACE" } else { "" };
        let insert = format!("INSERT{replace} INTO {name} ({}) VALUES ({places})", all.join(", "));
        Ok(Self { table, columns, insert })
    }

    fn row(&self, values: &[Value<'_>], sealing: &Sealing<'_>) -> Result<()> {
        let row = Row { table: self.table.name, columns: &self.columns, values };
        let Some(envelopes) = self.table.envelopes else {
            return self.insert(sealing.connection, values, &[]);
        };
        let Some(record) = sealing.record(envelopes, &row)? else { return Ok(()) };
        let values: Vec<_> =
            self.columns.iter().zip(values).map(|(column, value)| record.value(column, *value)).collect();
        self.insert(sealing.connection, &values, &record.more())?;
        sealing.write_people(record.id, &record.people)
    }

    fn insert(&self, connection: &Connection, values: &[Value<'_>], more: &[Value<'_>]) -> Result<()> {
        let values = values.iter().chain(more).map(|value| ToSqlOutput::Borrowed(to_sql(*value)));
        connection.prepare_cached(&self.insert)?.execute(params_from_iter(values))?;
        Ok(())
    }
}

fn to_sql(value: Value<'_>) -> ValueRef<'_> {
    match value {
        Value::Null => ValueRef::Null,
        Value::Integer(number) => ValueRef::Integer(number),
        Value::Real(number) => ValueRef::Real(number),
        Value::Text(text) => ValueRef::Text(text.as_bytes()),
        Value::Blob(bytes) => ValueRef::Blob(bytes),
    }
}

/// A row of the data.
pub(super) struct Row<'a> {
    pub(super) table: &'static str,
    pub(super) columns: &'a [&'static str],
    pub(super) values: &'a [Value<'a>],
}

impl<'a> Row<'a> {
    pub(super) fn integer(&self, column: &'static str) -> Result<i64> {
        match self.get(column)? {
            Value::Integer(number) => Ok(number),
            _ => RowSnafu { table: self.table, column }.fail(),
        }
    }

    /// `None`: there is no value.
    pub(super) fn blob(&self, column: &'static str) -> Result<Option<&'a [u8]>> {
        match self.get(column)? {
            Value::Null => Ok(None),
            Value::Blob(bytes) => Ok(Some(bytes)),
            _ => RowSnafu { table: self.table, column }.fail(),
        }
    }

    pub(super) fn wrong<T>(&self, column: &'static str) -> Result<T> {
        RowSnafu { table: self.table, column }.fail()
    }

    fn get(&self, column: &'static str) -> Result<Value<'a>> {
        let found = self.columns.iter().zip(self.values).find(|(known, _)| **known == column);
        found.map(|(_, value)| *value).context(RowSnafu { table: self.table, column })
    }
}
