use std::io::Read;

use aws_lc_rs::digest::Context;
use snafu::{OptionExt, ResultExt, ensure};

use crate::{
    Manifest, Table, Value,
    frame::{
        BEGIN, Begin, ContradictionSnafu, CutShortSnafu, DamagedSnafu, END, FormatSnafu, FrameError, HEAD,
        LONGEST_OTHER, LONGEST_ROW, MAGIC, MOST, ROW, ReadSnafu, TABLE, TABLE_END, TooLongSnafu, hex_of,
        is_name, sha256,
    },
    parse::{Parse, ParseError, Parser},
};

type Result<T> = std::result::Result<T, FrameError>;

/// What comes next in a backup's data.
#[derive(Clone, Debug, PartialEq)]
pub enum Item<'a> {
    /// A table begins.
    Table {
        /// Its name.
        name: &'a str,
        /// Its columns.
        columns: &'a [String],
    },
    /// A row of the table that began last: a value for each of its columns.
    Row(Vec<Value<'a>>),
    /// The table that began last is complete, and its sum is right.
    TableEnd,
}

/// Reads a backup's data, uncompressed, and keeps one row of it.
pub struct Reader<R> {
    from: R,
    begin: Begin,
    all: Context,
    open: Option<Open>,
    tables: Vec<Table>,
    frame: Vec<u8>,
    ended: bool,
}

/// A table that isn't complete yet.
struct Open {
    name: String,
    columns: Vec<String>,
    rows: u64,
    sha256: Context,
}

impl<R: Read> Reader<R> {
    /// Reads which backup it is.
    pub fn new(mut from: R) -> Result<Self> {
        let mut magic = [0; MAGIC.len()];
        read(&mut from, &mut magic)?;
        ensure!(magic == MAGIC, FormatSnafu);
        let begin = Begin { backup: String::new(), connection_id: String::new(), schema: 0 };
        let mut all = sha256();
        all.update(&magic);
        let (open, tables, frame) = (None, Vec::new(), Vec::new());
        let mut reader = Self { from, begin, all, open, tables, frame, ended: false };
        let (kind, head) = reader.frame()?;
        ensure!(kind == BEGIN, DamagedSnafu { what: "it doesn't say which backup it is" });
        reader.begin = begun(&reader.frame).ok().context(damaged("its beginning"))?;
        reader.sum(head);
        Ok(reader)
    }

    /// Which backup it is.
    pub fn begin(&self) -> &Begin {
        &self.begin
    }

    /// What comes next; `None` after the end, once everything was as it was written.
    #[expect(clippy::should_implement_trait, reason = "an item borrows what was read")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>> {
        if self.ended {
            return Ok(None);
        }
        let (kind, head) = self.frame()?;
        match (kind, self.open.is_some()) {
            (TABLE, false) => self.table(head),
            (ROW, true) => self.row(head),
            (TABLE_END, true) => self.end_table(head),
            (END, false) => self.end(),
            _ => DamagedSnafu { what: format!("a frame of kind {kind} where none belongs") }.fail(),
        }
    }

    /// Whether the manifest is of this backup.
    pub fn check_begin(&self, manifest: &Manifest) -> Result<()> {
        let Begin { backup, connection_id, schema } = &self.begin;
        for (what, said, found) in [
            ("the backup's id", &manifest.backup, backup),
            ("the connection", &manifest.connection_id, connection_id),
            ("the schema's version", &manifest.schema.to_string(), &schema.to_string()),
        ] {
            ensure!(said == found, ContradictionSnafu { what: format!("{what} is {found}, it says {said}") });
        }
        Ok(())
    }

    /// After the end: whether the manifest is of this data.
    pub fn check(&self, manifest: &Manifest) -> Result<()> {
        ensure!(self.ended, CutShortSnafu);
        self.check_begin(manifest)?;
        for (said, found) in manifest.tables.iter().zip(&self.tables) {
            let what = || format!("table {} has {} rows, it says {}", found.name, found.rows, said.rows);
            ensure!(said == found, ContradictionSnafu { what: what() });
        }
        let (said, found) = (manifest.tables.len(), self.tables.len());
        ensure!(said == found, ContradictionSnafu { what: format!("{found} tables, it says {said}") });
        Ok(())
    }

    /// Reads a frame; what it holds is in `self.frame`.
    fn frame(&mut self) -> Result<(u8, [u8; HEAD])> {
        let mut head = [0; HEAD];
        read(&mut self.from, &mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length);
        let most = if kind == ROW { LONGEST_ROW } else { LONGEST_OTHER };
        let fits = usize::try_from(length).is_ok_and(|length| length <= most);
        ensure!(fits, TooLongSnafu { what: "a frame" });
        self.frame.clear();
        // Grows with what is really there.
        let read = self.from.by_ref().take(length.into()).read_to_end(&mut self.frame).context(ReadSnafu)?;
        ensure!(u32::try_from(read) == Ok(length), CutShortSnafu);
        Ok((kind, head))
    }

    fn sum(&mut self, head: [u8; HEAD]) {
        for bytes in [&head[..], &self.frame] {
            self.all.update(bytes);
            if let Some(table) = &mut self.open {
                table.sha256.update(bytes);
            }
        }
    }

    fn table(&mut self, head: [u8; HEAD]) -> Result<Option<Item<'_>>> {
        let (name, columns) = table(&self.frame).ok().context(damaged("a table's head"))?;
        let known = self.tables.iter().any(|table| table.name == name);
        ensure!(!known && self.tables.len() < MOST, DamagedSnafu { what: "a table comes twice" });
        let open = Open { name, columns, rows: 0, sha256: sha256() };
        let table = self.open.insert(open);
        for bytes in [&head[..], &self.frame] {
            self.all.update(bytes);
            table.sha256.update(bytes);
        }
        Ok(Some(Item::Table { name: &table.name, columns: &table.columns }))
    }

    fn row(&mut self, head: [u8; HEAD]) -> Result<Option<Item<'_>>> {
        self.sum(head);
        let Some(table) = &mut self.open else { return Ok(None) };
        table.rows += 1;
        let values = values(&self.frame, table.columns.len());
        Ok(Some(Item::Row(values.ok().context(damaged("a row"))?)))
    }

    fn end_table(&mut self, head: [u8; HEAD]) -> Result<Option<Item<'_>>> {
        let Some(Open { name, rows, sha256, .. }) = self.open.take() else { return Ok(None) };
        self.sum(head);
        let sum = sha256.clone().finish();
        let expected = [&rows.to_be_bytes(), sum.as_ref()].concat();
        ensure!(self.frame == expected, DamagedSnafu { what: format!("table {name} was altered") });
        self.tables.push(Table { name, rows, sha256: hex_of(sha256) });
        Ok(Some(Item::TableEnd))
    }

    fn end(&mut self) -> Result<Option<Item<'_>>> {
        let sum = self.all.clone().finish();
        ensure!(self.frame == sum.as_ref(), DamagedSnafu { what: "it was altered" });
        let rest = self.from.by_ref().take(1).read_to_end(&mut self.frame).context(ReadSnafu)?;
        ensure!(rest == 0, DamagedSnafu { what: "something follows its end" });
        self.ended = true;
        Ok(None)
    }
}

fn damaged(what: &str) -> DamagedSnafu<String> {
    DamagedSnafu { what: format!("{what} can't be read") }
}

fn read(from: &mut impl Read, bytes: &mut [u8]) -> Result<()> {
    match from.read_exact(bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => CutShortSnafu.fail(),
        read => read.context(ReadSnafu),
    }
}

fn begun(frame: &[u8]) -> Parse<Begin> {
    let mut from = Parser(frame);
    let (backup, connection_id) = (from.name()?.to_owned(), from.name()?.to_owned());
    let schema = u32::from_be_bytes(from.array()?);
    from.end()?;
    Ok(Begin { backup, connection_id, schema })
}

fn table(frame: &[u8]) -> Parse<(String, Vec<String>)> {
    let mut from = Parser(frame);
    let (name, count) = (from.name()?, from.u16()?);
    if count > MOST || !is_name(name) {
        return Err(ParseError);
    }
    let mut columns: Vec<String> = Vec::new();
    for _ in 0..count {
        let column = from.name()?;
        if !is_name(column) || columns.iter().any(|known| known == column) {
            return Err(ParseError);
        }
        columns.push(column.to_owned());
    }
    from.end()?;
    Ok((name.to_owned(), columns))
}

fn values(frame: &[u8], count: usize) -> Parse<Vec<Value<'_>>> {
    let mut from = Parser(frame);
    let values = (0..count).map(|_| Value::parse(&mut from)).collect::<Parse<_>>()?;
    from.end()?;
    Ok(values)
}
