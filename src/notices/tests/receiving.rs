//! What eBay sends is answered as eBay asks.

use marketrelay_operator::pki::Subject;
use serde_json::{Value, json};

use crate::world::{VERIFICATION_TOKEN, World};

#[tokio::test]
async fn ebays_challenge_is_answered_so_that_the_endpoint_can_be_registered() {
    let world = World::start().await;
    let registration =
        |token: &str| json!({"url": world.endpoint, "ca": world.authority.pem(), "verificationToken": token});
    let answer = world.control("ebay/challenge", registration(VERIFICATION_TOKEN)).await;
    assert_eq!(answer, json!({"status": 200, "valid": true}));
    let other = world.control("ebay/challenge", registration(&"x".repeat(32))).await;
    assert_eq!(other["valid"], false);
    let answer = world.client(None).get(&world.endpoint).send().await.expect("an answer");
    assert_eq!(answer.status(), 400, "no code");
    world.end().await;
}

#[tokio::test]
async fn a_signed_notice_is_with_the_operator_when_ebay_is_told_so_and_names_nobody_in_the_log() {
    let world = World::start().await;
    assert_eq!(world.notice(json!({"notificationId": "n-1"})).await, 204);
    let expected = json!({"notificationId": "n-1", "buyers": ["zoe_n", "ma8vp1jySJC"]});
    assert_eq!(world.operator.taken(), [expected]);
    assert_eq!(world.notice(json!({"forgery": "changedBody"})).await, 412);
    assert_eq!(world.notice(json!({"forgery": "otherTopic"})).await, 400);
    let log = world.log();
    for word in ["zoe_n", "ma8vp1jySJC", "somebody-else", "nY+sHZ2"] {
        assert!(!log.contains(word), "{word} in {log}");
    }
    world.end().await;
}

#[tokio::test]
async fn ebays_key_is_asked_for_once() {
    let world = World::start().await;
    for _ in 0..5 {
        assert_eq!(world.notice(json!({})).await, 204);
    }
    assert_eq!(world.calls().await, 2, "a token and the key");
    assert_eq!(world.operator.taken().len(), 5);
    world.end().await;
}

#[tokio::test]
async fn what_the_operator_does_not_take_is_not_acknowledged_so_that_ebay_repeats_it() {
    let world = World::start().await;
    for status in [503, 403, 200] {
        world.operator.answers(status);
        let answer = world.sent(json!({})).await;
        assert_eq!((&answer["status"], &answer["retryAfter"]), (&json!(503), &json!("60")), "{status}");
    }
    world.operator.answers(204);
    assert_eq!(world.notice(json!({})).await, 204);
    assert_eq!(world.operator.taken().len(), 1);
    world.end().await;
}

#[tokio::test]
async fn without_ebays_key_nothing_is_judged() {
    let world = World::start().await;
    world.ebay_fails(json!({"kind": "status", "status": 500})).await;
    assert_eq!(world.notice(json!({})).await, 503);
    world.ebay_fails(Value::Null).await;
    assert_eq!(world.notice(json!({})).await, 204);
    world.end().await;
}

#[tokio::test]
async fn metrics_count_what_became_of_each_request_and_need_a_certificate() {
    let world = World::start().await;
    assert_eq!(world.notice(json!({})).await, 204);
    assert_eq!(world.notice(json!({"forgery": "changedBody"})).await, 412);
    world.operator.answers(503);
    assert_eq!(world.notice(json!({})).await, 503);
    let url = world.url("/metrics");
    for subject in [None, Some(Subject::Notices("localhost"))] {
        let answer = world.client(subject.as_ref()).get(&url).send().await.expect("an answer");
        assert_eq!(answer.status(), 403);
    }
    let metrics = world.client(Some(&Subject::Metrics)).get(&url).send().await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    for line in [
        "marketrelay_notices_received_total{result=\"accepted\"} 1",
        "marketrelay_notices_received_total{result=\"bad_signature\"} 1",
        "marketrelay_notices_received_total{result=\"failed\"} 1",
        "marketrelay_notices_key_look_ups_total{result=\"found\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    assert!(metrics.contains("marketrelay_notices_last_accepted_timestamp_seconds 1"), "{metrics}");
    world.end().await;
}
