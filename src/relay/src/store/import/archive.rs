//! What a hold's archive has joins a database that was made of a backup: orders that the backup doesn't have, or not as new.

use std::{io::Read, path::Path};

use jiff::Timestamp;
use marketrelay_keyring::HoldId;
use marketrelay_snapshot::{Item, Manifest, OfHold, Reader, SignedManifest};
use rusqlite::{Connection, OptionalExtension, params};
use snafu::{OptionExt, ResultExt, ensure};

use super::{
    DataSnafu, IdentitySnafu, Keys, OtherHoldSnafu, Result, UnknownSnafu, close,
    fill::{Row, known},
    sealed::{Record, Sealing, end},
    settle::RESTORED,
    source::Source,
    trusted,
};
use crate::{
    audit::{self, Action, Actor, Deed},
    store::{open, revision, schema},
};

/// An archive, as it is in a store.
pub struct Archive<'a, R> {
    /// Whose it must be.
    pub hold: HoldId,
    /// What it says of itself.
    pub manifest: &'a SignedManifest,
    /// The encrypted data.
    pub data: R,
}

/// Adds it to the database, all of it or nothing; says how many orders that made more.
pub fn add<R: Read>(path: &Path, archive: Archive<'_, R>, keys: Keys<'_>, now: Timestamp) -> Result<u64> {
    let Archive { hold, manifest, data } = archive;
    let manifest = trusted(manifest, keys.keyring)?;
    let Some(OfHold { id, .. }) = &manifest.hold else { return OtherHoldSnafu { found: "none" }.fail() };
    ensure!(*id == hold.to_string(), OtherHoldSnafu { found: id });
    schema::check(usize::try_from(manifest.schema).unwrap_or(usize::MAX))?;
    let mut connection = open::writer(path, keys.database)?;
    open::check(&connection, keys.keyring.connection_id())?;
    let transaction = connection.transaction()?;
    let into = Adding::begin(
        Sealing { connection: &transaction, keys, marketplace: &manifest.marketplace, now },
        hold,
    )?;
    let before = into.count()?;
    into.read(&manifest, data)?;
    let added = into.count()? - before;
    into.settle(added)?;
    transaction.commit()?;
    close(connection)?;
    Ok(added)
}

/// What an archive is added to.
struct Adding<'a> {
    sealing: Sealing<'a>,
    hold: HoldId,
    /// The hold's row.
    row: i64,
}

impl<'a> Adding<'a> {
    /// The hold may be younger than the backup.
    fn begin(sealing: Sealing<'a>, hold: HoldId) -> Result<Self> {
        let keyring = sealing.keys.keyring;
        let (key, _) =
            keyring.holds().find(|(_, id)| *id == hold).context(IdentitySnafu { name: hold.to_string() })?;
        let until = end(keyring, hold, sealing.now).context(IdentitySnafu { name: key.to_string() })?;
        let connection = sealing.connection;
        let row = connection.query_row(
            "INSERT INTO holds (key_id, name, until) VALUES (?1, ?2, ?3)
             ON CONFLICT (key_id) DO UPDATE SET until = excluded.until RETURNING id",
            params![hold.as_bytes(), key.name(), until.as_second()],
            |row| row.get(0),
        )?;
        Ok(Self { sealing, hold, row })
    }

    fn connection(&self) -> &Connection {
        self.sealing.connection
    }

    fn count(&self) -> Result<u64> {
        let count = "SELECT count(*) FROM held_orders WHERE hold_id = ?1";
        Ok(self.connection().query_row(count, [self.row], |row| row.get(0))?)
    }

    /// Everything that the data holds, compared with the manifest.
    fn read<R: Read>(&self, manifest: &Manifest, data: R) -> Result<()> {
        let name = &manifest.identity;
        let identity =
            self.sealing.keys.keyring.archive_identity(self.hold).context(IdentitySnafu { name })?;
        let mut source = Source::new(data);
        let opened = source.open(&identity, name)?;
        let mut reader = Reader::new(opened).context(DataSnafu)?;
        reader.check_begin(manifest).context(DataSnafu)?;
        self.rows(&mut reader)?;
        reader.check(manifest).context(DataSnafu)?;
        drop(reader);
        source.check(&manifest.data)
    }

    fn rows<R: Read>(&self, reader: &mut Reader<R>) -> Result<()> {
        let (mut into, mut hold) = (None, None);
        while let Some(item) = reader.next().context(DataSnafu)? {
            match item {
                Item::Table { name, columns } => into = Some(known(name, columns)?),
                Item::Row(values) => {
                    let (table, columns) =
                        into.as_ref().context(UnknownSnafu { what: "a row of no table" })?;
                    let row = Row { table: table.name, columns, values: &values };
                    match table.name {
                        "holds" => hold = Some(self.hold(&row)?),
                        "held_orders" => self.order(&row, hold)?,
                        name => return UnknownSnafu { what: format!("a table {name} in an archive") }.fail(),
                    }
                }
                Item::TableEnd => {}
            }
        }
        Ok(())
    }

    /// Its number in the archive.
    fn hold(&self, row: &Row<'_>) -> Result<i64> {
        if row.blob("key_id")? != Some(self.hold.as_bytes()) {
            return row.wrong("key_id");
        }
        row.integer("id")
    }

    fn order(&self, row: &Row<'_>, hold: Option<i64>) -> Result<()> {
        if Some(row.integer("hold_id")?) != hold {
            return row.wrong("hold_id");
        }
        let (Some(body), Some(key)) = (row.blob("pii")?, row.blob("pii_key")?) else { return Ok(()) };
        let mut record = Record::held(row, self.sealing.keys.keyring)?;
        self.sealing.held(&mut record, row, (body, key), self.hold)?;
        let revision = row.integer("revision")?;
        let written = self
            .connection()
            .prepare_cached(
                "INSERT INTO held_orders (hold_id, number_digest, revision, pii, pii_key, volume_generation)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (hold_id, number_digest) DO UPDATE
                 SET revision = excluded.revision, pii = excluded.pii, pii_key = excluded.pii_key,
                 volume_generation = excluded.volume_generation WHERE excluded.revision > held_orders.revision
                 RETURNING id",
            )?
            .query_row(
                params![self.row, record.number, revision, body, record.wrap, record.generation],
                |row| row.get(0),
            )
            .optional()?;
        // The backup may have it as new.
        let Some(id) = written else { return Ok(()) };
        self.connection().prepare_cached("DELETE FROM held_people WHERE held_id = ?1")?.execute([id])?;
        self.sealing.write_people(id, &record.people)
    }

    /// No archive has all of it any more, and no later revision of an order is below what it keeps.
    fn settle(&self, added: u64) -> Result<()> {
        let (connection, now) = (self.connection(), self.sealing.now);
        let marks = "UPDATE holds SET kept_at = max(kept_at + 1, ?2) WHERE id = ?1";
        connection.execute(marks, params![self.row, now.as_millisecond()])?;
        connection.execute("UPDATE holds SET selected_at = kept_at WHERE id = ?1", [self.row])?;
        revision::skip_held(connection)?;
        if added > 0 {
            let deed = Deed::new(Action::OrdersHeld, Actor::Relay, RESTORED).of(added);
            audit::append(connection, &deed, now)?;
        }
        Ok(())
    }
}
