use std::time::Duration;

use jiff::SignedDuration;
use marketrelay_marketplace::{CollectError, Collector, bol::Bol, ebay::Ebay};
use serde_json::json;

use crate::{
    amazon, bol,
    server::{Call, Reply, Server, credentials, first_error, http, now, ok, with},
};

fn is(error: &CollectError, seconds: std::ops::Range<u64>) -> bool {
    let range = Duration::from_secs(seconds.start)..Duration::from_secs(seconds.end);
    error.category() == "Throttled" && error.retry_after().is_some_and(|wait| range.contains(&wait))
}

#[tokio::test]
async fn a_429_with_retry_after_waits_as_long_as_asked() {
    let server = Server::start(|_| with(429, "retry-after", "77")).await;
    let mut client = Ebay::new(http(), server.endpoints.clone(), credentials());
    let error = first_error(&mut client).await;
    assert!(is(&error, 76..78), "{error:?}");
    let error = first_error(&mut client).await;
    assert!(is(&error, 70..78), "{error:?}");
    assert_eq!(server.questions().len(), 1, "no call while the pause lasts");
}

#[tokio::test]
async fn a_429_without_retry_after_waits_for_one_period_of_the_documented_rate() {
    let server = Server::start(|_| with(429, "content-type", "application/json")).await;
    let error = first_error(&mut amazon::client(&server)).await;
    assert!(is(&error, 178..180), "one call in 178.6 s: {error:?}");
    assert_eq!(server.questions().len(), 1);
}

#[tokio::test]
async fn amazons_limit_header_replaces_the_documented_rate() {
    let mut calls = 0;
    let server = Server::start(move |_| {
        calls += 1;
        let empty = json!({"orders": []});
        if calls == 1 {
            Reply(200, vec![("x-amzn-ratelimit-limit", "0.05".to_owned())], empty)
        } else {
            with(429, "x-other", "1")
        }
    })
    .await;
    let mut client = amazon::client(&server);
    let cursor = client.start(now() - SignedDuration::from_mins(30));
    client.page(&cursor, now()).await.expect("a page");
    let error = first_error(&mut client).await;
    assert!(is(&error, 20..21), "one call in 20 s: {error:?}");
}

#[tokio::test]
async fn bols_rate_limit_resource_replaces_the_published_figures() {
    let limits = json!([{"path": "/retailer/orders", "methods": "GET", "maxCapacity": 5, "timeToLive": 1, "timeUnit": "HOURS"}]);
    let server = Server::start(move |call| match call.path.as_str() {
        "/retailer/public/ratelimits" => ok(limits.clone()),
        _ => with(429, "x-other", "1"),
    })
    .await;
    let mut client = bol::client(&server);
    let error = first_error(&mut client).await;
    assert!(is(&error, 900..901), "one at once, four spread over an hour: {error:?}");
    let authorized = |call: &Call| !call.header("authorization").is_empty();
    let calls = server.questions();
    assert_eq!(
        calls.iter().map(authorized).collect::<Vec<_>>(),
        [false, true],
        "the resource needs no token"
    );
    first_error(&mut client).await;
    let read = server.questions().iter().filter(|call| call.path.ends_with("ratelimits")).count();
    assert_eq!(read, 1, "it is read once an hour");
}

#[tokio::test]
async fn without_the_resource_bols_published_figures_count() {
    let server = Server::start(|_| with(429, "x-other", "1")).await;
    let mut client = Bol::new(http(), server.endpoints.clone(), credentials());
    let error = first_error(&mut client).await;
    assert!(is(&error, 3..4), "20 spread over a minute: {error:?}");
}

#[tokio::test]
async fn bols_reset_header_is_a_retry_after() {
    let server = Server::start(|_| with(429, "x-ratelimit-reset", "41")).await;
    let error = first_error(&mut bol::client(&server)).await;
    assert!(is(&error, 41..42), "{error:?}");
}
