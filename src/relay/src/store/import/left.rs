//! What an import must not leave in its database.

use std::path::Path;

use jiff::Timestamp;
use marketrelay_api::backup::PastErasure;
use marketrelay_keyring::{ConnectionId, SecretKey};
use rusqlite::Connection;

use crate::{
    audit::Action,
    store::{Result, erase, open, reduce},
};

/// Personal data that should be gone. An import leaves none: it erases and reduces as a relay does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Orders of subjects that the import has erased.
    pub erased: u64,
    /// When the time came of the first that has a key and shouldn't have it any more.
    pub overdue: Option<Timestamp>,
}

/// What of it the database has that an import has made. Whom the backup's own database had erased may have ordered again
/// before the backup: such a request isn't asked about.
pub fn left(
    path: &Path,
    key: &SecretKey,
    id: &ConnectionId,
    requests: &[PastErasure],
    now: Timestamp,
) -> Result<Left> {
    let connection = open::reader(path, key)?;
    open::check(&connection, id)?;
    let mut erased = 0;
    for past in requests {
        if was_repeated(&connection, &past.uid)? {
            erased += erase::known(&connection, &past.subject)?;
        }
    }
    let overdue = reduce::next(&connection)?.filter(|next| *next <= now);
    Ok(Left { erased, overdue })
}

/// Whether the last import has done this request.
fn was_repeated(connection: &Connection, uid: &str) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM audit WHERE action = ?1 AND object = ?2
         AND sequence > (SELECT max(sequence) FROM audit WHERE action = ?3)",
    )?;
    let done = [Action::OrdersErased.as_str(), uid, Action::Restored.as_str()];
    Ok(statement.exists(done)?)
}
