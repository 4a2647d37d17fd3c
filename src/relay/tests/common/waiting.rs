//! Waiting for what a delivery comes to.

use std::time::Duration;

use jiff::SignedDuration;

use super::{Delivery, Destination, Request, eventually};

pub const SOON: Duration = Duration::from_secs(30);

pub async fn requests(destination: &Destination, count: usize) -> Vec<Request> {
    eventually("requests", SOON, || async {
        let requests = destination.requests();
        (requests.len() >= count).then_some(requests)
    })
    .await
}

pub async fn reason(delivery: &Delivery, reason: &str) -> String {
    let found = || async {
        let activity = delivery.activity();
        (activity.reason.as_deref() == Some(reason)).then(|| activity.message.unwrap_or_default())
    };
    eventually(reason, SOON, found).await
}

pub async fn drained(delivery: &Delivery) {
    let empty = || async { (delivery.backlog().await == 0 && delivery.reason().is_none()).then_some(()) };
    eventually("an empty outbox", SOON, empty).await;
}

/// Waits until an attempt that failed is recorded, and says when the next one is due.
pub async fn backing_off(delivery: &Delivery, failures: u32) -> SignedDuration {
    let row = eventually("a recorded failure", SOON, || async {
        let row = delivery.row().await;
        (row.failures == failures).then_some(row)
    })
    .await;
    // The database keeps whole milliseconds.
    SignedDuration::from_millis(row.next_attempt_at.as_millisecond() - delivery.now().as_millisecond())
}
