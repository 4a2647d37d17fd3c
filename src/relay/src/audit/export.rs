//! The log as lines: where it begins, the records, the signed head.

use jiff::Timestamp;
use marketrelay_audit::{Hash, Kind, Position, Signer, hex, line};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{head, record::fields};
use crate::store::Result;

/// Records that are read at once.
const PAGE: u64 = 500;

/// An export that was begun.
pub struct Export {
    chain: String,
    first: Option<String>,
    after: u64,
    until: u64,
    head: Option<String>,
}

/// Begins an export of the records after `after`, up to the present end of the log. `None`: there is no such record.
pub fn begin(connection: &Connection, signer: &Signer, after: u64, now: Timestamp) -> Result<Option<Export>> {
    let (chain, end) = head(connection)?;
    let (until, head) = (end.sequence, Some(signer.sign(Kind::Head, &chain, end, now).line()));
    let (pruned, checkpoint): (u64, Option<String>) =
        connection.query_row("SELECT pruned, checkpoint FROM audit_chain", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    if after <= pruned {
        return Ok(Some(Export { chain, first: checkpoint, after: pruned, until, head }));
    }
    let hash: Option<Hash> = connection
        .query_row("SELECT hash FROM audit WHERE sequence = ?1", [after], |row| row.get(0))
        .optional()?;
    Ok(hash.map(|hash| {
        let start = signer.sign(Kind::Start, &chain, Position { sequence: after, hash }, now);
        Export { chain, first: Some(start.line()), after, until, head }
    }))
}

impl Export {
    /// The next lines, each with its end; empty after the signed head.
    pub fn next(&mut self, connection: &Connection) -> Result<String> {
        let mut lines = Vec::from_iter(self.first.take());
        let mut statement = connection.prepare_cached(
            "SELECT sequence, at, action, actor, object, count, previous, hash FROM audit
             WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3",
        )?;
        let mut rows = statement.query(params![self.after, self.until, PAGE])?;
        let mut read = 0;
        while let Some(row) = rows.next()? {
            self.after = row.get(0)?;
            lines.push(self.record(row)?);
            read += 1;
        }
        if read < PAGE {
            lines.extend(self.head.take());
        }
        Ok(lines.into_iter().map(|line| line + "\n").collect())
    }

    /// As it was written, whatever it says of itself.
    fn record(&self, row: &Row<'_>) -> Result<String> {
        let text = |column: usize| row.get::<_, String>(column);
        let mut record = fields(row.get(1)?, &text(2)?, &text(3)?, &text(4)?, row.get(5)?);
        record.insert("chain".to_owned(), self.chain.as_str().into());
        record.insert("sequence".to_owned(), row.get::<_, u64>(0)?.into());
        record.insert("previous".to_owned(), hex(&row.get::<_, Hash>(6)?).into());
        record.insert("hash".to_owned(), hex(&row.get::<_, Hash>(7)?).into());
        Ok(line(&record))
    }
}
