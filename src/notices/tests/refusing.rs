//! What isn't eBay's is refused, and a flood doesn't get far.

use futures::{StreamExt, stream};
use marketrelay_operator::pki::Subject;
use serde_json::json;

use crate::world::{World, eventually};

#[tokio::test]
async fn a_forged_notice_is_answered_with_412_and_reaches_nobody() {
    let world = World::start().await;
    for forgery in ["changedBody", "unknownKey", "noSignature"] {
        assert_eq!(world.notice(json!({"forgery": forgery})).await, 412, "{forgery}");
    }
    let client = world.client(None);
    for header in ["", "e30=", "not base64", "eyJraWQiOiIuLi8iLCJzaWduYXR1cmUiOiIifQ=="] {
        let request = client.post(&world.endpoint).header("x-ebay-signature", header).body("{}");
        assert_eq!(request.send().await.expect("an answer").status(), 412, "{header}");
    }
    assert!(world.operator.taken().is_empty());
    world.end().await;
}

#[tokio::test]
async fn forged_keys_do_not_make_it_hammer_ebay_nor_keep_a_true_notice_out() {
    let world = World::start().await;
    assert_eq!(world.notice(json!({})).await, 204);
    let before = world.calls().await;
    let mut answers = Vec::new();
    for _ in 0..30 {
        answers.push(world.notice(json!({"forgery": "unknownKey"})).await);
    }
    assert!(answers.iter().all(|status| [412, 503].contains(status)), "{answers:?}");
    assert!(answers.contains(&503), "look-ups are limited: {answers:?}");
    let asked = world.calls().await - before;
    assert!(asked < 20, "{asked} calls of eBay for 30 forged keys");
    assert_eq!(world.notice(json!({})).await, 204, "the known key needs no look-up");
    world.end().await;
}

#[tokio::test]
async fn a_flood_is_limited_and_passes() {
    let world = World::start().await;
    let client = world.client(None);
    let url = format!("{}?challenge_code=abc", world.endpoint);
    let ask = |_| {
        let request = client.get(&url);
        async move { request.send().await.map(|answer| answer.status().as_u16()).unwrap_or_default() }
    };
    let answers: Vec<_> = stream::iter(0..600).map(ask).buffer_unordered(16).collect().await;
    let count = |status| answers.iter().filter(|answer| **answer == status).count();
    assert!(count(200) >= 100, "as many as may come at once: {answers:?}");
    assert!(count(429) > 0 && count(200) + count(429) == 600, "{answers:?}");
    let live = client.get(world.url("/livez")).send().await.expect("an answer");
    assert_eq!(live.status(), 200, "the kubelet's probes aren't limited");
    eventually("the flood has passed", || async { (world.notice(json!({})).await == 204).then_some(()) })
        .await;
    world.end().await;
}

#[tokio::test]
async fn what_is_too_large_or_somewhere_else_is_refused() {
    let world = World::start().await;
    let client = world.client(Some(&Subject::Operator));
    let large = client.post(&world.endpoint).body("x".repeat(65 * 1024)).send().await.expect("an answer");
    assert_eq!(large.status(), 413);
    for path in ["/", "/ebay", "/v1/notices/ebay"] {
        assert_eq!(client.get(world.url(path)).send().await.expect("an answer").status(), 404, "{path}");
    }
    let other = client.put(&world.endpoint).send().await.expect("an answer");
    assert_eq!(other.status(), 405);
    world.end().await;
}
