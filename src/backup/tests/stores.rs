//! What a store does wrong is named, and what passes is waited for.

use marketrelay_api::backup::JobReport;

use crate::{
    proxy::{Fault, Proxy},
    s3::Bucket,
    world::{World, eventually},
};

const SMALL: usize = 100_000;

async fn small() -> World {
    World::with(Bucket::Versions, SMALL).await
}

#[tokio::test]
async fn wrong_credentials_a_missing_bucket_and_an_unknown_authority_are_named() {
    let mut world = small().await;
    let good = world.config.clone();
    world.patience = 1;
    world.secret_key = "another secret".to_owned();
    let ended = world.run().await;
    assert_eq!(ended.reason(), "StoreRefused", "{}", ended.log);
    assert!(ended.message().contains("SignatureDoesNotMatch"), "{}", ended.message());
    world.secret_key = crate::s3::SECRET_KEY.to_owned();
    world.access_key = "nobody".to_owned();
    let ended = world.run().await;
    assert_eq!(ended.reason(), "StoreRefused", "{}", ended.log);
    assert!(ended.message().contains("XAdminUserNotFound"), "{}", ended.message());
    world.access_key = crate::s3::ACCESS_KEY.to_owned();
    world.config.store.bucket = "elsewhere".to_owned();
    let ended = world.run().await;
    assert_eq!(ended.reason(), "BucketNotFound", "{}", ended.log);
    let (store, failure) = (Some(world.config.store.identity()), ended.report.failure.clone());
    assert_eq!(ended.report, JobReport { store, failure, ..JobReport::default() }, "nothing was written");
    world.config = good.clone();
    world.config.store.ca_certificates = String::new();
    let ended = world.run().await;
    assert_eq!(ended.reason(), "StoreUnreachable", "{}", ended.log);
    for part in ["authority", "egress.extraCaCertificates", "--ca"] {
        assert!(ended.message().contains(part), "{}", ended.message());
    }
    world.config = good;
    world.config.store.endpoint = Some("https://localhost:1".parse().expect("a URL"));
    let ended = world.run().await;
    assert_eq!((ended.reason(), &ended.report.listing), ("StoreUnreachable", &None), "{}", ended.log);
    assert!(world.relay.asked().is_empty(), "no snapshot is taken for a store that isn't there");
}

#[tokio::test]
async fn a_store_that_is_killed_during_an_upload_and_comes_back_has_the_backup() {
    let mut world = World::start().await;
    world.relay.hold_after(40);
    let job = world.spawn("run");
    eventually("a part is in the store", || async { (world.s3.unfinished() > 0).then_some(()) }).await;
    world.s3.kill().await;
    world.relay.go_on();
    eventually("the Job finds that it is gone", || async {
        job.log().contains("the store doesn't answer").then_some(())
    })
    .await;
    world.s3.run().await;
    let ended = job.ended().await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    assert_eq!(world.s3.objects().len(), 2);
    let (whole, said) = world.by_hand(&["verify"]).await;
    assert!(whole, "{said}");
}

#[tokio::test]
async fn a_store_that_does_not_come_back_is_named() {
    let mut world = World::start().await;
    world.patience = 2;
    world.relay.hold_after(40);
    let job = world.spawn("run");
    eventually("a part is in the store", || async { (world.s3.unfinished() > 0).then_some(()) }).await;
    world.s3.kill().await;
    world.relay.go_on();
    let ended = job.ended().await;
    assert_eq!((ended.reason(), &ended.report.written), ("StoreUnreachable", &None), "{}", ended.log);
}

#[tokio::test]
async fn a_store_that_throttles_or_fails_for_a_while_has_the_backup() {
    let mut world = small().await;
    let proxy = Proxy::start(&mut world).await;
    for (of, status, code) in [
        ("GET /backups?", 503, "SlowDown"),
        ("uploads", 500, "InternalError"),
        ("partNumber", 503, "SlowDown"),
        ("POST", 502, ""),
        ("manifest.json", 503, "ServiceUnavailable"),
    ] {
        proxy.fails(Fault { of, times: 2, status, code, after: false });
        let ended = world.run().await;
        assert!(ended.success, "{of}: {:?} {}", ended.report, ended.log);
        assert_eq!(proxy.left(), 0, "{of}");
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_does_not_make_the_manifest_a_strangers() {
    let mut world = small().await;
    let proxy = Proxy::start(&mut world).await;
    proxy.fails(Fault { of: "manifest.json", times: 1, status: 500, code: "InternalError", after: true });
    let ended = world.run().await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
    assert_eq!(world.s3.older_versions(), 0, "it was written once");
}

#[tokio::test]
async fn a_store_without_conditional_writes_does() {
    let mut world = small().await;
    let proxy = Proxy::start(&mut world).await;
    proxy.fails(Fault { of: "manifest.json", times: 1, status: 501, code: "NotImplemented", after: false });
    let ended = world.run().await;
    assert!(ended.success, "{:?} {}", ended.report, ended.log);
}

#[tokio::test]
async fn a_store_that_keeps_failing_is_named_by_how_it_does() {
    let mut world = small().await;
    world.patience = 1;
    let proxy = Proxy::start(&mut world).await;
    for (of, status, code, reason) in [
        ("partNumber", 503, "SlowDown", "StoreThrottled"),
        ("partNumber", 507, "InsufficientStorage", "StoreFull"),
        ("manifest.json", 403, "QuotaExceeded", "StoreFull"),
        ("uploads=", 403, "RequestTimeTooSkewed", "ClockSkew"),
        ("POST", 403, "AccessDenied", "StoreRefused"),
        ("POST", 500, "InternalError", "StoreUnreachable"),
    ] {
        proxy.fails(Fault { of, times: usize::MAX, status, code, after: false });
        let ended = world.run().await;
        assert_eq!(ended.reason(), reason, "{of} {code}: {}", ended.log);
        assert!(ended.message().contains(code), "{}", ended.message());
        assert_eq!(ended.report.written, None);
    }
    proxy.fails(Fault { of: "", times: 0, status: 500, code: "", after: false });
    let ended = world.prune().await;
    assert_eq!((ended.listing().backups, world.s3.objects().len()), (0, 0), "nothing half-written stays");
}
