use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use marketrelay_marketplace::{Collector, OrderStatus, bol::Bol};
use serde_json::json;

use crate::server::{Reply, Server, collect, credentials, failed, http, now, ok};
use crate::shop::{Shop, reduced};

pub fn client(server: &Server) -> Bol {
    Bol::new(http(), server.endpoints.clone(), credentials())
}

fn ago(minutes: i64) -> Timestamp {
    now() - SignedDuration::from_mins(minutes)
}

/// Limits that never make a test wait.
fn generous() -> Reply {
    let limit = |path: &str| json!({"path": path, "methods": "GET", "maxCapacity": 100_000, "timeToLive": 1, "timeUnit": "SECONDS"});
    let paths =
        ["/retailer/orders", "/retailer/orders/{id}", "/retailer/shipments", "/retailer/shipments/{id}"];
    ok(paths.iter().map(|path| limit(path)).collect())
}

/// `change` is told of every call to the listing of orders, by its count from 1, before it is answered.
async fn open(
    shop: Shop,
    mut change: impl FnMut(usize, &mut Shop) -> Option<Reply> + Send + 'static,
) -> Server {
    let (mut shop, mut listings) = (shop, 0);
    Server::start(move |call| {
        if call.path.ends_with("/ratelimits") {
            return generous();
        }
        if call.path == "/retailer/orders" {
            listings += 1;
            if let Some(reply) = change(listings, &mut shop) {
                return reply;
            }
        }
        shop.answer(call)
    })
    .await
}

#[tokio::test]
async fn every_order_comes_with_its_details_and_its_parcels() {
    let mut shop = Shop::new(3);
    shop.orders[1].shipped = true;
    let server = open(shop, |_, _| None).await;
    let collected = collect(&mut client(&server), ago(30)).await;
    assert_eq!(collected.numbers(), ["A0000", "A0001", "A0002"]);
    let shipped = &collected.orders["A0001"];
    assert_eq!((shipped.status, shipped.first_shipped_at), (OrderStatus::Shipped, Some(ago(20))));
    assert_eq!(shipped.pii.expose().shipments[0].tracking_number, "3S");
    let calls = server.questions();
    let details = calls.iter().filter(|call| call.path.starts_with("/retailer/orders/")).count();
    assert_eq!(details, 3, "one call for each order");
    let typed = calls.iter().filter(|call| !call.path.ends_with("/ratelimits"));
    assert!(typed.clone().all(|call| call.header("accept") == "application/vnd.retailer.v10+json"));
    let listing = calls.iter().find(|call| call.path == "/retailer/orders").expect("a listing");
    assert_eq!(
        (listing.query["status"].as_str(), listing.query["fulfilment-method"].as_str()),
        ("ALL", "ALL")
    );
}

#[tokio::test]
async fn new_orders_come_first_and_push_none_out_of_sight() {
    let server = open(Shop::new(120), |listing, shop| {
        if listing == 2 {
            (0..70).for_each(|_| shop.add(ago(1)));
        }
        None
    })
    .await;
    let collected = collect(&mut client(&server), ago(30)).await;
    let missing: Vec<_> =
        Shop::new(190).numbers().into_iter().filter(|n| !collected.orders.contains_key(n)).collect();
    assert_eq!(missing, [] as [String; 0]);
}

#[tokio::test]
async fn orders_that_leave_the_listing_hide_no_other() {
    let expected = Shop::new(120).numbers();
    let server = open(Shop::new(120), |listing, shop| {
        if listing == 2 {
            // The newest twenty were read already; now they are out of the interval.
            shop.orders[100..].iter_mut().for_each(|order| order.changed = ago(300));
        }
        None
    })
    .await;
    let collected = collect(&mut client(&server), ago(30)).await;
    assert_eq!(collected.numbers(), expected);
}

#[tokio::test]
async fn a_shop_that_never_rests_doesn_t_keep_a_window_open() {
    let server = open(Shop::new(120), |_, shop| {
        shop.add(now() + SignedDuration::from_secs(1));
        None
    })
    .await;
    let collected = collect(&mut client(&server), ago(30)).await;
    assert!(collected.orders.len() >= 120);
    let listings = server.questions().iter().filter(|call| call.path == "/retailer/orders").count();
    assert!(listings < 20, "{listings}");
}

#[tokio::test]
async fn a_page_that_repeats_is_a_gap_and_nothing_is_skipped() {
    let first = Arc::new(Mutex::new(None));
    let server = open(Shop::new(120), move |listing, shop| {
        let page = |n: usize| {
            let orders: Vec<_> = shop.orders.iter().rev().skip((n - 1) * 50).take(50).map(reduced).collect();
            json!({"orders": orders})
        };
        let mut first = first.lock().expect("no panic");
        match listing {
            1 => {
                *first = Some(page(1));
                None
            }
            2 => first.take().map(ok),
            _ => None,
        }
    })
    .await;
    let collected = collect(&mut client(&server), ago(30)).await;
    assert_eq!(collected.failures, ["ListingGap"]);
    assert_eq!(collected.numbers(), Shop::new(120).numbers());
}

#[tokio::test]
async fn a_page_that_isn_t_full_doesn_t_end_the_listing() {
    let server = open(Shop::new(120), |_, _| None).await;
    let collected = collect(&mut client(&server), ago(30)).await;
    let pages: Vec<_> = server
        .questions()
        .iter()
        .filter(|call| call.path == "/retailer/orders")
        .map(|call| call.number("page"))
        .collect();
    assert_eq!(pages, [1, 2, 3, 4, 1, 2, 3, 4], "up to an empty page, and again until nothing is new");
    let details = server.questions().iter().filter(|call| call.path.starts_with("/retailer/orders/")).count();
    assert_eq!((collected.orders.len(), details), (120, 120), "what is known is not asked for again");
}

#[tokio::test]
async fn handled_orders_that_are_listed_no_more_are_found_by_their_shipments() {
    let mut shop = Shop::new(4);
    for (n, hours) in [(0, 70), (1, 60), (2, 10)] {
        shop.orders[n].changed = now() - SignedDuration::from_hours(hours);
        shop.orders[n].placed = shop.orders[n].changed;
        shop.orders[n].shipped = true;
    }
    shop.orders.sort_by_key(|order| order.changed);
    let server = open(shop, |_, _| None).await;
    let collected = collect(&mut client(&server), now() - SignedDuration::from_hours(65)).await;
    assert!(
        ["A0001", "A0002", "A0003"].iter().all(|number| collected.orders.contains_key(*number)),
        "{:?}",
        collected.numbers()
    );
    assert_eq!(collected.orders["A0001"].marketplace_status, "HANDLED");
    let details = server.questions().iter().filter(|call| call.path.ends_with("/orders/A0002")).count();
    assert_eq!(details, 1, "what the days have shown isn't asked for again");
    let methods =
        server.questions().into_iter().filter_map(|call| call.query.get("fulfilment-method").cloned());
    let mut methods: Vec<_> = methods.filter(|method| method != "ALL").collect();
    methods.dedup();
    assert_eq!(methods, ["FBR", "FBB"], "the listing of shipments knows no ALL");
}

#[tokio::test]
async fn an_outage_of_days_is_caught_up_day_by_day() {
    let mut shop = Shop::new(6);
    for (n, order) in (0_i64..).zip(&mut shop.orders) {
        order.changed = now() - SignedDuration::from_hours(n * 8);
    }
    let expected = shop.numbers();
    let server = open(shop, |_, _| None).await;
    let collected = collect(&mut client(&server), now() - SignedDuration::from_hours(41)).await;
    assert_eq!(collected.numbers(), expected);
    let asked: Vec<_> =
        server.questions().iter().filter_map(|call| call.query.get("latest-change-date").cloned()).collect();
    assert!(
        asked.iter().any(|day| day == "2026-05-30") && asked.iter().any(|day| day == "2026-06-01"),
        "{asked:?}"
    );
    let watermark = collected.cursor.expect("a cursor").0["watermark"].clone();
    assert_eq!(watermark, json!(now().to_string()));
}

#[tokio::test]
async fn a_failed_call_for_details_loses_no_order_and_no_pass() {
    let (mut shop, mut details, mut listings) = (Shop::new(60), 0, 0);
    let expected = shop.numbers();
    let server = Server::start(move |call| {
        if call.path.ends_with("/ratelimits") {
            return generous();
        }
        if call.path.starts_with("/retailer/orders/") {
            details += 1;
            if [3, 56].contains(&details) {
                return failed(500);
            }
        }
        if call.path == "/retailer/orders" {
            listings += 1;
            if listings == 4 {
                shop.orders[59].changed = ago(300);
            }
        }
        shop.answer(call)
    })
    .await;
    let collected = collect(&mut client(&server), ago(30)).await;
    assert!(!collected.failures.is_empty());
    assert_eq!(collected.numbers(), expected);
}

#[tokio::test]
async fn an_order_that_is_gone_for_good_stops_no_other() {
    let mut shop = Shop::new(2);
    (shop.orders[0].placed, shop.orders[0].changed) = (ago(61), ago(61));
    let server = Server::start(move |call| {
        let gone = call.path.ends_with("/orders/A0000");
        if call.path.ends_with("/ratelimits") {
            generous()
        } else if gone {
            failed(404)
        } else {
            shop.answer(call)
        }
    })
    .await;
    assert_eq!(collect(&mut client(&server), ago(90)).await.numbers(), ["A0001"]);
}

#[tokio::test]
async fn an_order_that_was_just_listed_is_asked_for_again_when_its_details_are_missing() {
    let (shop, mut missing) = (Shop::new(2), 2);
    let server = Server::start(move |call| {
        if call.path.ends_with("/ratelimits") {
            return generous();
        }
        if call.path.ends_with("/orders/A0000") && missing > 0 {
            missing -= 1;
            return failed(404);
        }
        shop.answer(call)
    })
    .await;
    let collected = collect(&mut client(&server), ago(30)).await;
    assert_eq!(collected.failures, ["UnexpectedAnswer"; 2]);
    assert_eq!(collected.numbers(), ["A0000", "A0001"]);
}

#[tokio::test]
async fn a_window_is_known_up_to_its_beginning() {
    let server = open(Shop::new(1), |_, _| None).await;
    let mut client = client(&server);
    let cursor = client.start(ago(30));
    let first = client.page(&cursor, now()).await.expect("a page");
    assert_eq!((first.known_until, first.more), (None, true));
    let last = client.page(&first.cursor, now() + SignedDuration::from_secs(5)).await.expect("a page");
    assert_eq!((last.known_until, last.more), (Some(now()), false));
}
