//! The volume key's replacement: every record's key is wrapped under the newest one, and nothing under an older one
//! comes after.

use jiff::Timestamp;
use marketrelay_keyring::{DestroyAt, HeldRef, HoldId, Keyring, OpenError, RecordKind, RecordRef};
use rusqlite::{Connection, Row, params};
use snafu::ensure;

use super::{OlderKeyringSnafu, Result};
use crate::audit::{self, Action, Actor, Deed};

/// How far a round of [`rewrap`] came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// The last record that was looked at.
    pub last: i64,
    /// Records whose wrap is a new one.
    pub done: usize,
    /// Records whose wrap can't be opened: their key is gone.
    pub left: usize,
}

/// The oldest volume key that the database's files need, once that was made sure.
pub fn oldest(connection: &Connection) -> Result<Option<u32>> {
    Ok(connection.prepare_cached("SELECT oldest_generation FROM relay")?.query_row([], |row| row.get(0))?)
}

/// From now on nothing is sealed under an older volume key than the newest of this keyring.
pub fn begin(connection: &Connection, keyring: &Keyring, now: Timestamp) -> Result<()> {
    check(connection, keyring)?;
    let newest = keyring.volume_generation();
    let begun = connection
        .execute("UPDATE relay SET sealing_generation = ?1 WHERE sealing_generation < ?1", [newest])?;
    if begun > 0 {
        let deed = Deed::new(Action::VolumeKeyTaken, Actor::Operator, format!("volume.{newest}"));
        audit::append(connection, &deed, now)?;
    }
    Ok(())
}

/// Refuses a keyring that was read before the volume key's replacement began.
pub(super) fn check(connection: &Connection, keyring: &Keyring) -> Result<()> {
    let sealing: u32 =
        connection.prepare_cached("SELECT sealing_generation FROM relay")?.query_row([], |row| row.get(0))?;
    ensure!(
        keyring.volume_generation() >= sealing,
        OlderKeyringSnafu { found: keyring.volume_generation(), sealing }
    );
    Ok(())
}

/// A table of envelopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Orders.
    Orders,
    /// The numbers of erased orders that the destination hasn't been told of.
    ErasedOrders,
    /// What holds keep.
    HeldOrders,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Orders, Self::ErasedOrders, Self::HeldOrders];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::ErasedOrders => "erased_orders",
            Self::HeldOrders => "held_orders",
        }
    }

    /// The column that says under which key a record is.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Orders | Self::ErasedOrders => "destroy_at",
            Self::HeldOrders => "(SELECT key_id FROM holds WHERE id = hold_id)",
        }
    }

    /// The column that says when that key's time comes, in whole seconds.
    pub(super) fn due(self) -> &'static str {
        match self {
            Self::Orders | Self::ErasedOrders => "destroy_at",
            Self::HeldOrders => "(SELECT until FROM holds WHERE id = hold_id)",
        }
    }

    /// The record's wrap under the newest volume key.
    fn rewrap(self, row: &Row<'_>, keyring: &Keyring) -> Result<Result<Vec<u8>, OpenError>> {
        let (wrap, generation): (Vec<u8>, u32) = (row.get(3)?, row.get(4)?);
        let kind = match self {
            Self::Orders => RecordKind::Order,
            Self::ErasedOrders => RecordKind::ErasedOrder,
            Self::HeldOrders => {
                let hold = HoldId::from(row.get::<_, [u8; 32]>(2)?);
                return Ok(keyring.rewrap_held(HeldRef { hold, revision: row.get(1)? }, &wrap, generation));
            }
        };
        let destroy_at = DestroyAt::from_second(row.get(2)?);
        Ok(keyring.rewrap(RecordRef { kind, revision: row.get(1)?, destroy_at }, &wrap, generation))
    }
}

/// Wraps the keys of at most `most` records after the one with the id `after` anew; `None` if there is none left.
pub fn rewrap(
    connection: &Connection,
    table: Table,
    keyring: &Keyring,
    after: i64,
    most: usize,
) -> Result<Option<Rewrapped>> {
    let newest = keyring.volume_generation();
    let (name, key) = (table.name(), table.key());
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, revision, {key}, pii_key, volume_generation FROM {name}
         WHERE id > ?1 AND volume_generation < ?2 ORDER BY id LIMIT ?3"
    ))?;
    let mut update = connection
        .prepare_cached(&format!("UPDATE {name} SET pii_key = ?2, volume_generation = ?3 WHERE id = ?1"))?;
    let mut rows = statement.query(params![after, newest, most])?;
    let (mut found, mut wraps) = (Rewrapped::default(), Vec::new());
    while let Some(row) = rows.next()? {
        found.last = row.get(0)?;
        match table.rewrap(row, keyring)? {
            Ok(wrap) => wraps.push((found.last, wrap)),
            Err(_) => found.left += 1,
        }
    }
    found.done = wraps.len();
    for (id, wrap) in wraps {
        update.execute(params![id, wrap, newest])?;
    }
    Ok((found.last > after).then_some(found))
}

/// Notes that nothing in the database's files needs an older volume key than this one.
pub fn confirm(connection: &Connection, generation: u32, now: Timestamp) -> Result<()> {
    connection.execute("UPDATE relay SET oldest_generation = ?1", [generation])?;
    let deed = Deed::new(Action::VolumeKeyConfirmed, Actor::Relay, format!("volume.{generation}"));
    audit::append(connection, &deed, now)
}
