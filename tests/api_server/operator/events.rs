//! Events say what they are about.

use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::{
    Resource,
    api::ListParams,
    runtime::events::{self, EventType, Reporter},
};
use marketrelay_operator::events::Events;

use super::furnish;
use crate::support::{Space, with_namespace};

/// Reason, note, and how often it was told.
async fn told(space: &Space) -> Vec<(String, String, i32)> {
    let events = space.api::<Event>().list(&ListParams::default()).await.expect("events").items;
    let shown = |event: Event| {
        let count = event.series.map_or(1, |series| series.count);
        (event.reason.expect("a reason"), event.note.expect("a note"), count)
    };
    let mut all: Vec<_> = events.into_iter().map(shown).collect();
    all.sort();
    all
}

#[tokio::test]
async fn an_event_with_another_note_is_another_event_and_the_same_note_again_is_counted() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let reporter = Reporter { controller: "test".to_owned(), instance: Some("one".to_owned()) };
        let events = Events::new(space.client.clone(), reporter);
        let object = |secret: Secret| secret.object_ref(&());
        let first = object(space.api().get("bol-credentials").await.expect("a Secret"));
        let other = object(space.api().get("erp-signing").await.expect("a Secret"));
        for (reason, note, about) in [
            ("Restored", "of Monday", &first),
            ("Restored", "of Tuesday", &first),
            ("Restored", "of Tuesday", &first),
            ("Restored", "of Tuesday", &other),
            ("Restored", "of Monday", &first),
            ("Restoring", "of Monday", &first),
        ] {
            let event = events::Event {
                type_: EventType::Normal,
                reason: reason.to_owned(),
                note: Some(note.to_owned()),
                action: "Restore".to_owned(),
                secondary: None,
            };
            events.publish(&event, about).await;
        }
        let expected = [
            ("Restored", "of Monday", 2),
            ("Restored", "of Tuesday", 1),
            ("Restored", "of Tuesday", 2),
            ("Restoring", "of Monday", 1),
        ];
        let told = told(&space).await;
        let told: Vec<_> =
            told.iter().map(|(reason, note, count)| (reason.as_str(), note.as_str(), *count)).collect();
        assert_eq!(told, expected);
    })
    .await;
}
