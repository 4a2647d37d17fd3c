//! The body of a message: canonical JSON under a published schema.

use std::path::Path;

use jiff::Timestamp;
use marketrelay_marketplace::Order;
use marketrelay_relay::{
    deliver::body::{self, Event},
    store::outbox::Content,
};
use proptest::prelude::*;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::common::{Destination, ID, Mounts, amazon, any_order, bol, ebay, eventually, order, sandbox_with};

fn message(orders: &[Order]) -> Zeroizing<Vec<u8>> {
    let events = orders.iter().enumerate().map(|(n, order)| {
        let content = Content::Order(Box::new(order.clone()));
        Event::new(format!("evt_{n:032}"), n as u64 + 1, &content).render().expect("JSON")
    });
    let at = Timestamp::from_millisecond(1_800_000_000_123).expect("in range");
    body::render(ID, orders[0].marketplace, at, &events.collect::<Vec<_>>()).expect("JSON")
}

/// Names in order, no white space: written anew by other means.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut names: Vec<_> = members.keys().collect();
            names.sort();
            let members = names
                .iter()
                .map(|name| format!("{}:{}", Value::from(name.as_str()), canonical(&members[*name])));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

fn validator() -> jsonschema::Validator {
    jsonschema::options().should_validate_formats(true).build(body::schema().as_value()).expect("a schema")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_body_is_canonical_and_the_same_for_the_same_orders(orders in proptest::collection::vec(any_order(), 1..4)) {
        let bytes = message(&orders);
        let value: Value = serde_json::from_slice(&bytes).expect("JSON");
        prop_assert_eq!(std::str::from_utf8(&bytes).expect("UTF-8"), canonical(&value));
        prop_assert_eq!(&message(&orders), &bytes);
        for (event, order) in value["data"]["events"].as_array().expect("events").iter().zip(&orders) {
            let told = &event["order"];
            prop_assert_eq!(told["number"].as_str(), Some(order.pii.expose().number.as_str()));
            prop_assert_eq!(told["total"]["minor"].as_i64(), order.total.as_ref().map(|money| money.minor));
            prop_assert_eq!(told["lines"].as_array().map(Vec::len), Some(order.lines.len()));
        }
    }

    #[test]
    fn every_body_follows_the_schema(orders in proptest::collection::vec(any_order(), 1..4)) {
        let value: Value = serde_json::from_slice(&message(&orders)).expect("JSON");
        let errors: Vec<_> = validator().iter_errors(&value).map(|error| error.to_string()).collect();
        prop_assert!(errors.is_empty(), "{:?}", errors);
    }
}

#[test]
fn the_schema_refuses_what_no_relay_sends() {
    let good: Value = serde_json::from_slice(&message(&[order("A1")])).expect("JSON");
    assert!(validator().is_valid(&good));
    for (pointer, wrong) in [
        ("/data/events/0/revision", Value::from("one")),
        ("/data/events/0/order/number", Value::Null),
        ("/data/events/0/order/placedAt", Value::from("yesterday")),
        ("/data/events/0/order/total/minor", Value::from(12.5)),
        ("/data/marketplace", Value::from("etsy")),
        ("/type", Value::from("invoices")),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect(pointer) = wrong;
        assert!(!validator().is_valid(&bad), "{pointer}");
    }
}

#[test]
fn the_published_schema_is_the_one_that_bodies_follow() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas/orders.schema.json");
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == body::schema_text(),
        "docs/schemas/orders.schema.json is out of date: \
         cargo run -p marketrelay-relay --example schema > docs/schemas/orders.schema.json"
    );
}

#[tokio::test]
async fn the_orders_of_all_three_marketplaces_follow_the_schema_and_are_canonical() {
    let sandbox = sandbox_with([40, 40, 40]).await;
    for marketplace in [amazon(), ebay(), bol()] {
        let destination = Destination::start().await;
        let mut mounts = Mounts::new(&sandbox, marketplace);
        mounts.config.destination.url = destination.url.parse().expect("a URL");
        mounts.config.egress.extra_ca_certificates.push_str(&destination.ca);
        mounts.write_config();
        let relay = mounts.start().await;
        let events = || async {
            let count: usize = destination.requests().iter().map(|request| request.events().len()).sum();
            // Amazon tells what is older than two minutes.
            (count >= 37).then_some(())
        };
        eventually("orders", std::time::Duration::from_mins(1), events).await;
        relay.stop().await;
        for request in destination.requests() {
            let value = request.json();
            let errors: Vec<_> = validator().iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{errors:?}");
            assert_eq!(std::str::from_utf8(&request.body).expect("UTF-8"), canonical(&value));
            assert_eq!(request.header("content-type"), "application/json");
        }
    }
}
