use std::io::Write;

use aws_lc_rs::digest::Context;
use snafu::{ResultExt, ensure};

use crate::{
    Table, Value,
    frame::{
        BEGIN, Begin, DamagedSnafu, END, FrameError, LONGEST_OTHER, LONGEST_ROW, MAGIC, MOST, ROW, TABLE,
        TABLE_END, TooLongSnafu, WriteSnafu, head, hex_of, is_name, sha256,
    },
    parse::write_name,
};

type Result<T> = std::result::Result<T, FrameError>;

/// Writes a backup's data, uncompressed, table by table.
pub struct Writer<W> {
    to: W,
    all: Context,
    open: Option<Open>,
    tables: Vec<Table>,
    frame: Vec<u8>,
}

/// A table that isn't complete yet.
struct Open {
    name: String,
    columns: usize,
    rows: u64,
    sha256: Context,
}

impl<W: Write> Writer<W> {
    /// Says first which backup it is.
    pub fn new(to: W, begin: &Begin) -> Result<Self> {
        let mut writer = Self { to, all: sha256(), open: None, tables: Vec::new(), frame: Vec::new() };
        writer.put(MAGIC)?;
        let mut frame = Vec::new();
        for text in [&begin.backup, &begin.connection_id] {
            ensure!(text.len() <= LONGEST_OTHER / 4, TooLongSnafu { what: "an id" });
            write_name(&mut frame, text);
        }
        frame.extend_from_slice(&begin.schema.to_be_bytes());
        writer.frame(BEGIN, &frame)?;
        Ok(writer)
    }

    /// Begins a table, and ends the one before.
    pub fn table(&mut self, name: &str, columns: &[&str]) -> Result<()> {
        self.end_table()?;
        ensure!(self.tables.len() < MOST && columns.len() <= MOST, TooLongSnafu { what: "a list of names" });
        let mut frame = Vec::new();
        write_name(&mut frame, name);
        frame.extend_from_slice(&u16::try_from(columns.len()).unwrap_or(u16::MAX).to_be_bytes());
        for column in columns {
            ensure!(is_name(column), DamagedSnafu { what: format!("{column:?} is no column's name") });
            write_name(&mut frame, column);
        }
        ensure!(is_name(name), DamagedSnafu { what: format!("{name:?} is no table's name") });
        self.open = Some(Open { name: name.to_owned(), columns: columns.len(), rows: 0, sha256: sha256() });
        self.frame(TABLE, &frame)
    }

    /// Adds a row to the table that was begun last: a value for each of its columns.
    pub fn row(&mut self, values: &[Value<'_>]) -> Result<()> {
        let fits = self.open.as_ref().is_some_and(|table| table.columns == values.len());
        ensure!(fits, DamagedSnafu { what: "a row has other columns than its table" });
        let length: usize = values.iter().map(|value| value.length()).sum();
        ensure!(length <= LONGEST_ROW, TooLongSnafu { what: "a row" });
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        for value in values {
            value.write(&mut frame);
        }
        if let Some(table) = &mut self.open {
            table.rows += 1;
        }
        let written = self.frame(ROW, &frame);
        self.frame = frame;
        written
    }

    /// Ends the last table and the data; what was written.
    pub fn finish(mut self) -> Result<(W, Vec<Table>)> {
        self.end_table()?;
        let all = self.all.clone().finish();
        self.frame(END, all.as_ref())?;
        Ok((self.to, self.tables))
    }

    fn end_table(&mut self) -> Result<()> {
        let Some(Open { name, rows, sha256, .. }) = self.open.take() else { return Ok(()) };
        let sum = sha256.clone().finish();
        self.frame(TABLE_END, &[&rows.to_be_bytes(), sum.as_ref()].concat())?;
        self.tables.push(Table { name, rows, sha256: hex_of(sha256) });
        Ok(())
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<()> {
        self.put(&head(kind, payload.len()))?;
        self.put(payload)
    }

    /// A table that is open has these bytes in its sum.
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.all.update(bytes);
        if let Some(table) = &mut self.open {
            table.sha256.update(bytes);
        }
        self.to.write_all(bytes).context(WriteSnafu)
    }
}
