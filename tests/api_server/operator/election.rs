//! Of several replicas one works, and it stops before another begins.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use xtask::cluster::ControlPlane;

use super::{CONFIG, Operator, change, connect, connected, connection, furnish, grant, reason, rights};
use crate::support::{PLANE, Space, configuration, wait_for, with_namespace};

/// What others wait for before they take over.
const LEASE: Duration = Duration::from_secs(15);

async fn replica(space: &Space, identity: &str) -> Operator {
    Operator::replica(configuration(&PLANE).await, space, space, CONFIG, identity).await
}

async fn lease(space: &Space) -> Option<Lease> {
    space.api::<Lease>().get_opt("marketrelay-operator").await.expect("an answer")
}

async fn leads(space: &Space, identity: &str) {
    wait_for(space, &format!("{identity} leads"), async || {
        let holder = lease(space).await?.spec?.holder_identity?;
        (holder == identity).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_is_asked_to_end_hands_over_at_once() {
    with_namespace(|space| async move {
        furnish(&space).await;
        grant(&space, &space, &rights()).await;
        let first = replica(&space, "first").await;
        leads(&space, "first").await;
        let _second = replica(&space, "second").await;
        connected(&space, "bol").await;
        let began = Instant::now();
        first.stop().await;
        leads(&space, "second").await;
        assert!(began.elapsed() < LEASE / 2, "it ran out: {:?}", began.elapsed());
        connected(&space, "bol-two").await;
    })
    .await;
}

#[tokio::test]
async fn a_standby_does_nothing_until_the_lease_of_a_leader_that_died_has_run_out() {
    with_namespace(|space| async move {
        furnish(&space).await;
        grant(&space, &space, &rights()).await;
        let first = replica(&space, "first").await;
        leads(&space, "first").await;
        let _second = replica(&space, "second").await;
        connected(&space, "bol").await;
        drop(first);
        let renewed = lease(&space).await.and_then(|lease| lease.spec?.renew_time).expect("a time").0;
        connect(&space, "late").await;
        wait_for(&space, "second leads", async || {
            let holder = lease(&space).await?.spec?.holder_identity?;
            let untouched = connection(&space, "late").await.status.is_none();
            assert!(holder == "second" || untouched, "worked on while {holder} has the lease");
            (holder == "second").then_some(())
        })
        .await;
        let waited = Timestamp::now().duration_since(renewed);
        assert!(waited.as_secs() >= 15, "only {waited} after the last renewal");
        reason(&space, "late", "RelayStarting").await;
    })
    .await;
}

#[tokio::test]
async fn a_leader_whose_lease_is_taken_ends() {
    with_namespace(|space| async move {
        grant(&space, &space, &rights()).await;
        let mut first = replica(&space, "first").await;
        leads(&space, "first").await;
        change::<Lease>(&space, "marketrelay-operator", "{spec: {holderIdentity: other}}").await;
        let error = first.ended().await.expect_err("it goes on");
        assert!(format!("{error:?}").contains("other"), "{error:?}");
        let holder = lease(&space).await.and_then(|lease| lease.spec?.holder_identity);
        assert_eq!(holder.as_deref(), Some("other"));
    })
    .await;
}

/// Lets the API server go on, however the test ends.
struct Paused<'a>(&'a ControlPlane);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.pause(false);
    }
}

#[tokio::test]
async fn a_leader_that_cannot_renew_ends_before_another_could_take_over() {
    let plane = ControlPlane::start().expect("a control plane");
    let access = configuration(&plane).await;
    let space = Space::make(Client::try_from(access.clone()).expect("a client")).await;
    grant(&space, &space, &rights()).await;
    let mut operator = Operator::replica(access, &space, &space, CONFIG, "first").await;
    leads(&space, "first").await;
    let paused = Paused(&plane);
    plane.pause(true);
    let error = operator.ended().await.expect_err("it goes on");
    let ended = Timestamp::now();
    drop(paused);
    assert!(format!("{error:?}").contains("not renewed"), "{error:?}");
    let renewed = lease(&space).await.and_then(|lease| lease.spec?.renew_time).expect("a time").0;
    let late = ended.duration_since(renewed);
    assert!(late.as_secs() < 15, "it worked for {late} after its last renewal");
}
