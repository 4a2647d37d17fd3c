//! Events are for people: one that can't be written keeps nothing waiting, and each says what it is about.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, Recorder, Reporter},
};

/// What a recorder of kube's counts as a repetition; after that it forgets, too.
const MEMORY: Duration = Duration::from_mins(6);

/// Writes events. The same words about the same object again are counted.
pub struct Events {
    client: Client,
    reporter: Reporter,
    told: Mutex<HashMap<Told, Series>>,
}

/// An object, a reason and a note. Kube's recorder alone would count whatever has the same reason, and keep the first note.
type Told = (Object, String, Option<String>);
/// Kind, namespace, name and uid.
type Object = [Option<String>; 4];

/// Knows this one event alone.
struct Series {
    recorder: Recorder,
    last: Instant,
}

impl Events {
    /// Nothing is told yet.
    pub fn new(client: Client, reporter: Reporter) -> Self {
        Self { client, reporter, told: Mutex::default() }
    }

    /// Writes it, or says in the log that it can't.
    pub async fn publish(&self, event: &Event, about: &ObjectReference) {
        if let Err(error) = self.recorder(event, about).publish(event, about).await {
            tracing::warn!(%error, "an event can't be written");
        }
    }

    fn recorder(&self, event: &Event, about: &ObjectReference) -> Recorder {
        let object = [&about.kind, &about.namespace, &about.name, &about.uid].map(Clone::clone);
        let key = (object, event.reason.clone(), event.note.clone());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, series| series.last.elapsed() < MEMORY);
        let new = || Recorder::new(self.client.clone(), self.reporter.clone());
        let series = told.entry(key).or_insert_with(|| Series { recorder: new(), last: Instant::now() });
        series.last = Instant::now();
        series.recorder.clone()
    }
}
