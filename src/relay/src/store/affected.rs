//! Whom another retention would concern.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};

use super::{Result, known};

/// Reads an index alone.
const COUNT: &str = "SELECT count(*) FROM orders
    WHERE placed_at + ?1 < destroy_at * 1000 OR coalesce(first_shipped_at, ?3) + ?2 < destroy_at * 1000";

/// Orders whose key would outlive their deadline, if personal data was kept only so long after the order was placed and
/// after its first shipment: they would be reduced, or sealed under a key that dies earlier.
pub fn affected(
    connection: &Connection,
    anonymize_after: SignedDuration,
    delete_after_shipment: SignedDuration,
    now: Timestamp,
) -> Result<u64> {
    let milliseconds = |duration: SignedDuration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let known_until = known::until(connection, now)?.as_millisecond();
    let limits = params![milliseconds(anonymize_after), milliseconds(delete_after_shipment), known_until];
    Ok(connection.prepare_cached(COUNT)?.query_row(limits, |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use marketrelay_keyring::{ConnectionId, SecretKey};

    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn no_order_is_read_to_count_them() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let id: ConnectionId = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34".parse().expect("a UUID");
        let store = Store::open(folder.path(), &SecretKey::from([1; 32]), &id).expect("a database");
        let plan = store.read(|connection| {
            let sql = format!("EXPLAIN QUERY PLAN {COUNT}");
            Ok(connection.query_row(&sql, [0, 0, 0], |row| row.get::<_, String>("detail"))?)
        });
        let plan = plan.await.expect("a plan");
        assert!(plan.ends_with("USING COVERING INDEX orders_by_dates"), "{plan}");
    }
}
