//! Delivering: at least once, in order per order, for days.

use std::{collections::HashSet, sync::Arc};

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};
use marketrelay_keyring::Keyring;
use marketrelay_marketplace::OrderStatus;

use crate::common::{
    Answer, Delivery, Destination, ID, Request, backing_off, drained, order, reason, requests,
};

#[tokio::test]
async fn an_event_id_is_made_of_connection_order_and_revision() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    delivery.ingest(vec![order("A1")]).await;
    delivery.start().await;
    let events = requests(&destination, 1).await[0].events();
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(ID.as_bytes());
    context.update(delivery.digest_key.order("bol", "A1").as_bytes());
    context.update(&1_u64.to_be_bytes());
    let hex: String = context.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(events[0]["id"], format!("evt_{hex}"));
    delivery.stop().await;
}

#[tokio::test]
async fn a_repeated_message_has_the_same_id_and_the_same_bytes_also_after_a_restart() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    destination.answer([Answer::Status(500), Answer::Status(503)]);
    delivery.ingest(vec![order("A1"), order("A2")]).await;
    delivery.start().await;
    backing_off(&delivery, 1).await;
    delivery.pass(SignedDuration::from_secs(6));
    backing_off(&delivery, 2).await;
    delivery.start().await;
    // What arrives meanwhile isn't put into a message that was begun.
    delivery.ingest(vec![order("A3")]).await;
    delivery.pass(SignedDuration::from_mins(6));
    let sent = requests(&destination, 4).await;
    for again in &sent[1..3] {
        assert_eq!(again.header("webhook-id"), sent[0].header("webhook-id"));
        assert_eq!(again.body, sent[0].body);
        assert_ne!(again.header("webhook-timestamp"), sent[0].header("webhook-timestamp"));
    }
    assert_ne!(sent[3].header("webhook-id"), sent[0].header("webhook-id"));
    assert_eq!(sent[3].revisions(), [("A3".to_owned(), 1)]);
    drained(&delivery).await;
    delivery.stop().await;
}

#[tokio::test]
async fn the_destination_says_when_to_come_again() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    let after = |seconds: &str| Answer::Header(503, "retry-after", seconds.to_owned());
    destination.answer([after("7200"), after("9999999")]);
    delivery.ingest(vec![order("A1")]).await;
    delivery.start().await;
    assert_eq!(backing_off(&delivery, 1).await, SignedDuration::from_hours(2));
    delivery.pass(SignedDuration::from_mins(119));
    reason(&delivery, "DestinationFails").await;
    assert_eq!(destination.requests().len(), 1);
    delivery.pass(SignedDuration::from_mins(1));
    assert_eq!(backing_off(&delivery, 2).await, SignedDuration::from_hours(24), "at most a day");
    delivery.stop().await;
}

#[tokio::test]
async fn an_order_that_changes_while_its_event_waits_arrives_once_and_never_backwards() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    destination.answer([Answer::Status(500)]);
    delivery.ingest(vec![order("A1"), order("A2")]).await;
    delivery.start().await;
    let wait = backing_off(&delivery, 1).await;
    let changed = |status: OrderStatus| {
        let mut changed = order("A1");
        changed.status = status;
        changed.updated_at = Timestamp::now();
        changed
    };
    delivery.ingest(vec![changed(OrderStatus::Shipped)]).await;
    delivery.pass(wait);
    drained(&delivery).await;
    delivery.ingest(vec![changed(OrderStatus::Refunded)]).await;
    drained(&delivery).await;
    let sent = destination.requests();
    let a1 = sent.iter().flat_map(Request::revisions).filter(|(number, _)| number == "A1");
    assert_eq!(a1.map(|(_, revision)| revision).collect::<Vec<_>>(), [1, 2, 3]);
    assert_ne!(sent[1].header("webhook-id"), sent[0].header("webhook-id"), "other content, other message");
    let ids: Vec<_> = sent.iter().flat_map(Request::events).map(|event| event["id"].clone()).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 4, "A2's id stays: {ids:?}");
    delivery.stop().await;
}

#[tokio::test]
async fn a_destination_that_is_down_for_days_gets_everything_when_it_is_back() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    destination.answer((0..11).map(|_| Answer::Status(502)));
    delivery.ingest((0..30).map(|number| order(&format!("A{number}"))).collect()).await;
    delivery.start().await;
    let mut down = SignedDuration::ZERO;
    for failures in 1..=11 {
        let next = backing_off(&delivery, failures).await;
        down += next;
        delivery.pass(next);
    }
    assert!(down > SignedDuration::from_hours(24 * 4), "{down:?}");
    drained(&delivery).await;
    let sent = destination.requests();
    assert_eq!((sent.len(), sent[11].events().len()), (12, 30));
    delivery.stop().await;
}

#[tokio::test]
async fn a_message_holds_no_more_events_and_bytes_than_configured() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    delivery.batch.max_events = 7;
    delivery.ingest((0..20).map(|number| order(&format!("A{number}"))).collect()).await;
    delivery.start().await;
    drained(&delivery).await;
    let counts: Vec<_> = destination.requests().iter().map(|request| request.events().len()).collect();
    assert_eq!(counts, [7, 7, 6]);
    delivery.stop().await;
    delivery.batch.max_bytes = 4_000;
    delivery.ingest((20..40).map(|number| order(&format!("A{number}"))).collect()).await;
    delivery.start().await;
    drained(&delivery).await;
    let messages = &destination.requests()[3..];
    assert!(messages.iter().all(|request| request.body.len() <= 4_200), "{}", messages[0].body.len());
    assert_eq!(messages.iter().flat_map(Request::events).count(), 20);
    delivery.stop().await;
}

#[tokio::test]
async fn an_event_whose_orders_key_has_died_is_given_up_and_counted() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    let mut old = order("A1");
    old.first_shipped_at = Some(old.placed_at - SignedDuration::from_hours(24 * 28));
    delivery.ingest(vec![old, order("A2")]).await;
    delivery.pass(SignedDuration::from_hours(24 * 3));
    let mut keyring = Keyring::clone(&delivery.keyring.borrow().clone().expect("a keyring"));
    keyring.drop_due(delivery.now());
    drop(delivery.keyring.send_replace(Ok(Arc::new(keyring))));
    delivery.start().await;
    drained(&delivery).await;
    let sent: Vec<_> = destination.requests().iter().flat_map(Request::revisions).collect();
    assert_eq!(sent, [("A2".to_owned(), 1)]);
    let counts = delivery.counts().await;
    assert_eq!(counts.given_up, 1);
    delivery.stop().await;
}
