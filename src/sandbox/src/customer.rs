//! A customer's endpoint for orders: verifies Standard Webhooks signatures and keeps what came.

use std::collections::{BTreeMap, HashSet};

use aws_lc_rs::hmac;
use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::state::Shared;

const TOLERANCE_SECONDS: i64 = 300;

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/customers/{name}/orders", post(receive))
}

/// What one customer received.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) secrets: Vec<String>,
    pub(crate) summary: Summary,
    pub(crate) events: BTreeMap<String, Received>,
    messages: HashSet<String>,
    /// Per connection and order number.
    orders: BTreeMap<String, BTreeMap<String, Arrived>>,
}

#[derive(Default)]
struct Arrived {
    times: u64,
    newest: u64,
    erased: bool,
}

#[derive(Default, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    pub(crate) messages: u64,
    pub(crate) repeated_messages: u64,
    pub(crate) events: u64,
    pub(crate) repeated_events: u64,
    pub(crate) revisions_out_of_order: u64,
    pub(crate) bad_signatures: u64,
    pub(crate) unreadable: u64,
    pub(crate) erased: u64,
}

/// One event, by its id.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Received {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) connection_id: String,
    pub(crate) marketplace: String,
    pub(crate) number: String,
    pub(crate) revision: u64,
    pub(crate) status: String,
    pub(crate) times: u64,
    pub(crate) at: Timestamp,
    pub(crate) order: Value,
}

#[derive(Deserialize)]
struct Message {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    connection_id: String,
    marketplace: String,
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    id: String,
    revision: u64,
    order: Value,
    #[serde(rename = "type")]
    kind: String,
}

const ERASED: &str = "order.erased";

impl Inbox {
    pub(crate) fn new(secrets: &[String]) -> Self {
        Self { secrets: secrets.to_vec(), ..Self::default() }
    }

    fn take(&mut self, id: &str, message: Message, now: Timestamp) {
        self.summary.messages += 1;
        if !self.messages.insert(id.to_owned()) {
            self.summary.repeated_messages += 1;
        }
        for event in message.data.events {
            self.summary.events += 1;
            let text = |name: &str| event.order[name].as_str().unwrap_or_default().to_owned();
            let (number, erased) = (text("number"), event.kind == ERASED);
            let status = if erased { "erased".to_owned() } else { text("status") };
            let of_connection = self.orders.entry(message.data.connection_id.clone()).or_default();
            let arrived = of_connection.entry(number.clone()).or_default();
            self.summary.erased += u64::from(erased && !arrived.erased);
            arrived.erased |= erased;
            let forget = arrived.erased;
            arrived.times += 1;
            self.summary.revisions_out_of_order += u64::from(arrived.newest > event.revision);
            arrived.newest = arrived.newest.max(event.revision);
            if forget {
                forget_order(&mut self.events, &message.data.connection_id, &number);
            }
            let received = self.events.entry(event.id).or_insert_with(|| Received {
                kind: event.kind,
                connection_id: message.data.connection_id.clone(),
                marketplace: message.data.marketplace.clone(),
                status,
                number,
                revision: event.revision,
                times: 0,
                at: now,
                order: if forget { json!({"number": event.order["number"]}) } else { event.order },
            });
            received.times += 1;
            self.summary.repeated_events += u64::from(received.times > 1);
        }
    }

    /// Unique order numbers.
    pub(crate) fn orders(&self) -> usize {
        self.orders.values().map(BTreeMap::len).sum()
    }

    /// Unique order numbers of each connection.
    pub(crate) fn by_connection(&self) -> BTreeMap<&str, usize> {
        self.orders.iter().map(|(connection, orders)| (connection.as_str(), orders.len())).collect()
    }

    /// How often each order number arrived.
    pub(crate) fn numbers(&self, connection: Option<&str>) -> BTreeMap<&str, u64> {
        let mut numbers = BTreeMap::new();
        let of = self.orders.iter().filter(|(id, _)| connection.is_none_or(|wanted| wanted == id.as_str()));
        for (number, arrived) in of.flat_map(|(_, orders)| orders) {
            *numbers.entry(number.as_str()).or_default() += arrived.times;
        }
        numbers
    }
}

/// As a customer's system should: of an erased order nothing is kept but its number.
fn forget_order(events: &mut BTreeMap<String, Received>, connection: &str, number: &str) {
    let of_order = |event: &&mut Received| event.connection_id == connection && event.number == number;
    for event in events.values_mut().filter(of_order) {
        event.order = json!({"number": number});
    }
}

async fn receive(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut state = shared.lock();
    let Some(inbox) = state.customers.get_mut(&name) else { return StatusCode::NOT_FOUND.into_response() };
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, timestamp, signatures) =
        (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    let now = Timestamp::now();
    if !verified(&inbox.secrets, id, timestamp, signatures, &body, now) {
        inbox.summary.bad_signatures += 1;
        return (StatusCode::UNAUTHORIZED, "the signature is wrong").into_response();
    }
    match serde_json::from_slice(&body) {
        Ok(message) => {
            inbox.take(id, message, now);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => {
            inbox.summary.unreadable += 1;
            (StatusCode::BAD_REQUEST, error.to_string()).into_response()
        }
    }
}

/// Standard Webhooks: HMAC-SHA256 of `id.timestamp.body`, several signatures separated by spaces.
fn verified(
    secrets: &[String],
    id: &str,
    timestamp: &str,
    signatures: &str,
    body: &[u8],
    now: Timestamp,
) -> bool {
    let recent = timestamp.parse::<i64>().is_ok_and(|at| (now.as_second() - at).abs() <= TOLERANCE_SECONDS);
    let mut signed = format!("{id}.{timestamp}.").into_bytes();
    signed.extend_from_slice(body);
    let given =
        || signatures.split(' ').filter_map(|one| BASE64_STANDARD.decode(one.strip_prefix("v1,")?).ok());
    let keys =
        secrets.iter().filter_map(|secret| BASE64_STANDARD.decode(secret.strip_prefix("whsec_")?).ok());
    let mut keys = keys.map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key));
    recent && !id.is_empty() && keys.any(|key| given().any(|tag| hmac::verify(&key, &signed, &tag).is_ok()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn orders_are_counted_by_number_and_connection() {
        let mut inbox = Inbox::new(&[]);
        let mut take = |message: &str, connection: &str, events: &[(&str, u64, &str)]| {
            let events = events.iter().map(|(id, revision, number)| {
                let order = json!({"number": number, "status": "shipped"});
                json!({"id": id, "revision": revision, "order": order, "type": "order.upserted"})
            });
            let events: Vec<_> = events.collect();
            let data = json!({"data": {"connectionId": connection, "marketplace": "bol", "events": events}});
            inbox.take(message, serde_json::from_value(data).expect("a message"), Timestamp::UNIX_EPOCH);
        };
        take("m1", "one", &[("e1", 1, "A"), ("e2", 2, "A"), ("e3", 1, "B")]);
        take("m1", "one", &[("e1", 1, "A")]);
        take("m2", "two", &[("e4", 1, "A")]);
        assert_eq!(inbox.numbers(Some("one")), BTreeMap::from([("A", 3), ("B", 1)]));
        assert_eq!(inbox.numbers(None), BTreeMap::from([("A", 4), ("B", 1)]));
        assert_eq!((inbox.orders(), inbox.by_connection()["one"]), (3, 2));
        let summary = &inbox.summary;
        let told = (summary.repeated_messages, summary.repeated_events, summary.revisions_out_of_order);
        assert_eq!(told, (1, 1, 1));
    }

    #[test]
    fn of_an_erased_order_nothing_but_its_number_is_kept_also_if_an_old_event_comes_late() {
        let mut inbox = Inbox::new(&[]);
        let mut take = |id: &str, kind: &str, revision: u64, order: Value| {
            let event = json!({"id": id, "revision": revision, "order": order, "type": kind});
            let data = json!({"data": {"connectionId": "one", "marketplace": "bol", "events": [event]}});
            inbox.take(id, serde_json::from_value(data).expect("a message"), Timestamp::UNIX_EPOCH);
        };
        take("e1", "order.upserted", 1, json!({"number": "A", "buyer": {"name": "Zoe"}}));
        take("e2", "order.upserted", 1, json!({"number": "B", "buyer": {"name": "Max"}}));
        for _ in 0..2 {
            take("e3", "order.erased", 2, json!({"number": "A"}));
        }
        take("e4", "order.upserted", 1, json!({"number": "A", "buyer": {"name": "Zoe"}}));
        let kept = json!(inbox.events.values().collect::<Vec<_>>()).to_string();
        assert!(!kept.contains("Zoe") && kept.contains("Max"), "{kept}");
        assert_eq!((inbox.summary.erased, inbox.summary.repeated_events), (1, 1));
        assert_eq!(inbox.events["e3"].status, "erased");
    }

    /// The example of the Standard Webhooks specification.
    #[test]
    fn only_a_recent_message_with_the_right_signature_is_taken() {
        let secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()];
        let (id, at) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330");
        let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let body = br#"{"test": 2432232314}"#;
        let then = Timestamp::from_second(1_614_265_400).expect("in range");
        assert!(verified(&secrets, id, at, good, body, then));
        assert!(verified(&secrets, id, at, &format!("v1,AAAA {good}"), body, then));
        assert!(!verified(&secrets, id, at, good, b"{}", then));
        assert!(!verified(&secrets, id, at, "v1,AAAA", body, then));
        let later = Timestamp::from_second(1_614_265_330 + TOLERANCE_SECONDS + 1).expect("in range");
        assert!(!verified(&secrets, id, at, good, body, later));
    }
}
