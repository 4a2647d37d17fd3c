use jiff::{SignedDuration, Timestamp};
use marketrelay_marketplace::{OrderStatus, ebay::Ebay};
use serde_json::{Value, json};

use crate::server::{Call, Reply, Server, collect, credentials, failed, http, now, ok};

fn client(server: &Server) -> Ebay {
    Ebay::new(http(), server.endpoints.clone(), credentials())
}

fn since() -> Timestamp {
    now() - SignedDuration::from_mins(30)
}

fn order(number: &str, changed: Timestamp) -> Value {
    json!({
        "orderId": number, "creationDate": "2026-06-01T10:00:00.000Z", "lastModifiedDate": changed.to_string(),
        "orderFulfillmentStatus": "NOT_STARTED", "orderPaymentStatus": "PAID",
    })
}

/// Orders by the time of their last change, listed in a fixed order.
struct Live(Vec<(String, Timestamp)>);

impl Live {
    fn new(orders: usize) -> Self {
        let spread = |n: usize| SignedDuration::from_millis(i64::try_from(n).expect("few") * 1500);
        Self((0..orders).map(|n| (format!("{n:04}"), since() + spread(n))).collect())
    }

    fn numbers(&self) -> Vec<String> {
        self.0.iter().map(|(number, _)| number.clone()).collect()
    }

    fn answer(&self, call: &Call) -> Reply {
        let range = call.query["filter"].trim_start_matches("lastmodifieddate:[").trim_end_matches(']');
        let (from, to) = range.split_once("..").expect("a range");
        let (from, to): (Timestamp, Timestamp) = (from.parse().expect("a time"), to.parse().expect("a time"));
        let inside: Vec<_> = self.0.iter().filter(|(_, at)| (from..=to).contains(at)).collect();
        let page = inside.iter().skip(call.number("offset")).take(call.number("limit"));
        let orders: Vec<_> = page.map(|(number, at)| order(number, *at)).collect();
        ok(json!({"total": inside.len(), "orders": orders}))
    }

    /// An order changes: it leaves every window that ended before.
    fn touch(&mut self, n: usize) {
        self.0[n].1 = now() + SignedDuration::from_mins(1);
    }
}

#[tokio::test]
async fn both_dates_would_hide_changes_so_the_change_date_is_sent_alone() {
    let live = Live::new(3);
    let server = Server::start(move |call| live.answer(call)).await;
    collect(&mut client(&server), since()).await;
    let call = server.questions().remove(0);
    assert!(call.query["filter"].starts_with("lastmodifieddate:["), "{:?}", call.query);
    assert!(!call.query["filter"].contains("creationdate"), "{:?}", call.query);
    assert_eq!((call.number("limit"), call.query["fieldGroups"].as_str()), (200, "TAX_BREAKDOWN"));
    assert_eq!(call.header("authorization"), "Bearer token");
}

#[tokio::test]
async fn paging_goes_to_the_end_beyond_the_first_hundreds() {
    let live = Live::new(970);
    let expected = live.numbers();
    let server = Server::start(move |call| live.answer(call)).await;
    let collected = collect(&mut client(&server), since()).await;
    assert_eq!(collected.numbers(), expected);
    let offsets: Vec<_> = server.questions().iter().map(|call| call.number("offset")).collect();
    assert_eq!(offsets, [0, 190, 380, 570, 760, 950], "each page begins with the end of the one before");
}

/// Between the first and the second page so many orders leave the list, and all others move up.
#[tokio::test]
async fn orders_that_leave_the_live_set_hide_no_other() {
    for leaving in [1, 9, 10, 11, 60, 199] {
        let mut live = Live::new(450);
        let mut calls = 0;
        let expected = live.numbers();
        let server = Server::start(move |call| {
            calls += 1;
            if calls == 2 {
                (0..leaving).for_each(|n| live.touch(n));
            }
            live.answer(call)
        })
        .await;
        let collected = collect(&mut client(&server), since()).await;
        assert_eq!(collected.numbers(), expected, "{leaving} left");
        let restarts = server.questions().iter().filter(|call| call.number("offset") == 0).count();
        assert_eq!(restarts > 1, leaving >= 10, "{leaving} left: {restarts}");
    }
}

#[tokio::test]
async fn a_page_that_repeats_is_a_gap_and_nothing_is_skipped() {
    let live = Live::new(450);
    let expected = live.numbers();
    let mut repeat = true;
    let server = Server::start(move |call| {
        let mut call = call.clone();
        if call.number("offset") == 190 && std::mem::take(&mut repeat) {
            call.query.insert("offset".to_owned(), "0".to_owned());
        }
        live.answer(&call)
    })
    .await;
    let collected = collect(&mut client(&server), since()).await;
    assert_eq!(collected.failures, ["ListingGap"]);
    assert_eq!(collected.numbers(), expected);
}

#[tokio::test]
async fn an_empty_page_before_the_end_doesn_t_end_the_window() {
    let live = Live::new(450);
    let expected = live.numbers();
    let mut empty = true;
    let server = Server::start(move |call| {
        if call.number("offset") > 0 && std::mem::take(&mut empty) {
            return ok(json!({"total": 450, "orders": []}));
        }
        live.answer(call)
    })
    .await;
    let collected = collect(&mut client(&server), since()).await;
    assert_eq!(collected.numbers(), expected);
}

#[tokio::test]
async fn a_failed_call_for_parcels_loses_no_order() {
    let mut calls = 0;
    let server = Server::start(move |call| {
        if call.path.ends_with("shipping_fulfillment") {
            calls += 1;
            let parcel = json!({"shippedDate": "2026-06-01T11:50:00.000Z", "lineItems": []});
            return if calls == 2 { failed(500) } else { ok(json!({"fulfillments": [parcel]})) };
        }
        let orders: Vec<_> = ["1", "2", "3"]
            .iter()
            .map(|number| {
                let mut order = order(number, since());
                order["orderFulfillmentStatus"] = json!("FULFILLED");
                order
            })
            .collect();
        ok(json!({"total": 3, "orders": orders}))
    })
    .await;
    let collected = collect(&mut client(&server), since()).await;
    assert_eq!(collected.failures, ["MarketplaceUnavailable"]);
    assert_eq!(collected.numbers(), ["1", "2", "3"]);
    let shipped = collected
        .orders
        .values()
        .all(|order| order.status == OrderStatus::Shipped && order.first_shipped_at.is_some());
    assert!(shipped);
    let parcels = server.questions().iter().filter(|call| call.path.ends_with("fulfillment")).count();
    assert_eq!(parcels, 4, "what is known of an unchanged order is not asked for again");
}
