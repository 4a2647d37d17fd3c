//! The database: encrypted, typed, one connection's, readable by who holds the keys.

use std::{fs, path::Path};

use jiff::{SignedDuration, Timestamp};
use marketrelay_keyring::{ConnectionId, DigestKey, Grid, Keyring, SecretKey};
use marketrelay_marketplace::Cursor;
use marketrelay_relay::store::{Prepared, Store, ingest};
use rusqlite::types::Value;
use tempfile::TempDir;

use crate::common::{ID, LIMITS, order};

fn id() -> ConnectionId {
    ID.parse().expect("an id")
}

fn open(folder: &Path, key: u8) -> Result<Store, String> {
    Store::open(folder, &SecretKey::from([key; 32]), &id()).map_err(|error| error.to_string())
}

/// A database with one order.
async fn filled() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let store = open(folder.path(), 1).expect("a database");
    let now = Timestamp::now();
    let mut keyring = Keyring::generate(id()).expect("a keyring");
    let day = SignedDuration::from_hours(24);
    keyring.extend(Grid::new(&id(), day), now, now + day * 91).expect("keys");
    let key = DigestKey::new(&SecretKey::from([2; 32]));
    let mut order = order("A1000200");
    order.updated_at = now;
    let page = ingest::Page {
        orders: vec![Prepared::new(order, &key)],
        cursor: Cursor(serde_json::json!({"page": 1})),
        known_until: None,
    };
    let ingest = move |connection: &_| ingest::ingest(connection, &page, &keyring, LIMITS, now);
    store.write(ingest).await.expect("stored");
    store.close().await.expect("closed");
    folder
}

#[tokio::test]
async fn with_another_key_the_database_does_not_open_and_the_message_says_why() {
    let folder = filled().await;
    let error = open(folder.path(), 7).err().expect("refused");
    assert!(error.contains("database key") && error.contains("Secret"), "{error}");
    open(folder.path(), 1).expect("the right key").close().await.expect("closed");
}

#[tokio::test]
async fn a_volume_of_another_connection_is_refused() {
    let folder = filled().await;
    let other = "00000000-1111-4222-8333-444455556666".parse().expect("an id");
    let error = Store::open(folder.path(), &SecretKey::from([1; 32]), &other).err().expect("refused");
    assert!(error.to_string().contains(ID), "{error}");
}

#[tokio::test]
async fn a_database_of_a_newer_relay_is_left_alone() {
    let folder = filled().await;
    let store = open(folder.path(), 1).expect("a database");
    store.write(|connection| Ok(connection.pragma_update(None, "user_version", 99)?)).await.expect("written");
    store.close().await.expect("closed");
    let error = open(folder.path(), 1).err().expect("refused");
    assert!(error.contains("newer relay"), "{error}");
}

#[tokio::test]
async fn no_file_of_the_database_shows_an_order() {
    let folder = filled().await;
    for entry in fs::read_dir(folder.path()).expect("a folder") {
        let bytes = fs::read(entry.expect("an entry").path()).expect("a file");
        for text in ["Zoë", "buyer.example", "A1000200", "SKU-1", "SQLite format", "CREATE TABLE"] {
            let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!found, "{text}");
        }
    }
}

/// Every value of every table, by who has the database key alone.
async fn values(store: &Store) -> Vec<(String, Value)> {
    let read = |connection: &rusqlite::Connection| {
        let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
        let mut tables = connection.prepare(tables)?;
        let tables = tables.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        let mut values = Vec::new();
        for table in tables {
            let mut rows = connection.prepare(&format!("SELECT * FROM {table}"))?;
            let columns: Vec<_> = rows.column_names().map(|name| format!("{table}.{name}")).collect();
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                for (index, column) in columns.iter().enumerate() {
                    values.push((column.clone(), row.get(index)?));
                }
            }
        }
        Ok(values)
    };
    store.read(read).await.expect("values")
}

#[tokio::test]
async fn outside_the_envelope_nothing_identifies_anybody() {
    let folder = filled().await;
    let store = open(folder.path(), 1).expect("a database");
    let values = values(&store).await;
    assert!(values.iter().any(|(column, _)| column == "orders.pii"));
    for (column, value) in values {
        let bytes = match value {
            Value::Text(text) => text.into_bytes(),
            Value::Blob(bytes) => bytes,
            Value::Integer(_) | Value::Real(_) | Value::Null => continue,
        };
        for text in ["Zoë", "Müller", "buyer.example", "Königstraße", "10115", "5550100", "A1000200", "ring"]
        {
            let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!found, "{column} shows {text}");
        }
    }
    store.close().await.expect("closed");
}

#[tokio::test]
async fn every_table_is_strict_and_refuses_values_of_another_type() {
    let folder = filled().await;
    let store = open(folder.path(), 1).expect("a database");
    let loose = |connection: &rusqlite::Connection| {
        let loose = "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND NOT strict \
                     AND name NOT LIKE 'sqlite_%'";
        Ok(connection.query_row(loose, [], |row| row.get::<_, u32>(0))?)
    };
    assert_eq!(store.read(loose).await.expect("a count"), 0);
    for sql in [
        "UPDATE orders SET placed_at = 'yesterday'",
        "UPDATE orders SET marketplace = 'etsy'",
        "UPDATE orders SET number_digest = x'00'",
        "UPDATE orders SET total_currency = NULL",
        "UPDATE orders SET revision = 0",
        "UPDATE relay SET cursor = 'no JSON'",
        "INSERT INTO relay (id, connection_id) VALUES (2, 'another')",
        "UPDATE order_lines SET quantity = -1",
    ] {
        let refused = store.write(move |connection| Ok(connection.execute(sql, [])?)).await;
        assert!(refused.is_err(), "{sql}");
    }
    store.close().await.expect("closed");
}
