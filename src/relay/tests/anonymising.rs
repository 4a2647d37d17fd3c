//! At its key's time an order becomes what identifies nobody, and nothing else of it stays.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use marketrelay_keyring::Limits;
use marketrelay_marketplace::OrderStatus;
use rusqlite::types::Value;

use crate::common::{
    Answer, DATABASE_KEY, Delivery, Destination, LIMITS, backing_off, drained, order, remains, requests,
};

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Every row of a table, without the column `id`.
async fn rows(delivery: &Delivery, table: &'static str) -> Vec<Vec<Value>> {
    let read = move |connection: &rusqlite::Connection| {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}"))?;
        let columns: Vec<_> = statement.column_names().map(|name| name != "id").collect();
        let rows = statement.query_map([], |row| {
            (0..columns.len()).filter(|column| columns[*column]).map(|column| row.get(column)).collect()
        })?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    };
    delivery.store.read(read).await.expect("rows")
}

/// When the first key dies that an order is sealed under.
async fn first_key(delivery: &Delivery) -> Timestamp {
    delivery.counts().await.next_deadline.expect("a sealed order")
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[tokio::test]
async fn at_its_keys_time_to_the_second_an_order_is_its_remainder_and_its_event_is_given_up() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![order("A1")]).await;
    let (mut keeper, at) = (delivery.keeper(LIMITS), first_key(&delivery).await);
    delivery.set(at - SignedDuration::from_millis(1));
    assert_eq!(keeper.look().await.expect("a look"), Some(at));
    let counts = delivery.counts().await;
    assert_eq!((counts.orders, counts.with_pii, counts.anonymised, counts.backlog), (1, 1, 0, 1));
    delivery.set(at);
    assert_eq!(keeper.look().await.expect("a look"), None);
    let counts = delivery.counts().await;
    assert_eq!((counts.orders, counts.with_pii, counts.anonymised), (1, 0, 1));
    assert_eq!((counts.backlog, counts.given_up, counts.overdue), (0, 1, 0));
    let month = order("A1").placed_at.strftime("%Y-%m").to_string();
    let shared = [text("bol"), text("DE"), text(&month), text("unshipped")];
    let amounts = |amounts: &[i64]| amounts.iter().copied().map(Value::Integer).collect::<Vec<_>>();
    let whole = [&shared[..], &[text("EUR")], &amounts(&[5_000, 868])].concat();
    assert_eq!(rows(&delivery, "anonymised_orders").await, [whole]);
    let mut lines = rows(&delivery, "anonymised_lines").await;
    lines.sort_by_key(|line| format!("{line:?}"));
    let line = |sku: &str| {
        let middle = [text(sku), Value::Integer(2), text("EUR")];
        [&shared[..], &middle, &amounts(&[1_250, 2_500, 434])].concat()
    };
    assert_eq!(lines, [line("SKU-1"), line("SKU-2")]);
    for table in ["orders", "order_lines", "outbox"] {
        assert!(rows(&delivery, table).await.is_empty(), "{table}");
    }
}

#[tokio::test]
async fn after_it_no_file_holds_digests_titles_or_times_not_even_in_free_pages_or_the_log() {
    let delivery = Delivery::to(&Destination::start().await);
    let mut other = order("A2");
    other.first_shipped_at = Some(delivery.now() - DAY * 20);
    delivery.ingest(vec![other, order("A1")]).await;
    let (mut keeper, at) = (delivery.keeper(LIMITS), first_key(&delivery).await);
    let digest = |number: &str| *delivery.digest_key.order("bol", number).as_bytes();
    let before = remains(delivery.folder(), DATABASE_KEY);
    assert!(before.contain(&digest("A1")) && before.contain(&digest("A2")), "the search finds what is there");
    delivery.set(at);
    keeper.look().await.expect("a look");
    let bytes = remains(delivery.folder(), DATABASE_KEY);
    assert!(bytes.contain(&digest("A1")), "the other order is kept");
    assert!(!bytes.contain(&digest("A2")));
    delivery.set(first_key(&delivery).await);
    keeper.look().await.expect("a look");
    let bytes = remains(delivery.folder(), DATABASE_KEY);
    assert!(!bytes.contain(&digest("A1")) && !bytes.contain(b"Kettle"));
    assert!(bytes.contain(b"SKU-1"), "the remainder is there");
}

#[tokio::test]
async fn a_message_that_holds_an_order_whose_time_has_come_is_dissolved_and_the_others_go_on() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    destination.answer([Answer::Status(500)]);
    let mut shipped = order("A1");
    shipped.first_shipped_at = Some(delivery.now() - DAY * 28);
    delivery.ingest(vec![shipped, order("A2")]).await;
    delivery.start().await;
    backing_off(&delivery, 1).await;
    let mut keeper = delivery.keeper(LIMITS);
    delivery.set(first_key(&delivery).await);
    keeper.look().await.expect("a look");
    assert_eq!(delivery.row().await.message, None);
    delivery.pass(SECOND * 6);
    drained(&delivery).await;
    let sent = requests(&destination, 2).await;
    assert_ne!(sent[0].header("webhook-id"), sent[1].header("webhook-id"));
    assert_eq!(sent[1].revisions(), [("A2".to_owned(), 1)]);
    let counts = delivery.counts().await;
    assert_eq!((counts.given_up, counts.anonymised, counts.with_pii), (1, 1, 1));
    delivery.stop().await;
}

#[tokio::test]
async fn well_before_its_time_a_delivery_that_waits_counts_as_at_risk() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![order("A1")]).await;
    let at = first_key(&delivery).await;
    delivery.set(at - DAY * 3 - SECOND);
    assert_eq!(delivery.counts().await.deliveries_at_risk, 0);
    delivery.set(at - DAY * 3);
    assert_eq!(delivery.counts().await.deliveries_at_risk, 1);
}

#[tokio::test]
async fn what_is_not_anonymised_in_time_is_counted_as_overdue() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![order("A1")]).await;
    delivery.set(first_key(&delivery).await + SECOND * 59);
    assert_eq!(delivery.counts().await.overdue, 0);
    delivery.pass(SECOND);
    assert_eq!(delivery.counts().await.overdue, 1);
    // The keys are of no importance for it.
    drop(delivery.keyring.send_replace(Err("no keyring".to_owned())));
    let mut keeper = delivery.keeper(LIMITS);
    keeper.look().await.expect("a look");
    assert_eq!((delivery.counts().await.overdue, delivery.counts().await.anonymised), (0, 1));
    assert_eq!(keeper.reporter.get().reason.as_deref(), Some("KeyringInvalid"));
}

#[tokio::test]
async fn a_thousand_orders_that_are_due_at_once_are_reduced_each_once() {
    let delivery = Delivery::to(&Destination::start().await);
    let orders = (0..1_000).map(|number| order(&format!("A{number}"))).collect();
    delivery.ingest(orders).await;
    delivery.set(delivery.now() + DAY * 31);
    delivery.keeper(LIMITS).look().await.expect("a look");
    let counts = delivery.counts().await;
    assert_eq!((counts.anonymised, counts.with_pii, counts.given_up), (1_000, 0, 1_000));
    assert_eq!(rows(&delivery, "anonymised_orders").await.len(), 1_000);
    assert_eq!(rows(&delivery, "anonymised_lines").await.len(), 2_000);
    // Pages that were split, merged and freed on the way hold nothing either.
    let bytes = remains(delivery.folder(), DATABASE_KEY);
    for number in (0..1_000).step_by(25) {
        assert!(
            !bytes.contain(delivery.digest_key.order("bol", &format!("A{number}")).as_bytes()),
            "{number}"
        );
    }
    assert!(!bytes.contain(b"Kettle"));
}

#[tokio::test]
async fn a_shipment_that_is_learned_past_the_deadline_reduces_the_order_at_once_to_its_newest_state() {
    let delivery = Delivery::to(&Destination::start().await);
    let first = order("A1");
    let mut shipped = first.clone();
    shipped.status = OrderStatus::Shipped;
    shipped.first_shipped_at = Some(delivery.now() - DAY * 31);
    shipped.updated_at = delivery.now();
    delivery.ingest(vec![first]).await;
    let ingested = delivery.told(vec![shipped], None).await.expect("a page");
    assert_eq!(ingested.dropped, 1);
    let counts = delivery.counts().await;
    assert_eq!((counts.with_pii, counts.anonymised, counts.backlog, counts.given_up), (0, 1, 0, 1));
    assert_eq!(rows(&delivery, "anonymised_orders").await[0][3], text("shipped"));
}

#[tokio::test]
async fn a_keyring_from_before_the_volume_keys_replacement_seals_nothing() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.ingest(vec![order("A1")]).await;
    let old = delivery.keyring.borrow().clone().expect("a keyring");
    let new = crate::common::with_volume(&old, 2);
    drop(delivery.keyring.send_replace(Ok(Arc::new(new.clone()))));
    delivery.keeper(LIMITS).look().await.expect("a look");
    drop(delivery.keyring.send_replace(Ok(old)));
    let refused = delivery.told(vec![order("A2")], None).await.expect_err("refused");
    assert_eq!(refused.category(), "KeyringTooShort");
    // Nor does a relay that starts with it take anything back.
    let short = Limits { delete_after_shipment: DAY * 9, ..LIMITS };
    for limits in [short, LIMITS] {
        let refused = delivery.keeper(limits).look().await.expect_err("refused");
        assert_eq!(refused.category(), "KeyringTooShort");
    }
    assert_eq!(delivery.counts().await.oldest_generation, Some(2));
    drop(delivery.keyring.send_replace(Ok(Arc::new(new))));
    delivery.told(vec![order("A2")], None).await.expect("stored");
}
