//! How fast a page of orders comes into the database, sealed and with its events, against bare SQLite inserts of the
//! same rows into the same tables: a plain database with the same page size, journal and durability, one transaction
//! per page. Both in one run, taking turns.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use marketrelay_keyring::{ConnectionId, DigestKey, Grid, Keyring, Limits, Pii, SecretKey};
use marketrelay_marketplace::{
    Address, Buyer, Cursor, Fulfilment, LinePii, Marketplace, Money, Order, OrderLine, OrderPii, OrderStatus,
};
use marketrelay_relay::store::{Prepared, Store, ingest};
use rusqlite::{Connection, params_from_iter, types::Value};
use tempfile::TempDir;

const ROUNDS: usize = 9;
const PAGES: u32 = 40;
const PAGE: u32 = 100;
const SCHEMA: &str = include_str!("../src/store/migrations/0001_orders_and_outbox.sql");
const DAY: SignedDuration = SignedDuration::from_hours(24);

type Failure = Box<dyn std::error::Error>;
type Row = Vec<Value>;

fn text(of: &str, number: u32) -> String {
    format!("{of} {number}")
}

/// As the marketplaces' clients make them: two lines, an address, what a buyer writes.
fn order(number: u32, now: Timestamp) -> Order {
    let money = |minor| Some(Money { currency: "EUR".to_owned(), minor });
    let line = |position: u32| OrderLine {
        sku: format!("SKU-{:06}", number * 3 + position),
        title: Some("Kettle, 1.7 l, brushed steel, with temperature display".to_owned()),
        product_id: Some(format!("87{:011}", number + position)),
        quantity: 1 + position,
        quantity_shipped: 0,
        quantity_cancelled: 0,
        unit_price: money(2_495),
        total: money(2_495),
        tax: money(433),
    };
    let identified = |position: u32| LinePii { id: format!("{number:09}{position}"), ..LinePii::default() };
    let address = Address {
        city: "Amsterdam".to_owned(),
        country: "NL".to_owned(),
        email: format!("{number}@buyer.example"),
        lines: vec![text("Keizersgracht", number)],
        name: text("Jan de Vries", number),
        phone: format!("+31 6 {number:08}"),
        postal_code: "1015CJ".to_owned(),
        ..Address::default()
    };
    let buyer = Buyer { email: address.email.clone(), name: address.name.clone(), ..Buyer::default() };
    Order {
        marketplace: Marketplace::Bol,
        pii: Pii::new(OrderPii {
            number: format!("A{number:09}"),
            buyer,
            ship_to: Some(address.clone()),
            bill_to: Some(address),
            lines: vec![identified(1), identified(2)],
            ..OrderPii::default()
        }),
        placed_at: now - SignedDuration::from_secs(number.into()),
        updated_at: now,
        first_shipped_at: None,
        status: OrderStatus::Unshipped,
        marketplace_status: "OPEN".to_owned(),
        fulfilment: Fulfilment::Merchant,
        sales_channel: Some("NL".to_owned()),
        country: Some("NL".to_owned()),
        total: money(4_990),
        tax: money(866),
        lines: vec![line(1), line(2)],
    }
}

struct Relay {
    id: ConnectionId,
    key: SecretKey,
    digest_key: DigestKey,
    keyring: Arc<Keyring>,
    limits: Limits,
}

impl Relay {
    fn new(now: Timestamp) -> Result<Self, Failure> {
        let id: ConnectionId = "3f6c2a90-5d1e-4c57-9a0b-6d2f8e1c7b34".parse()?;
        let mut keyring = Keyring::generate(id.clone())?;
        keyring.extend(Grid::new(&id, DAY), now, now + DAY * 91)?;
        let limits = Limits { anonymize_after: DAY * 90, delete_after_shipment: DAY * 30, key_epoch: DAY };
        let digest_key = DigestKey::new(&SecretKey::generate()?);
        Ok(Self { id, key: SecretKey::generate()?, digest_key, keyring: Arc::new(keyring), limits })
    }

    /// From parsed orders to committed pages.
    async fn ingest(
        &self,
        folder: &Path,
        pages: Vec<Vec<Order>>,
        now: Timestamp,
    ) -> Result<(Duration, Vec<Tables>), Failure> {
        let store = Store::open(folder, &self.key, &self.id)?;
        let start = Instant::now();
        for (number, orders) in pages.into_iter().enumerate() {
            let orders = orders.into_iter().map(|order| Prepared::new(order, &self.digest_key)).collect();
            let cursor = Cursor(serde_json::json!({"page": number}));
            let page = ingest::Page { orders, cursor, known_until: Some(now) };
            let (keyring, limits) = (self.keyring.clone(), self.limits);
            store.write(move |connection| ingest::ingest(connection, &page, &keyring, limits, now)).await?;
        }
        let took = start.elapsed();
        let tables = store.read(|connection| Ok(stored(connection)?)).await?;
        store.close().await?;
        Ok((took, tables))
    }
}

/// The rows of one page, as the relay stored them.
struct Tables {
    orders: Vec<Row>,
    lines: Vec<Row>,
    outbox: Vec<Row>,
}

fn rows(connection: &Connection, table: &str, id: &str, page: u32) -> rusqlite::Result<Vec<Row>> {
    let (first, last) = (page * PAGE + 1, (page + 1) * PAGE);
    let mut statement =
        connection.prepare(&format!("SELECT * FROM {table} WHERE {id} BETWEEN ?1 AND ?2 ORDER BY 1, 2"))?;
    let columns = statement.column_count();
    statement.query_map([first, last], |row| (0..columns).map(|index| row.get(index)).collect())?.collect()
}

fn stored(connection: &Connection) -> rusqlite::Result<Vec<Tables>> {
    (0..PAGES)
        .map(|page| {
            Ok(Tables {
                orders: rows(connection, "orders", "id", page)?,
                lines: rows(connection, "order_lines", "order_id", page)?,
                outbox: rows(connection, "outbox", "order_id", page)?,
            })
        })
        .collect()
}

fn insert(connection: &Connection, table: &str, rows: &[Row]) -> rusqlite::Result<()> {
    let places = vec!["?"; rows.first().map_or(1, Vec::len)].join(", ");
    let mut statement = connection.prepare_cached(&format!("INSERT INTO {table} VALUES ({places})"))?;
    for row in rows {
        statement.execute(params_from_iter(row))?;
    }
    Ok(())
}

fn bare(folder: &Path, pages: &[Tables]) -> Result<Duration, Failure> {
    let mut connection = Connection::open(folder.join("bare.db"))?;
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
    connection.execute_batch(SCHEMA)?;
    connection.execute("INSERT INTO relay (id, connection_id) VALUES (1, 'bare')", [])?;
    let start = Instant::now();
    for (number, page) in pages.iter().enumerate() {
        let transaction = connection.transaction()?;
        insert(&transaction, "orders", &page.orders)?;
        insert(&transaction, "order_lines", &page.lines)?;
        insert(&transaction, "outbox", &page.outbox)?;
        let cursor = serde_json::json!({"page": number}).to_string();
        transaction.prepare_cached("UPDATE relay SET cursor = ?1")?.execute([cursor])?;
        transaction.commit()?;
    }
    Ok(start.elapsed())
}

struct Figures {
    min: f64,
    median: f64,
    max: f64,
}

/// Orders per second.
fn figures(mut took: Vec<Duration>) -> Figures {
    took.sort();
    let rate = |duration: Duration| f64::from(PAGES * PAGE) / duration.as_secs_f64();
    let (last, middle) = (took.len() - 1, took.len() / 2);
    Figures { min: rate(took[last]), median: rate(took[middle]), max: rate(took[0]) }
}

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let now = Timestamp::now();
    let relay = Relay::new(now)?;
    let (mut relayed, mut inserted) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
        let page = |page: u32| (page * PAGE..(page + 1) * PAGE).map(|number| order(number, now)).collect();
        let pages = (0..PAGES).map(page).collect();
        let (took, tables) = runtime.block_on(relay.ingest(folder.path(), pages, now))?;
        let bare = bare(folder.path(), &tables)?;
        // The first round warms up.
        if round > 0 {
            relayed.push(took);
            inserted.push(bare);
        }
    }
    let (relayed, inserted) = (figures(relayed), figures(inserted));
    println!("orders per second, {ROUNDS} rounds of {PAGES} pages of {PAGE} orders with two lines");
    println!("{:>8} {:>8} {:>8} {:>8}", "", "min", "median", "max");
    for (name, Figures { min, median, max }) in [("relay", &relayed), ("bare", &inserted)] {
        println!("{name:>8} {min:>8.0} {median:>8.0} {max:>8.0}");
    }
    println!("relay_ingest_ratio {:.2}", relayed.median / inserted.median);
    Ok(())
}
