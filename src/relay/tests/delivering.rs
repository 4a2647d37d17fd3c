//! Delivering: at least once, in order per order, for days, to the destination alone.

use std::{collections::HashMap, time::Duration};

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};
use marketrelay_keyring::Keyring;
use marketrelay_marketplace::OrderStatus;
use std::sync::Arc;

use crate::common::{Answer, Delivery, Destination, ID, Request, eventually, order};

const SOON: Duration = Duration::from_secs(30);

async fn requests(destination: &Destination, count: usize) -> Vec<Request> {
    eventually("requests", SOON, || async {
        let requests = destination.requests();
        (requests.len() >= count).then_some(requests)
    })
    .await
}

async fn reason(delivery: &Delivery, reason: &str) -> String {
    let found = || async {
        let activity = delivery.activity();
        (activity.reason.as_deref() == Some(reason)).then(|| activity.message.unwrap_or_default())
    };
    eventually(reason, SOON, found).await
}

async fn drained(delivery: &Delivery) {
    let empty = || async { (delivery.backlog().await == 0 && delivery.reason().is_none()).then_some(()) };
    eventually("an empty outbox", SOON, empty).await;
}

/// Waits until an attempt that failed is recorded, and says when the next one is due.
async fn backing_off(delivery: &Delivery, failures: u32) -> SignedDuration {
    let row = eventually("a recorded failure", SOON, || async {
        let row = delivery.row().await;
        (row.failures == failures).then_some(row)
    })
    .await;
    // The database keeps whole milliseconds.
    SignedDuration::from_millis(row.next_attempt_at.as_millisecond() - delivery.now().as_millisecond())
}

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
async fn after_410_nothing_is_sent_until_the_url_changes() {
    let (gone, new) = (Destination::start().await, Destination::start().await);
    let mut delivery = Delivery::to(&gone);
    gone.answer([Answer::Status(410)]);
    delivery.ingest(vec![order("A1")]).await;
    delivery.start().await;
    reason(&delivery, "DestinationDisabled").await;
    assert!(delivery.row().await.disabled);
    delivery.pass(SignedDuration::from_hours(24 * 5));
    delivery.start().await;
    reason(&delivery, "DestinationDisabled").await;
    assert_eq!(gone.requests().len(), 1, "a restart doesn't forget it");
    let url = delivery.url.clone();
    delivery.url = format!("{url}?v=2");
    delivery.start().await;
    assert_eq!(requests(&gone, 2).await[1].revisions(), [("A1".to_owned(), 1)]);
    drained(&delivery).await;
    assert!(new.requests().is_empty() && !delivery.row().await.disabled);
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
async fn a_redirect_is_not_followed() {
    let (destination, other) = (Destination::start().await, Destination::start().await);
    let mut delivery = Delivery::to(&destination);
    for status in [301, 302, 303, 307, 308] {
        destination.answer([Answer::Header(status, "location", other.url.clone())]);
    }
    delivery.ingest(vec![order("A1")]).await;
    delivery.start().await;
    for failures in 1..=5 {
        let next = backing_off(&delivery, failures).await;
        delivery.pass(next);
    }
    assert!(reason(&delivery, "DestinationFails").await.contains("redirects aren't followed"));
    drained(&delivery).await;
    assert!(other.requests().is_empty());
    delivery.stop().await;
}

#[tokio::test]
async fn a_private_address_is_refused_by_name_and_by_number() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    delivery.allowed = vec!["10.0.0.0/8"];
    delivery.ingest(vec![order("A1")]).await;
    delivery.start().await;
    assert!(reason(&delivery, "DestinationFails").await.contains("private"));
    assert!(destination.requests().is_empty());
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
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 4, "A2's id stays: {ids:?}");
    delivery.stop().await;
}

#[tokio::test]
async fn a_huge_answer_is_not_read() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    destination.answer([Answer::Endless]);
    delivery.ingest(vec![order("A1")]).await;
    delivery.start().await;
    drained(&delivery).await;
    // What fits into the buffers of both ends was on its way.
    assert!((1..16 << 20).contains(&destination.streamed()), "{}", destination.streamed());
    assert_eq!(destination.requests().len(), 1);
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
async fn an_event_that_is_refused_waits_alone_and_is_not_forgotten() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    destination.refuse(&["\"A7\""]);
    delivery.ingest((0..20).map(|number| order(&format!("A{number}"))).collect()).await;
    delivery.start().await;
    eventually("the others", SOON, || async { (delivery.backlog().await == 1).then_some(()) }).await;
    assert!(reason(&delivery, "ContentRefused").await.contains("1 of the events"));
    delivery.ingest(vec![order("A20")]).await;
    eventually("the next", SOON, || async { (delivery.backlog().await == 1).then_some(()) }).await;
    reason(&delivery, "ContentRefused").await;
    destination.refuse(&[]);
    delivery.pass(SignedDuration::from_mins(10));
    drained(&delivery).await;
    let mut times = HashMap::<_, usize>::new();
    destination
        .requests()
        .iter()
        .flat_map(Request::revisions)
        .for_each(|of| *times.entry(of).or_default() += 1);
    assert_eq!(times.len(), 21);
    delivery.stop().await;
}

#[tokio::test]
async fn a_destination_that_refuses_everything_is_left_alone() {
    let destination = Destination::start().await;
    let mut delivery = Delivery::to(&destination);
    destination.refuse(&["A"]);
    delivery.ingest((0..40).map(|number| order(&format!("A{number}"))).collect()).await;
    delivery.start().await;
    let paused = || async { (delivery.row().await.next_attempt_at > delivery.now()).then_some(()) };
    eventually("a pause", SOON, paused).await;
    let tried = destination.requests().len();
    assert!(tried <= 12, "{tried} requests");
    // Waking it brings no further request before the pause is over.
    delivery.start().await;
    reason(&delivery, "ContentRefused").await;
    assert_eq!(destination.requests().len(), tried);
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
    let counts = delivery.store.read(marketrelay_relay::store::status::counts).await.expect("counts");
    assert_eq!(counts.given_up, 1);
    delivery.stop().await;
}
