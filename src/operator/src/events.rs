//! Events are for people: one that can't be written keeps nothing waiting.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, Recorder};

/// Writes it, or says in the log that it can't.
pub async fn publish(recorder: &Recorder, event: &Event, about: &ObjectReference) {
    if let Err(error) = recorder.publish(event, about).await {
        tracing::warn!(%error, "an event can't be written");
    }
}
