//! An erased order as the outbox keeps it, its envelope opened.

use marketrelay_keyring::{DestroyAt, Digest, Keyring, OpenError, Pii, RecordKind, RecordRef, Sealed};
use rusqlite::Connection;

use super::Result;

/// The order's number and the digest of it; an `OpenError` if its key is gone.
pub(super) fn read(
    connection: &Connection,
    id: i64,
    keyring: &Keyring,
) -> Result<(Digest, Result<Pii<String>, OpenError>)> {
    let mut statement = connection.prepare_cached(
        "SELECT number_digest, revision, destroy_at, pii, pii_key, volume_generation FROM erased_orders WHERE id = ?1",
    )?;
    let (digest, record, sealed) = statement.query_row([id], |row| {
        let record = RecordRef {
            kind: RecordKind::ErasedOrder,
            revision: row.get(1)?,
            destroy_at: DestroyAt::from_second(row.get(2)?),
        };
        let sealed = Sealed { body: row.get(3)?, wrapped_key: row.get(4)?, volume_generation: row.get(5)? };
        Ok((Digest::from(row.get::<_, [u8; 32]>(0)?), record, sealed))
    })?;
    let number = keyring
        .open(record, &sealed)
        .and_then(|bytes| String::from_utf8(bytes.to_vec()).map(Pii::new).map_err(|_| OpenError::Invalid));
    Ok((digest, number))
}
