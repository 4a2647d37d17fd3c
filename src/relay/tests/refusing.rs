//! What a destination can refuse, and what is refused for it.

use std::collections::HashMap;

use jiff::SignedDuration;

use crate::common::{
    Answer, Delivery, Destination, Request, SOON, backing_off, drained, eventually, order, reason, requests,
};

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
