//! Watches that fill a store each, and tell of what they see.

use std::fmt::Debug;

use futures::{StreamExt, pin_mut};
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt,
        reflector::{self, Store},
        watcher::{self, watcher},
    },
};
use marketrelay_api::labels;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::senders::Senders;

/// Where each watch stores what it sees and whom it tells.
#[derive(Default)]
pub struct Plan {
    /// They end when it is dropped.
    pub tasks: JoinSet<()>,
}

impl Plan {
    /// `trim` takes away what isn't kept; `tell` comes once the store has it.
    pub fn watch<K>(
        &mut self,
        events: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
        trim: fn(&mut K),
        tell: impl Fn(&K) + Send + 'static,
    ) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    {
        let (reader, writer) = reflector::store();
        self.reflect(writer, events, trim, tell);
        reader
    }

    /// The same, of a store that there is already.
    pub fn reflect<K>(
        &mut self,
        writer: reflector::store::Writer<K>,
        events: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
        trim: fn(&mut K),
        tell: impl Fn(&K) + Send + 'static,
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    {
        let stream = events.default_backoff().modify(trim).reflect(writer).touched_objects();
        self.tasks.spawn(async move {
            pin_mut!(stream);
            while let Some(result) = stream.next().await {
                match result {
                    Ok(object) => tell(&object),
                    Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "a watch is interrupted"),
                }
            }
        });
    }

    /// Objects that the operator has made; their connections are told.
    pub fn ours<K>(&mut self, api: Api<K>, trim: fn(&mut K), senders: &Senders) -> Store<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    {
        self.ours_noted(api, trim, senders, |_| {})
    }

    /// `note` comes before anybody is told.
    pub fn ours_noted<K>(
        &mut self,
        api: Api<K>,
        trim: fn(&mut K),
        senders: &Senders,
        note: impl Fn(&K) + Send + 'static,
    ) -> Store<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    {
        let only = watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::OPERATOR));
        let senders = senders.clone();
        self.watch(watcher(api, only), trim, move |object| {
            note(object);
            senders.owner(object);
        })
    }
}
