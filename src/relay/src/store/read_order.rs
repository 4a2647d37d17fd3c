//! An order as it is stored, its envelope opened.

use jiff::Timestamp;
use marketrelay_keyring::{DestroyAt, Digest, Keyring, OpenError, Pii, RecordKind, RecordRef, Sealed};
use marketrelay_marketplace::{Fulfilment, Marketplace, Money, Order, OrderLine, OrderPii, OrderStatus};
use rusqlite::{Connection, Row, RowIndex};
use snafu::OptionExt;
use zeroize::Zeroizing;

use super::{Result, ValueSnafu};

/// The order with the id, and its number's digest; an `OpenError` if its key is gone.
pub(super) fn read(
    connection: &Connection,
    id: i64,
    keyring: &Keyring,
) -> Result<(Digest, Result<Order, OpenError>)> {
    let mut statement = connection.prepare_cached(
        "SELECT number_digest, revision, destroy_at, pii, pii_key, volume_generation, marketplace, status,
                marketplace_status, fulfilment, sales_channel, country, placed_at, updated_at, first_shipped_at,
                total_minor, total_currency, tax_minor, tax_currency
         FROM orders WHERE id = ?1",
    )?;
    let mut rows = statement.query([id])?;
    let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let digest = Digest::from(row.get::<_, [u8; 32]>("number_digest")?);
    let order = match open(row, keyring)? {
        Ok(pii) => Ok(order(row, pii, lines(connection, id)?)?),
        Err(error) => Err(error),
    };
    Ok((digest, order))
}

fn open(row: &Row<'_>, keyring: &Keyring) -> Result<Result<Pii<OrderPii>, OpenError>> {
    Ok(unseal(row, keyring)?
        .and_then(|json| serde_json::from_slice(&json).map(Pii::new).map_err(|_| OpenError::Invalid)))
}

/// What the row's envelope holds, as JSON.
pub(super) fn unseal(row: &Row<'_>, keyring: &Keyring) -> Result<Result<Zeroizing<Vec<u8>>, OpenError>> {
    let record = RecordRef {
        kind: RecordKind::Order,
        revision: row.get("revision")?,
        destroy_at: DestroyAt::from_second(row.get("destroy_at")?),
    };
    let sealed = Sealed {
        body: row.get("pii")?,
        wrapped_key: row.get("pii_key")?,
        volume_generation: row.get("volume_generation")?,
    };
    Ok(keyring.open(record, &sealed))
}

fn order(row: &Row<'_>, pii: Pii<OrderPii>, lines: Vec<OrderLine>) -> Result<Order> {
    Ok(Order {
        marketplace: marketplace(row)?,
        pii,
        placed_at: placed_at(row)?,
        updated_at: time(row, "updated_at")?.context(ValueSnafu { column: "updated_at" })?,
        first_shipped_at: time(row, "first_shipped_at")?,
        status: word(row, "status", OrderStatus::parse)?,
        marketplace_status: row.get("marketplace_status")?,
        fulfilment: word(row, "fulfilment", Fulfilment::parse)?,
        sales_channel: row.get("sales_channel")?,
        country: row.get("country")?,
        total: money(row, "total_minor", "total_currency")?,
        tax: money(row, "tax_minor", "tax_currency")?,
        lines,
    })
}

pub(super) fn marketplace(row: &Row<'_>) -> Result<Marketplace> {
    word(row, "marketplace", Marketplace::parse)
}

pub(super) fn placed_at(row: &Row<'_>) -> Result<Timestamp> {
    time(row, "placed_at")?.context(ValueSnafu { column: "placed_at" })
}

pub(super) fn lines(connection: &Connection, order: i64) -> Result<Vec<OrderLine>> {
    let mut statement = connection.prepare_cached(
        "SELECT sku, title, product_id, quantity, quantity_shipped, quantity_cancelled, unit_price_minor,
                unit_price_currency, total_minor, total_currency, tax_minor, tax_currency
         FROM order_lines WHERE order_id = ?1 ORDER BY position",
    )?;
    let rows = statement.query_and_then([order], |row| {
        Ok(OrderLine {
            sku: row.get(0)?,
            title: row.get(1)?,
            product_id: row.get(2)?,
            quantity: row.get(3)?,
            quantity_shipped: row.get(4)?,
            quantity_cancelled: row.get(5)?,
            unit_price: money(row, 6, 7)?,
            total: money(row, 8, 9)?,
            tax: money(row, 10, 11)?,
        })
    })?;
    rows.collect()
}

pub(super) fn money(row: &Row<'_>, minor: impl RowIndex, currency: impl RowIndex) -> Result<Option<Money>> {
    let amount: (Option<i64>, Option<String>) = (row.get(minor)?, row.get(currency)?);
    Ok(amount.0.zip(amount.1).map(|(minor, currency)| Money { currency, minor }))
}

fn time(row: &Row<'_>, column: &'static str) -> Result<Option<Timestamp>> {
    let at: Option<i64> = row.get(column)?;
    at.map(|at| Timestamp::from_millisecond(at).ok().context(ValueSnafu { column })).transpose()
}

fn word<T>(row: &Row<'_>, column: &'static str, parse: fn(&str) -> Option<T>) -> Result<T> {
    let text: String = row.get(column)?;
    parse(&text).context(ValueSnafu { column })
}
