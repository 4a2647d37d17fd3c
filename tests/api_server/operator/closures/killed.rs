//! An operator that is killed after each single step of a closure: its successor goes on from there.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use http::{Method, Request};
use kube::{Client, client::Body};

use super::{
    CONFIG, Operator, PersistentVolumeClaim, RecordPhase, Space, confirm, connected, furnish, left, phase,
    proof, record, secret, tidy, wait_for, with_namespace,
};
use crate::operator::{
    gate::{send, through},
    identities::{from_now, put},
    identity,
};

/// More than a closure takes.
const MOST: usize = 40;
const KEYS: [&str; 3] = ["bol-backup-identities", "bol-keyring", "bol-database-key"];

/// What the operator may still write, and whether it lives.
#[derive(Clone)]
pub(super) struct Life {
    steps: Arc<AtomicUsize>,
    pub is_over: Arc<AtomicBool>,
    /// Whether the answer to its last write arrives.
    is_answered: bool,
}

impl Life {
    pub fn of(steps: usize, is_answered: bool) -> Self {
        Self { steps: Arc::new(AtomicUsize::new(steps)), is_over: Arc::default(), is_answered }
    }

    /// Nothing that is asked for after the last step reaches the API server.
    pub fn given_to(&self, client: &Client) -> Client {
        let life = self.clone();
        through(client, move |client, request| {
            let life = life.clone();
            async move {
                if life.is_over.load(Ordering::SeqCst) {
                    return Err(io::Error::other("the operator is dead"));
                }
                let is_step = is_step(&request);
                let answer = send(client, request).await?;
                if is_step && answer.status().is_success() && life.steps.fetch_sub(1, Ordering::SeqCst) == 1 {
                    life.is_over.store(true, Ordering::SeqCst);
                    if !life.is_answered {
                        return Err(io::Error::other("the operator died before the answer"));
                    }
                }
                Ok(answer)
            }
        })
    }
}

/// A deletion, a write of a record, or of what purges stores.
fn is_step(request: &Request<Body>) -> bool {
    let (method, path) = (request.method(), request.uri().path());
    let purges = ["/secrets", "/jobs", "/networkpolicies"].iter().any(|kind| path.contains(kind));
    method == Method::DELETE
        || method == Method::PATCH && path.contains("/connectionrecords/")
        || [Method::POST, Method::PUT].contains(method) && purges
}

/// What holds whenever an operator dies.
async fn hold(space: &Space, id: &str) {
    let mut keys = Vec::new();
    for name in KEYS {
        keys.push(secret(space, name).await);
    }
    let record = record(space, id).await;
    let intact = keys.iter().all(Option::is_some);
    assert!(intact || phase(&record) >= RecordPhase::Closing, "keys went before it was written that they go");
    let claim = space.api::<PersistentVolumeClaim>().get_opt("bol-data").await.expect("an answer");
    let leaves = claim.is_none_or(|claim| claim.metadata.deletion_timestamp.is_some());
    assert!(!leaves || keys.iter().all(Option::is_none), "the volume went before its keys");
    let noted = |name: &str| {
        let proof = proof(&record).expect("a closure");
        proof.objects.iter().any(|object| object.name == name && !object.entries.is_empty())
    };
    assert!(intact || KEYS.into_iter().all(noted), "{record:?}");
}

#[tokio::test]
async fn a_closure_whose_operator_dies_after_every_step_ends_as_if_none_had() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let operator = Operator::start(&space, CONFIG).await;
        connected(&space, "bol").await;
        operator.stop().await;
        let id = identity(&space, "bol").await;
        put(&space, "bol", &id, &[from_now(3_600)]).await;
        confirm(&space, "bol").await;
        let (mut deaths, mut gone) = (0, Vec::new());
        while phase(&record(&space, &id).await) != RecordPhase::Closed {
            assert!(deaths < MOST, "no end after {deaths} operators");
            let life = Life::of(1, deaths % 2 == 0);
            let operator = Operator::start_through(&space, CONFIG, |client| life.given_to(&client)).await;
            wait_for(&space, "the operator dies, or has nothing left to do", async || {
                tidy(&space).await;
                let over = life.is_over.load(Ordering::SeqCst);
                (over || phase(&record(&space, &id).await) == RecordPhase::Closed).then_some(())
            })
            .await;
            operator.stop().await;
            deaths += 1;
            hold(&space, &id).await;
            let left = left(&space, "bol").await;
            assert!(gone.iter().all(|object| !left.contains(object)), "made anew: {left:?}");
            assert!(secret(&space, KEYS[1]).await.is_some() || secret(&space, KEYS[0]).await.is_none());
            let before = ["Secret bol-keyring", "Secret bol-database-key", "StatefulSet bol-relay"];
            gone = before.map(str::to_owned).into_iter().filter(|object| !left.contains(object)).collect();
        }
        assert!(deaths > 10, "only {deaths} operators died: nothing was interrupted");
        assert!(left(&space, "bol").await.is_empty() && secret(&space, KEYS[0]).await.is_none());
        let closed = record(&space, &id).await;
        let proof = proof(&closed).expect("a proof");
        assert!(proof.objects.len() >= 10 && proof.objects.iter().all(|object| object.gone_at.is_some()));
        assert!(proof.listing.is_some() && proof.keys_destroyed_at.is_some());
        let _operator = Operator::start(&space, CONFIG).await;
        super::reason(&space, "bol", "Closed").await;
        assert!(left(&space, "bol").await.is_empty(), "nothing is made for a closed connection");
    })
    .await;
}
