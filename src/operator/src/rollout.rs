//! A new relay image reaches the connections in waves, and halts where a relay that worked fails on it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{ResourceExt, runtime::reflector::Store};
use marketrelay_api::{labels, operator_config::Rollout};

use crate::controllers::connection::children::Image;

/// A place in a wave is held until the stores show the update, at most this long.
const CLAIM: Duration = Duration::from_secs(30);

/// What a relay's image is to be, and who halts the roll-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The image.
    pub image: Image,
    /// `NAMESPACE/NAME` of the connection that fails on the new image.
    pub halted_by: Option<String>,
}

/// The StatefulSets of all scopes, and the places in the current wave that the stores don't show yet.
#[derive(Default)]
pub struct Waves {
    stores: RwLock<Vec<Store<StatefulSet>>>,
    claims: Mutex<HashMap<String, Instant>>,
}

impl Waves {
    /// Waves go through these.
    pub fn watch(&self, stores: Vec<Store<StatefulSet>>) {
        *self.stores.write().unwrap_or_else(PoisonError::into_inner) = stores;
    }

    /// Decides for one connection, and holds its place. One that is `broken` anyhow takes the new image at once.
    pub fn decide(
        &self,
        this: Option<&StatefulSet>,
        broken: bool,
        wanted: &str,
        rollout: &Rollout,
        now: Timestamp,
    ) -> Decision {
        let stores = self.stores.read().unwrap_or_else(PoisonError::into_inner).clone();
        let all: Vec<_> = stores.iter().flat_map(Store::state).collect();
        self.decide_among(&all, this, broken, wanted, rollout, now)
    }

    fn decide_among(
        &self,
        all: &[Arc<StatefulSet>],
        this: Option<&StatefulSet>,
        broken: bool,
        wanted: &str,
        rollout: &Rollout,
        now: Timestamp,
    ) -> Decision {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.retain(|_, since| since.elapsed() < CLAIM);
        for set in all.iter().filter(|set| image(set) == wanted) {
            claims.remove(&key(set));
        }
        let decision = decide(this, broken, all, wanted, rollout, claims.len(), now);
        if let Some(this) = this.filter(|_| decision.image.since == Some(now)) {
            claims.insert(key(this), Instant::now());
        }
        decision
    }
}

fn decide(
    this: Option<&StatefulSet>,
    broken: bool,
    all: &[Arc<StatefulSet>],
    wanted: &str,
    rollout: &Rollout,
    claimed: usize,
    now: Timestamp,
) -> Decision {
    let take = |since| Decision { image: Image { reference: wanted.to_owned(), since }, halted_by: None };
    let Some(this) = this else { return take(None) };
    if image(this) == wanted {
        return take(updating_since(this).filter(|_| !is_ready(this)));
    }
    if broken {
        return take(None);
    }
    let updating = all.iter().filter(|set| image(set) == wanted && !is_ready(set));
    let updating: Vec<_> = updating.filter_map(|set| Some((set, updating_since(set)?))).collect();
    let limit = i64::from(rollout.halt_after_seconds);
    let failed = updating.iter().find(|(_, since)| now.duration_since(*since).as_secs() >= limit);
    let full = updating.len() + claimed >= rollout.max_updating as usize;
    if failed.is_none() && !full {
        return take(Some(now));
    }
    Decision {
        image: Image { reference: image(this).to_owned(), since: None },
        halted_by: failed.map(|(set, _)| connection(set)),
    }
}

fn image(set: &StatefulSet) -> &str {
    let template = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    template.and_then(|pod| pod.containers.first()?.image.as_deref()).unwrap_or_default()
}

fn updating_since(set: &StatefulSet) -> Option<Timestamp> {
    set.annotations().get(labels::IMAGE_SINCE)?.parse().ok()
}

/// The newest template's pod is ready.
pub fn is_ready(set: &StatefulSet) -> bool {
    let Some(status) = &set.status else { return false };
    status.observed_generation == set.metadata.generation
        && status.updated_replicas == Some(1)
        && status.ready_replicas == Some(1)
}

fn key(set: &StatefulSet) -> String {
    format!("{}/{}", set.namespace().unwrap_or_default(), set.name_any())
}

fn connection(set: &StatefulSet) -> String {
    let name = set.labels().get(labels::CONNECTION).cloned().unwrap_or_else(|| set.name_any());
    format!("{}/{name}", set.namespace().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn set(name: &str, image: &str, ready: bool, since: Option<Timestamp>) -> Arc<StatefulSet> {
        let annotations = since.map(|since| json!({labels::IMAGE_SINCE: since.to_string()}));
        let replicas = i32::from(ready);
        let value = json!({
            "metadata": {"name": format!("{name}-relay"), "namespace": "acme", "generation": 2,
                         "labels": {labels::CONNECTION: name}, "annotations": annotations},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "relay", "image": image}]}}},
            "status": {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "readyReplicas": replicas},
        });
        Arc::new(serde_json::from_value(value).expect("a StatefulSet"))
    }

    fn rollout(max_updating: u32) -> Rollout {
        Rollout { max_updating, halt_after_seconds: 300 }
    }

    fn ask(waves: &Waves, name: &str, all: &[Arc<StatefulSet>], max: u32) -> Decision {
        let this = all.iter().find(|set| set.labels()[labels::CONNECTION] == name).map(AsRef::as_ref);
        let broken = this.is_some_and(|set| !is_ready(set));
        waves.decide_among(all, this, broken, "relay:2", &rollout(max), NOW)
    }

    #[test]
    fn a_wave_holds_no_more_than_its_size_even_before_the_stores_show_it() {
        let all: Vec<_> = ["a", "b", "c"].map(|name| set(name, "relay:1", true, None)).into();
        let waves = Waves::default();
        let taken = ["a", "b", "c"].map(|name| ask(&waves, name, &all, 2).image.reference);
        assert_eq!(taken, ["relay:2", "relay:2", "relay:1"]);
    }

    #[test]
    fn a_relay_that_worked_and_fails_on_the_new_image_halts_the_others_and_is_named() {
        let broken = set("a", "relay:2", false, Some(NOW - SignedDuration::from_secs(301)));
        let all = [broken, set("b", "relay:1", true, None)];
        let decision = ask(&Waves::default(), "b", &all, 5);
        assert_eq!(decision.image.reference, "relay:1");
        assert_eq!(decision.halted_by.as_deref(), Some("acme/a"));
    }

    #[test]
    fn new_and_broken_relays_take_the_new_image_and_halt_nobody() {
        let broken = set("a", "relay:1", false, None);
        let always_broken = set("c", "relay:2", false, None);
        let all = [broken, set("b", "relay:1", true, None), always_broken];
        let waves = Waves::default();
        assert_eq!(ask(&waves, "a", &all, 1).image, Image { reference: "relay:2".into(), since: None });
        assert_eq!(ask(&waves, "new", &all, 1).image.reference, "relay:2");
        assert_eq!(ask(&waves, "b", &all, 1).image.reference, "relay:2");
    }

    #[test]
    fn an_updated_relay_that_is_ready_leaves_its_place() {
        let all = [set("a", "relay:2", true, Some(NOW)), set("b", "relay:1", true, None)];
        assert_eq!(ask(&Waves::default(), "a", &all, 1).image.since, None);
        assert_eq!(ask(&Waves::default(), "b", &all, 1).image.reference, "relay:2");
    }
}
