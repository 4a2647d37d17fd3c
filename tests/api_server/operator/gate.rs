//! Between the operator and the API server: what passes there can fail, or be held up.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use tokio::sync::Notify;

/// A client whose requests are `pass`'s to send.
pub fn through<F, A>(client: &Client, pass: F) -> Client
where
    F: Fn(Client, Request<Body>) -> A + Clone + Send + 'static,
    A: Future<Output = io::Result<Response<Body>>> + Send + 'static,
{
    let inner = client.clone();
    let service = tower::service_fn(move |request| pass(inner.clone(), request));
    Client::new(service, client.default_namespace())
}

pub async fn send(client: Client, request: Request<Body>) -> io::Result<Response<Body>> {
    client.send(request).await.map_err(io::Error::other)
}

/// Holds up the answer to one request.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    method: Method,
    /// How its path ends.
    path: &'static str,
    is_closed: AtomicBool,
    arrival: Notify,
    opening: Notify,
}

impl Gate {
    /// Open as yet.
    pub fn of(method: Method, path: &'static str) -> Self {
        let (arrival, opening) = (Notify::new(), Notify::new());
        Self(Arc::new(Inner { method, path, is_closed: AtomicBool::new(false), arrival, opening }))
    }

    /// The next such request is held up.
    pub fn close(&self) {
        self.0.is_closed.store(true, Ordering::SeqCst);
    }

    /// Waits until the API server has answered it, which the operator doesn't know yet.
    pub async fn arrives(&self) {
        self.0.arrival.notified().await;
    }

    pub fn open(&self) {
        self.0.opening.notify_one();
    }

    pub fn given_to(&self, client: &Client) -> Client {
        let gate = self.clone();
        through(client, move |client, request| {
            let gate = gate.clone();
            async move {
                let inner = &gate.0;
                let matches = *request.method() == inner.method && request.uri().path().ends_with(inner.path);
                let is_held = matches && inner.is_closed.swap(false, Ordering::SeqCst);
                let answer = send(client, request).await;
                if is_held {
                    inner.arrival.notify_one();
                    inner.opening.notified().await;
                }
                answer
            }
        })
    }
}
