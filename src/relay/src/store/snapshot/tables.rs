//! What of the database is in a backup: nothing that isn't named here.

use crate::store::generation;

/// A table, and those of its columns that are in a backup.
pub(in crate::store) struct Table {
    pub(in crate::store) name: &'static str,
    pub(in crate::store) columns: &'static [&'static str],
    /// Its rows hold envelopes, in the columns `pii` and `pii_key`.
    pub(in crate::store) envelopes: Option<generation::Table>,
    /// The column that says which hold a row is of: such rows are in the hold's archive too.
    pub(in crate::store) of_hold: Option<&'static str>,
}

impl Table {
    const fn plain(name: &'static str, columns: &'static [&'static str]) -> Self {
        Self { name, columns, envelopes: None, of_hold: None }
    }

    const fn sealed(
        name: &'static str,
        columns: &'static [&'static str],
        envelopes: generation::Table,
    ) -> Self {
        Self { name, columns, envelopes: Some(envelopes), of_hold: None }
    }

    const fn of_hold(self, column: &'static str) -> Self {
        Self { of_hold: Some(column), ..self }
    }
}

/// In the order in which they can be filled again.
pub(in crate::store) const TABLES: [Table; 15] = [
    Table::plain(
        "relay",
        &[
            "id",
            "connection_id",
            "digest_check",
            "cursor",
            "known_until",
            "begun_at",
            "dropped_past_deadline",
            "dropped_recorded",
            "anonymised",
            "given_up",
            "snapshots",
            "revision_floor",
        ],
    ),
    Table::plain(
        "delivery",
        &[
            "id",
            "message_id",
            "message_at",
            "failures",
            "next_attempt_at",
            "refusals",
            "max_events",
            "target",
            "disabled",
        ],
    ),
    Table::sealed(
        "orders",
        &[
            "id",
            "revision",
            "marketplace",
            "status",
            "marketplace_status",
            "fulfilment",
            "sales_channel",
            "country",
            "placed_at",
            "updated_at",
            "first_shipped_at",
            "total_minor",
            "total_currency",
            "tax_minor",
            "tax_currency",
            "deadline",
            "destroy_at",
            "pii",
            "pii_key",
        ],
        generation::Table::Orders,
    ),
    Table::plain(
        "order_lines",
        &[
            "order_id",
            "position",
            "sku",
            "title",
            "product_id",
            "quantity",
            "quantity_shipped",
            "quantity_cancelled",
            "unit_price_minor",
            "unit_price_currency",
            "total_minor",
            "total_currency",
            "tax_minor",
            "tax_currency",
        ],
    ),
    Table::sealed(
        "erased_orders",
        &["id", "revision", "destroy_at", "pii", "pii_key"],
        generation::Table::ErasedOrders,
    ),
    Table::plain(
        "outbox",
        &[
            "sequence",
            "order_id",
            "erased_id",
            "revision",
            "recorded_at",
            "refusals",
            "next_attempt_at",
            "in_message",
        ],
    ),
    Table::plain("erasures", &["uid", "matched", "erased", "held", "sealed_until", "forget_at"]),
    Table::plain("erasure_journal", &["number_digest", "until"]),
    Table::plain(
        "anonymised_orders",
        &["id", "marketplace", "country", "month", "status", "currency", "total_minor", "tax_minor"],
    ),
    Table::plain(
        "anonymised_lines",
        &[
            "id",
            "marketplace",
            "country",
            "month",
            "status",
            "sku",
            "quantity",
            "currency",
            "unit_price_minor",
            "total_minor",
            "tax_minor",
        ],
    ),
    Table::plain(
        "holds",
        &[
            "id",
            "key_id",
            "name",
            "until",
            "placed_from",
            "placed_to",
            "complete",
            "seen_generation",
            "seen_last_epoch",
            "kept_at",
            "selected_at",
        ],
    )
    .of_hold("id"),
    Table::sealed(
        "held_orders",
        &["id", "hold_id", "revision", "pii", "pii_key"],
        generation::Table::HeldOrders,
    )
    .of_hold("hold_id"),
    Table::plain("audit_chain", &["id", "chain", "pruned", "checkpoint"]),
    Table::plain("audit", &["sequence", "at", "action", "actor", "object", "count", "previous", "hash"]),
    Table::plain("audit_counts", &["action", "records", "deeds"]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use marketrelay_keyring::{ConnectionId, SecretKey};
    use rusqlite::Connection;

    use super::*;
    use crate::store::{Result, Store};

    /// What isn't in a backup, and why.
    const LEFT_OUT: [(&str, &str, &str); 14] = [
        ("relay", "sealing_generation", "the volume key is another one after a restore"),
        ("relay", "oldest_generation", "the volume key is another one after a restore"),
        ("orders", "number_digest", "computed again from the opened order"),
        ("orders", "buyer_digest", "computed again from the opened order"),
        ("orders", "content_digest", "computed again from the opened order"),
        ("orders", "volume_generation", "wrapped under the epoch key alone"),
        ("other_buyer_digests", "order_id", "computed again from the opened order"),
        ("other_buyer_digests", "digest", "computed again from the opened order"),
        ("erased_orders", "number_digest", "computed again from the opened number"),
        ("erased_orders", "volume_generation", "wrapped under the epoch key alone"),
        ("hold_digests", "*", "noted again from the configuration"),
        ("held_orders", "number_digest", "computed again from the opened order"),
        ("held_orders", "volume_generation", "wrapped under the hold's key alone"),
        ("held_people", "*", "computed again from the opened order"),
    ];

    fn columns(connection: &Connection) -> Result<BTreeSet<(String, String)>> {
        let mut statement = connection.prepare(
            "SELECT tables.name, columns.name FROM pragma_table_list AS tables
             JOIN pragma_table_info(tables.name) AS columns
             WHERE tables.schema = 'main' AND tables.name NOT LIKE 'sqlite_%'",
        )?;
        let columns = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(columns.collect::<Result<_, _>>()?)
    }

    #[tokio::test]
    async fn every_column_of_the_database_is_in_a_backup_or_left_out_for_a_reason() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let id: ConnectionId = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34".parse().expect("a UUID");
        let store = Store::open(folder.path(), &SecretKey::from([1; 32]), &id).expect("a database");
        let all = store.read(columns).await.expect("columns");
        let listed: BTreeSet<_> = TABLES
            .iter()
            .flat_map(|table| {
                table.columns.iter().map(|column| (table.name.to_owned(), (*column).to_owned()))
            })
            .collect();
        assert!(listed.is_subset(&all), "{:?}", listed.difference(&all));
        for (table, column) in all.difference(&listed) {
            let known = |(of, name, _): &(&str, &str, &str)| of == table && (name == column || *name == "*");
            assert!(LEFT_OUT.iter().any(known), "{table}.{column}: in a backup or not?");
        }
        for (of, name, _) in LEFT_OUT {
            let exists = |(table, column): &(String, String)| table == of && (column == name || name == "*");
            assert!(all.iter().any(exists) && !listed.iter().any(exists), "{of}.{name}");
        }
    }
}
