//! The database's schema, as numbered migrations. A migration that was released is never changed.

use rusqlite::{Connection, TransactionBehavior};
use snafu::ensure;

use super::{NewerSchemaSnafu, StoreError};

/// Migration `n` brings `PRAGMA user_version` from `n` to `n + 1`.
const MIGRATIONS: [&str; 9] = [
    include_str!("migrations/0001_orders_and_outbox.sql"),
    include_str!("migrations/0002_anonymised.sql"),
    include_str!("migrations/0003_erasures.sql"),
    include_str!("migrations/0004_holds.sql"),
    include_str!("migrations/0005_audit.sql"),
    include_str!("migrations/0006_hold_seen.sql"),
    include_str!("migrations/0007_snapshots.sql"),
    include_str!("migrations/0008_revision_floor.sql"),
    include_str!("migrations/0009_archives.sql"),
];

/// Brings the database to the newest version, each step in a transaction of its own.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    migrate_to(connection, MIGRATIONS.len())
}

/// Whether this version is known.
pub(super) fn check(version: usize) -> Result<(), StoreError> {
    let known = MIGRATIONS.len();
    ensure!(version <= known, NewerSchemaSnafu { found: version, known });
    Ok(())
}

/// Brings the database to this version.
pub(super) fn migrate_to(connection: &mut Connection, version: usize) -> Result<(), StoreError> {
    check(version)?;
    let at: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    check(at)?;
    for (number, sql) in MIGRATIONS.iter().enumerate().take(version).skip(at) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", number + 1)?;
        transaction.commit()?;
    }
    Ok(())
}
