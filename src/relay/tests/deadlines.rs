//! Deadlines that move: the key follows, and never dies late.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use marketrelay_keyring::{ConnectionId, DestroyAt, Grid, Keyring, Limits};
use marketrelay_marketplace::{Marketplace, Order, OrderStatus};
use marketrelay_relay::store::affected;

use crate::common::{Delivery, Destination, ID, LIMITS, drained, order, requests};

const DAY: SignedDuration = SignedDuration::from_hours(24);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// When the key of the only order dies.
async fn destroyed(delivery: &Delivery) -> Timestamp {
    delivery.counts().await.next_deadline.expect("a sealed order")
}

fn met(deadline: Timestamp, destroyed: Timestamp, epoch: SignedDuration) -> bool {
    destroyed <= deadline && deadline.duration_since(destroyed) < epoch
}

/// Lets so many days pass, a look a day; what is known comes along or not.
async fn days(delivery: &Delivery, count: i32, known: bool) {
    let mut keeper = delivery.keeper(LIMITS);
    for _ in 0..count {
        delivery.pass(DAY);
        if known {
            delivery.told(vec![], Some(delivery.now())).await.expect("a page");
        }
        extend(delivery, DAY, DAY * 91);
        keeper.look().await.expect("a look");
    }
}

/// As the operator does.
fn extend(delivery: &Delivery, epoch: SignedDuration, ahead: SignedDuration) {
    let id: ConnectionId = ID.parse().expect("an id");
    let mut keyring = Keyring::clone(&delivery.keyring.borrow().clone().expect("a keyring"));
    let now = delivery.now();
    keyring.extend(Grid::new(&id, epoch), now, now + ahead).expect("keys");
    keyring.drop_due(now);
    drop(delivery.keyring.send_replace(Ok(Arc::new(keyring))));
}

fn of(marketplace: Marketplace, number: &str) -> Order {
    Order { marketplace, ..order(number) }
}

#[tokio::test]
async fn while_collecting_works_an_open_order_lives_to_its_age_and_dies_then() {
    for marketplace in [Marketplace::Amazon, Marketplace::Ebay, Marketplace::Bol] {
        let delivery = Delivery::to(&Destination::start().await);
        let open = of(marketplace, "A1");
        let age = open.placed_at + DAY * 90;
        delivery.told(vec![open], Some(delivery.now())).await.expect("a page");
        let known = delivery.now();
        assert!(met(known + DAY * 30, destroyed(&delivery).await, DAY));
        for _ in 0..80 {
            days(&delivery, 1, true).await;
            let deadline = (delivery.now() + DAY * 30).min(age);
            assert!(met(deadline, destroyed(&delivery).await, DAY));
        }
        days(&delivery, 11, true).await;
        assert_eq!(delivery.counts().await.anonymised, 1);
    }
}

#[tokio::test]
async fn when_collecting_stops_an_open_order_counts_as_shipped_at_what_was_known() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.told(vec![order("A1")], Some(delivery.now())).await.expect("a page");
    days(&delivery, 5, true).await;
    let deadline = delivery.now() + DAY * 30;
    days(&delivery, 28, false).await;
    assert!(met(deadline, destroyed(&delivery).await, DAY));
    days(&delivery, 2, false).await;
    assert_eq!((delivery.counts().await.with_pii, delivery.counts().await.anonymised), (0, 1));
}

#[tokio::test]
async fn an_order_is_not_sealed_anew_at_each_poll() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.told(vec![order("A1")], Some(delivery.now())).await.expect("a page");
    let mut keeper = delivery.keeper(LIMITS);
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..48 {
        delivery.pass(HOUR);
        delivery.told(vec![], Some(delivery.now())).await.expect("a page");
        keeper.look().await.expect("a look");
        let body = delivery.store.read(|connection| {
            Ok(connection.query_row("SELECT pii FROM orders", [], |row| row.get::<_, Vec<u8>>(0))?)
        });
        keys.insert(body.await.expect("a body"));
    }
    assert!((2..=3).contains(&keys.len()), "{} envelopes in two days", keys.len());
}

#[tokio::test]
async fn a_retention_that_changes_moves_every_order_and_back() {
    let delivery = Delivery::to(&Destination::start().await);
    let (open, mut shipped) = (order("A1"), order("A2"));
    shipped.first_shipped_at = Some(delivery.now() - DAY * 2);
    let first = delivery.now() - DAY * 2;
    delivery.told(vec![open, shipped], Some(delivery.now())).await.expect("a page");
    let short = Limits { delete_after_shipment: DAY * 10, ..LIMITS };
    for (limits, days) in [(short, 10), (LIMITS, 30)] {
        delivery.keeper(limits).look().await.expect("a look");
        assert!(met(first + DAY * days, destroyed(&delivery).await, DAY), "{days}");
        assert_eq!(delivery.counts().await.with_pii, 2);
    }
    // Its new deadline has passed: it goes now. The other one stays.
    let shorter = Limits { delete_after_shipment: DAY, key_epoch: HOUR, ..LIMITS };
    delivery.keeper(shorter).look().await.expect("a look");
    assert_eq!((delivery.counts().await.with_pii, delivery.counts().await.anonymised), (1, 1));
}

/// When the key of each order dies, by its number; `None`: it is reduced.
async fn keys(delivery: &Delivery) -> Vec<Option<i64>> {
    let read = delivery.store.read(|connection| {
        let mut statement = connection.prepare("SELECT id, destroy_at FROM orders")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, usize>(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<Vec<(usize, i64)>, _>>()?)
    });
    let mut keys = vec![None; 12];
    for (id, destroy_at) in read.await.expect("orders") {
        keys[id - 1] = Some(destroy_at);
    }
    keys
}

#[tokio::test]
async fn who_is_counted_as_affected_by_a_retention_is_whom_it_takes_something_from() {
    for (anonymize_days, delete_days) in
        [(90, 30), (90, 20), (30, 30), (15, 30), (91, 5), (2, 30), (1, 1), (200, 40)]
    {
        let delivery = Delivery::to(&Destination::start().await);
        let now = delivery.now();
        let orders = (0..12).map(|n| {
            let mut order = order(&format!("A{n}"));
            order.placed_at = now - DAY * (5 * n) - HOUR;
            order.first_shipped_at = (n % 3 == 0).then(|| now - DAY * (2 * n) - HOUR);
            order
        });
        delivery.told(orders.collect(), Some(now - HOUR)).await.expect("a page");
        let limits = Limits {
            anonymize_after: DAY * anonymize_days,
            delete_after_shipment: DAY * delete_days,
            ..LIMITS
        };
        let count = move |connection: &rusqlite::Connection| {
            affected::affected(connection, limits.anonymize_after, limits.delete_after_shipment, now)
        };
        let told = delivery.store.read(count).await.expect("a count");
        let before = keys(&delivery).await;
        delivery.keeper(limits).look().await.expect("a look");
        let lost = before.into_iter().zip(keys(&delivery).await).filter(|(before, after)| after < before);
        assert_eq!(told, u64::try_from(lost.count()).expect("few"), "{anonymize_days} {delete_days}");
    }
}

#[tokio::test]
async fn with_a_finer_epoch_an_order_waits_for_its_key_and_goes_in_time_without_it() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.told(vec![order("A1")], Some(delivery.now())).await.expect("a page");
    let epoch = SignedDuration::from_mins(1);
    let first =
        delivery.keyring.borrow().clone().expect("a keyring").live(delivery.now()).next().expect("a key");
    // The first key dies in more than ten minutes; the order must be gone before that.
    let first = Timestamp::from_second(first.as_second()).expect("in range");
    delivery.set(first - HOUR);
    delivery.told(vec![], Some(delivery.now())).await.expect("a page");
    let short = Limits { delete_after_shipment: SignedDuration::from_mins(10), key_epoch: epoch, ..LIMITS };
    let deadline = Timestamp::from_millisecond(delivery.now().as_millisecond()).expect("in range")
        + SignedDuration::from_mins(10);
    let mut keeper = delivery.keeper(short);
    assert_eq!(keeper.look().await.expect("a look"), Some(deadline));
    assert_eq!(delivery.counts().await.with_pii, 1);
    extend(&delivery, epoch, HOUR);
    keeper.look().await.expect("a look");
    assert!(met(deadline, destroyed(&delivery).await, epoch));
    // And one whose key doesn't come at all.
    let coarse = Keyring::clone(&delivery.keyring.borrow().clone().expect("a keyring"));
    delivery.keeper(LIMITS).look().await.expect("a look");
    let grid: std::collections::BTreeSet<DestroyAt> = Grid::new(&ID.parse().expect("an id"), DAY)
        .points(delivery.now(), delivery.now() + DAY * 91)
        .collect();
    let entries = coarse.entries();
    let kept = entries.iter().filter(|(name, _)| name.parse().ok().is_none_or(|name| grid.contains(&name)));
    let coarse = Keyring::from_entries(kept.map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    drop(delivery.keyring.send_replace(Ok(Arc::new(coarse.expect("a keyring")))));
    let mut keeper = delivery.keeper(short);
    assert_eq!(keeper.look().await.expect("a look"), Some(deadline));
    delivery.set(deadline);
    keeper.look().await.expect("a look");
    assert_eq!(delivery.counts().await.anonymised, 1);
}

#[tokio::test]
async fn an_older_state_with_an_earlier_shipment_moves_the_deadline_and_is_told() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    let first = order("A1");
    let mut newest = first.clone();
    newest.status = OrderStatus::Shipped;
    newest.first_shipped_at = Some(delivery.now() - DAY * 2);
    newest.updated_at = delivery.now();
    let mut older = first.clone();
    older.first_shipped_at = Some(delivery.now() - DAY * 9);
    let earliest = delivery.now() - DAY * 9;
    delivery.ingest(vec![newest.clone()]).await;
    delivery.ingest(vec![older.clone()]).await;
    assert!(met(earliest + DAY * 30, destroyed(&delivery).await, DAY));
    delivery.start().await;
    let sent = requests(&destination, 1).await;
    assert_eq!(sent[0].revisions(), [("A1".to_owned(), 2)]);
    let told = &sent[0].events()[0]["order"];
    assert_eq!(
        (told["status"].as_str(), told["marketplaceStatus"].as_str()),
        (Some("shipped"), Some("OPEN"))
    );
    drained(&delivery).await;
    // Neither again says anything new, nor makes it later.
    delivery.ingest(vec![older, newest.clone()]).await;
    assert_eq!(delivery.backlog().await, 0);
    newest.status = OrderStatus::Refunded;
    newest.updated_at += HOUR;
    delivery.ingest(vec![newest]).await;
    assert_eq!(requests(&destination, 2).await[1].revisions(), [("A1".to_owned(), 3)]);
    assert!(met(earliest + DAY * 30, destroyed(&delivery).await, DAY));
    delivery.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_and_forth_changes_nothing_that_is_not_due() {
    let delivery = Delivery::to(&Destination::start().await);
    delivery.told(vec![order("A1")], Some(delivery.now())).await.expect("a page");
    let (now, before) = (delivery.now(), destroyed(&delivery).await);
    for step in [DAY * 20, -DAY * 400, DAY * 3] {
        delivery.set(now + step);
        delivery.keeper(LIMITS).look().await.expect("a look");
    }
    delivery.set(now);
    delivery.keeper(LIMITS).look().await.expect("a look");
    assert_eq!((destroyed(&delivery).await, delivery.counts().await.anonymised), (before, 0));
}
