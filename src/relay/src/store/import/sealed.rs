//! Rows that hold envelopes: their keys are wrapped under the present volume key.

use jiff::Timestamp;
use marketrelay_keyring::{
    DestroyAt, Digest, HeldRef, HoldId, Keyring, OpenError, Pii, RecordKind, RecordRef, Sealed,
};
use marketrelay_marketplace::OrderPii;
use marketrelay_snapshot::Value;
use rusqlite::{Connection, OptionalExtension, params};

use super::{ImportError, Keys, Result, fill::Row};
use crate::store::{generation::Table, prepared::people};

/// What envelopes are opened with.
pub(super) struct Sealing<'a> {
    pub(super) connection: &'a Connection,
    pub(super) keys: Keys<'a>,
    pub(super) marketplace: &'a str,
    pub(super) now: Timestamp,
}

/// What the database has beside what the backup has.
pub(super) fn more_columns(of: Table) -> &'static [&'static str] {
    match of {
        Table::Orders => &["number_digest", "content_digest", "volume_generation"],
        Table::ErasedOrders | Table::HeldOrders => &["number_digest", "volume_generation"],
    }
}

/// A row of a table of envelopes.
pub(super) struct Record {
    table: Table,
    pub(super) id: i64,
    /// Its key under the volume key; empty once the key that it lived as long as is dead.
    pub(super) wrap: Vec<u8>,
    pub(super) generation: i64,
    /// Of its order's number; until that is computed the row's id, so that the index of them grows at its end.
    pub(super) number: [u8; 32],
    pub(super) people: Vec<Digest>,
}

impl Record {
    fn new(table: Table, row: &Row<'_>, keyring: &Keyring) -> Result<Self> {
        let generation = i64::from(keyring.volume_generation());
        let id = row.integer("id")?;
        let mut number = [0; 32];
        number[24..].copy_from_slice(&id.to_be_bytes());
        Ok(Self { table, id, wrap: Vec::new(), generation, number, people: Vec::new() })
    }

    /// Of a held order.
    pub(super) fn held(row: &Row<'_>, keyring: &Keyring) -> Result<Self> {
        Self::new(Table::HeldOrders, row, keyring)
    }

    /// A dead record keeps its row until everything is there that tells what it was.
    pub(super) fn value<'a>(&'a self, column: &str, of_data: Value<'a>) -> Value<'a> {
        match column {
            "pii_key" => Value::Blob(&self.wrap),
            "pii" if self.wrap.is_empty() => Value::Blob(&[]),
            _ => of_data,
        }
    }

    pub(super) fn more(&self) -> Vec<Value<'_>> {
        let (number, generation) = (Value::Blob(&self.number), Value::Integer(self.generation));
        match self.table {
            Table::Orders => vec![number, Value::Blob(&self.number), generation],
            Table::ErasedOrders | Table::HeldOrders => vec![number, generation],
        }
    }
}

impl Sealing<'_> {
    /// The record of a row; `None` if nothing is to be kept of it.
    pub(super) fn record(&self, table: Table, row: &Row<'_>) -> Result<Option<Record>> {
        let mut record = Record::new(table, row, self.keys.keyring)?;
        let (Some(body), Some(key)) = (row.blob("pii")?, row.blob("pii_key")?) else {
            return Ok((table != Table::HeldOrders).then_some(record));
        };
        match table {
            Table::Orders => record.wrap = self.order(RecordKind::Order, row, key)?.1,
            Table::ErasedOrders => self.erased(&mut record, row, body, key)?,
            Table::HeldOrders => {
                let hold = self.hold(row)?;
                if end(self.keys.keyring, hold, self.now).is_none() {
                    return Ok(None);
                }
                self.held(&mut record, row, (body, key), hold)?;
            }
        }
        Ok(Some(record))
    }

    /// Which record it is, and its key; none if that is dead.
    fn order(&self, kind: RecordKind, row: &Row<'_>, key: &[u8]) -> Result<(RecordRef, Vec<u8>)> {
        let destroy_at = DestroyAt::from_second(row.integer("destroy_at")?);
        let record = RecordRef { kind, revision: revision(row)?, destroy_at };
        if destroy_at.is_due(self.now) {
            return Ok((record, Vec::new()));
        }
        let wrap = self.keys.keyring.wrap_from_backup(record, key).map_err(refuse)?;
        Ok((record, wrap))
    }

    fn erased(&self, into: &mut Record, row: &Row<'_>, body: &[u8], key: &[u8]) -> Result<()> {
        let (record, wrap) = self.order(RecordKind::ErasedOrder, row, key)?;
        if wrap.is_empty() {
            return Ok(());
        }
        let number = self.keys.keyring.open(record, &self.sealed(body, &wrap)).map_err(refuse)?;
        let Ok(number) = std::str::from_utf8(&number) else { return row.wrong("pii") };
        into.number = *self.keys.digest.order(self.marketplace, number).as_bytes();
        into.wrap = wrap;
        Ok(())
    }

    /// Whose order it is. Nothing is kept of a hold that has ended.
    fn hold(&self, row: &Row<'_>) -> Result<HoldId> {
        let mut statement = self.connection.prepare_cached("SELECT key_id FROM holds WHERE id = ?1")?;
        let hold: Option<[u8; 32]> =
            statement.query_row([row.integer("hold_id")?], |row| row.get(0)).optional()?;
        hold.map_or_else(|| row.wrong("hold_id"), |hold| Ok(HoldId::from(hold)))
    }

    /// An order that this hold keeps.
    pub(super) fn held(
        &self,
        into: &mut Record,
        row: &Row<'_>,
        (body, key): (&[u8], &[u8]),
        hold: HoldId,
    ) -> Result<()> {
        let record = HeldRef { hold, revision: revision(row)? };
        let keyring = self.keys.keyring;
        into.wrap = keyring.wrap_held_from_backup(record, key).map_err(refuse)?;
        let json = keyring.open_held(record, &self.sealed(body, &into.wrap)).map_err(refuse)?;
        let Ok(pii) = serde_json::from_slice::<OrderPii>(&json).map(Pii::new) else {
            return row.wrong("pii");
        };
        let (digest, pii) = (self.keys.digest, pii.expose());
        into.number = *digest.order(self.marketplace, &pii.number).as_bytes();
        into.people = people(pii).map(|text| digest.buyer(self.marketplace, text)).collect();
        into.people.sort_unstable();
        into.people.dedup();
        Ok(())
    }

    /// Who is in a held order.
    pub(super) fn write_people(&self, held: i64, people: &[Digest]) -> Result<()> {
        let mut statement =
            self.connection.prepare_cached("INSERT INTO held_people (held_id, digest) VALUES (?1, ?2)")?;
        for digest in people {
            statement.execute(params![held, digest.as_bytes()])?;
        }
        Ok(())
    }

    fn sealed(&self, body: &[u8], wrap: &[u8]) -> Sealed {
        Sealed {
            body: body.to_vec(),
            wrapped_key: wrap.to_vec(),
            volume_generation: self.keys.keyring.volume_generation(),
        }
    }
}

/// When a hold ends, by its key of now: that may have moved since the backup. `None`: it has ended.
pub(super) fn end(keyring: &Keyring, hold: HoldId, now: Timestamp) -> Option<DestroyAt> {
    let (key, _) = keyring.holds().find(|(_, id)| *id == hold)?;
    Some(key.destroy_at()).filter(|end| !end.is_due(now))
}

fn revision(row: &Row<'_>) -> Result<u64> {
    u64::try_from(row.integer("revision")?).or_else(|_| row.wrong("revision"))
}

/// A key that is missing before its time isn't the record's fault.
fn refuse(error: OpenError) -> ImportError {
    match error {
        OpenError::KeyGone { name } => ImportError::KeyMissing { name },
        error => ImportError::Unreadable { reason: error.to_string() },
    }
}
