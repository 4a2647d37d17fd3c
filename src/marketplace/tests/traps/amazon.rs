use jiff::{SignedDuration, Timestamp};
use marketrelay_marketplace::{Collector, Order, amazon::Amazon};
use serde_json::{Value, json};

use crate::server::{Call, Reply, Server, collect, credentials, failed, http, now, ok};

pub fn client(server: &Server) -> Amazon {
    Amazon::new(http(), server.endpoints.clone(), credentials(), &["A1PA6795UKMFR9".to_owned()])
}

fn since() -> Timestamp {
    now() - SignedDuration::from_mins(30)
}

fn order(n: usize) -> Value {
    json!({
        "orderId": format!("{n:03}"), "createdTime": "2026-06-01T11:00:00Z",
        "lastUpdatedTime": "2026-06-01T11:40:00Z", "salesChannel": {"channelName": "AMAZON"},
        "orderItems": [{"orderItemId": "1", "quantityOrdered": 1, "product": {}}],
    })
}

/// The `n`th page of three orders, of so many pages.
fn page(n: usize, pages: usize) -> Reply {
    let mut body = json!({"orders": (n * 3..n * 3 + 3).map(order).collect::<Vec<_>>()});
    if n + 1 < pages {
        body["pagination"] = json!({"nextToken": format!("{}", n + 1)});
    }
    ok(body)
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("{n:03}")).collect()
}

#[tokio::test]
async fn paging_goes_to_the_end() {
    let server = Server::start(|call| page(call.number("paginationToken"), 4)).await;
    let collected = collect(&mut client(&server), since()).await;
    assert_eq!(collected.numbers(), numbers(0..12));
    assert_eq!(server.questions().len(), 4);
}

#[tokio::test]
async fn a_search_names_one_window_by_change_that_ended_two_minutes_ago() {
    let server = Server::start(|_| page(0, 1)).await;
    collect(&mut client(&server), since()).await;
    let call = server.questions().remove(0);
    let mut names: Vec<_> = call.query.keys().map(String::as_str).collect();
    names.sort_unstable();
    let expected =
        ["includedData", "lastUpdatedAfter", "lastUpdatedBefore", "marketplaceIds", "maxResultsPerPage"];
    assert_eq!(names, expected);
    let before: Timestamp = call.query["lastUpdatedBefore"].parse().expect("a time");
    assert!(now().duration_since(before) >= SignedDuration::from_mins(2), "{before}");
    assert!((1..=100).contains(&call.number("maxResultsPerPage")));
    assert_eq!((call.header("x-amz-access-token"), call.header("authorization")), ("token", ""));
}

#[tokio::test]
async fn windows_overlap_since_a_change_may_be_listed_late() {
    let server = Server::start(|_| page(0, 1)).await;
    let mut client = client(&server);
    let collected = collect(&mut client, since()).await;
    let later = now() + SignedDuration::from_mins(10);
    client.page(&collected.cursor.expect("a cursor"), later).await.expect("a page");
    let times: Vec<(Timestamp, Timestamp)> = server
        .questions()
        .iter()
        .map(|call| {
            let time = |name: &str| call.query[name].parse().expect("a time");
            (time("lastUpdatedAfter"), time("lastUpdatedBefore"))
        })
        .collect();
    let [(_, end), (start, _)] = times[..] else { panic!("two windows: {times:?}") };
    assert!(end.duration_since(start) >= SignedDuration::from_mins(5), "{start} {end}");
}

#[tokio::test]
async fn a_page_that_repeats_is_a_gap_and_nothing_is_skipped() {
    let mut repeat = true;
    let server = Server::start(move |call| {
        let n = call.number("paginationToken");
        if n == 2 && std::mem::take(&mut repeat) { page(1, 4) } else { page(n, 4) }
    })
    .await;
    let collected = collect(&mut client(&server), since()).await;
    assert_eq!(collected.failures, ["ListingGap"]);
    assert_eq!(collected.numbers(), numbers(0..12));
}

#[tokio::test]
async fn a_token_that_leads_back_is_a_gap() {
    let mut back = true;
    let server = Server::start(move |call| {
        let n = call.number("paginationToken");
        let Reply(status, headers, mut body) = page(n, 4);
        if n == 3 && std::mem::take(&mut back) {
            body["pagination"] = json!({"nextToken": "1"});
        }
        Reply(status, headers, body)
    })
    .await;
    let collected = collect(&mut client(&server), since()).await;
    assert_eq!(collected.failures, ["ListingGap"]);
    assert_eq!(collected.numbers(), numbers(0..12));
}

/// Pages of orders of a list that is told by the change date, 100 at most on a page.
fn listing(call: &Call, changes: &[(String, Timestamp)]) -> Value {
    let time = |name: &str| call.query[name].parse::<Timestamp>().expect("a time");
    let (from, to) = (time("lastUpdatedAfter"), time("lastUpdatedBefore"));
    let inside: Vec<_> = changes.iter().filter(|(_, at)| (from..=to).contains(at)).collect();
    let skip = call.number("paginationToken");
    let orders = inside.iter().skip(skip).take(100).map(|(number, at)| {
        let mut order = order(0);
        (order["orderId"], order["lastUpdatedTime"]) = (json!(number), json!(at.to_string()));
        order
    });
    let mut body = json!({"orders": orders.collect::<Vec<_>>()});
    if skip + 100 < inside.len() {
        body["pagination"] = json!({"nextToken": (skip + 100).to_string()});
    }
    body
}

#[tokio::test]
async fn a_window_that_outlives_its_tokens_is_read_in_parts() {
    let changes: Vec<_> = (0_i32..300)
        .map(|n| (format!("{n:03}"), since() + SignedDuration::from_secs((n * 5).into())))
        .collect();
    let expected: Vec<_> = changes.iter().map(|(number, _)| number.clone()).collect();
    // No token but the first of a window is ever taken.
    let server = Server::start(move |call| match call.number("paginationToken") {
        0 | 100 => ok(listing(call, &changes)),
        _ => failed(400),
    })
    .await;
    let collected = collect(&mut client(&server), since()).await;
    assert_eq!(collected.numbers(), expected);
}

#[tokio::test]
async fn a_cut_short_or_broken_answer_is_asked_for_again() {
    let mut failures = vec![Reply(200, Vec::new(), json!("no page")), failed(503), failed(500)];
    let server = Server::start(move |call| match failures.pop() {
        Some(failure) if call.number("paginationToken") == 1 => failure,
        Some(failure) => {
            failures.push(failure);
            page(call.number("paginationToken"), 2)
        }
        None => page(call.number("paginationToken"), 2),
    })
    .await;
    let collected = collect(&mut client(&server), since()).await;
    assert_eq!(collected.failures, ["MarketplaceUnavailable", "MarketplaceUnavailable", "UnexpectedAnswer"]);
    assert_eq!(collected.numbers(), numbers(0..6));
}

#[tokio::test]
async fn a_page_s_orders_come_oldest_change_first() {
    let server = Server::start(|_| {
        let mut orders: Vec<_> = (0..3).map(order).collect();
        orders[1]["lastUpdatedTime"] = json!("2026-06-01T11:35:00Z");
        ok(json!({"orders": orders}))
    })
    .await;
    let mut client = client(&server);
    let cursor = client.start(since());
    let page = client.page(&cursor, now()).await.expect("a page");
    let numbers: Vec<_> = page.orders.iter().map(|order: &Order| order.pii.expose().number.clone()).collect();
    assert_eq!(numbers, ["001", "000", "002"]);
}
