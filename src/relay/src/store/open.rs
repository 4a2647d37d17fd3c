//! Opening the database: key, durability, identity.

use std::path::Path;

use marketrelay_keyring::{ConnectionId, Digest, DigestKey, SecretKey};
use rusqlite::{Connection, OpenFlags, OptionalExtension, config::DbConfig};
use snafu::ensure;
use zeroize::Zeroizing;

use super::{OtherConnectionSnafu, OtherDigestKeySnafu, Result};

/// KiB of pages that a connection keeps: room for what a page of orders changes, since a page of the database that is
/// pushed out before the commit is encrypted twice.
const WRITER_CACHE: u32 = 4096;
const READER_CACHE: u32 = 512;
/// While a database is made: room for the indexes by digest, which every order comes into at another place; of 560,000 orders they
/// are twice as much.
const MAKER_CACHE: u32 = 32 * 1024;

pub(super) fn writer(path: &Path, key: &SecretKey) -> Result<Connection> {
    written(path, key, WRITER_CACHE, "WAL", "FULL")
}

/// Makes a database that nobody uses before it is complete and synced. Whatever fails removes it, so nothing can be undone: it
/// has no journal, and waits for no disk.
pub(super) fn maker(path: &Path, key: &SecretKey) -> Result<Connection> {
    written(path, key, MAKER_CACHE, "OFF", "OFF")
}

fn written(path: &Path, key: &SecretKey, cache: u32, journal: &str, synchronous: &str) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = open(path, key, flags, cache)?;
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = {journal};
         PRAGMA synchronous = {synchronous};
         PRAGMA foreign_keys = ON;
         PRAGMA secure_delete = ON;"
    ))?;
    Ok(connection)
}

/// Reads a database, beside a relay that uses it too.
pub(crate) fn reader(path: &Path, key: &SecretKey) -> Result<Connection> {
    open(path, key, OpenFlags::SQLITE_OPEN_READ_ONLY, READER_CACHE)
}

fn open(path: &Path, key: &SecretKey, flags: OpenFlags, cache: u32) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    let mut pragma = Zeroizing::new(String::with_capacity(96));
    pragma.push_str("PRAGMA key = \"x'");
    for byte in key.expose() {
        for digit in [byte >> 4, byte & 15] {
            pragma.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    pragma.push_str("'\";");
    connection.execute_batch(&pragma)?;
    connection.execute_batch(
        "PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA busy_timeout = 5000;",
    )?;
    connection.execute_batch(&format!("PRAGMA cache_size = -{cache};"))?;
    // A statement that is kept isn't prepared again for other values.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // The first read shows whether the key is the right one.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

/// Writes the connection's id into a new database, and checks that of an existing one.
pub(super) fn claim(connection: &Connection, id: &ConnectionId) -> Result<()> {
    if !check(connection, id)? {
        connection.execute("INSERT INTO relay (id, connection_id) VALUES (1, ?1)", [id.as_str()])?;
    }
    Ok(())
}

/// Checks the connection's id; false if there is none yet.
pub(super) fn check(connection: &Connection, id: &ConnectionId) -> Result<bool> {
    let found: Option<String> =
        connection.query_row("SELECT connection_id FROM relay", [], |row| row.get(0)).optional()?;
    let Some(found) = found else { return Ok(false) };
    ensure!(found == id.as_str(), OtherConnectionSnafu { found, expected: id.as_str() });
    Ok(true)
}

/// What recognises the digest key.
pub(super) fn digest_check(key: &DigestKey) -> Digest {
    key.content(b"the digest key of this database")
}

/// Writes the digest key's check into a new database, and compares that of an existing one.
pub(super) fn claim_digest_key(connection: &Connection, check: Digest) -> Result<()> {
    let found: Option<[u8; 32]> =
        connection.query_row("SELECT digest_check FROM relay", [], |row| row.get(0))?;
    if let Some(found) = found {
        ensure!(found == *check.as_bytes(), OtherDigestKeySnafu);
        return Ok(());
    }
    connection.execute("UPDATE relay SET digest_check = ?1", [check.as_bytes()])?;
    Ok(())
}
