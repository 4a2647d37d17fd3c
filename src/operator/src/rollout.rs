//! A new image, and whatever else relays have from the operator's configuration, reaches the connections in waves, and
//! halts where a relay that worked fails on it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{ResourceExt, runtime::reflector::Store};
use marketrelay_api::{OperatorConfig, labels, operator_config::Rollout};

use crate::compare::hash;

/// A place in a wave is held until the stores show the update, at most this long.
const CLAIM: Duration = Duration::from_secs(30);

/// Whether a relay takes the newest revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It does, or has it.
    Take {
        /// Since when, if it was ready before and isn't yet.
        since: Option<Timestamp>,
    },
    /// It keeps what it has.
    Wait {
        /// `NAMESPACE/NAME` of the connection that fails on the new revision; `None`: its turn comes.
        halted_by: Option<String>,
    },
}

/// Hash of what every relay has from the operator's configuration.
pub fn revision(config: &OperatorConfig) -> String {
    let OperatorConfig { relay, endpoints, egress, .. } = config;
    hash(serde_json::json!([relay, endpoints, egress]).to_string().as_bytes())
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

    /// Decides for one connection, and holds its place. One that is `broken` anyhow takes the revision at once.
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
        claims.retain(|claimed, _| !all.iter().any(|set| has(set, wanted) && key(set) == *claimed));
        let decision = decide(this, broken, all, wanted, rollout, claims.len(), now);
        if let Some(this) = this.filter(|_| decision == Decision::Take { since: Some(now) }) {
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
    let Some(this) = this else { return Decision::Take { since: None } };
    if has(this, wanted) {
        return Decision::Take { since: updating_since(this).filter(|_| !is_ready(this)) };
    }
    if broken {
        return Decision::Take { since: None };
    }
    let updating = all.iter().filter(|set| has(set, wanted) && !is_ready(set));
    let updating: Vec<_> = updating.filter_map(|set| Some((set, updating_since(set)?))).collect();
    let limit = i64::from(rollout.halt_after_seconds);
    let failed = updating.iter().find(|(_, since)| now.duration_since(*since).as_secs() >= limit);
    let full = updating.len() + claimed >= rollout.max_updating as usize;
    if failed.is_none() && !full {
        return Decision::Take { since: Some(now) };
    }
    Decision::Wait { halted_by: failed.map(|(set, _)| connection(set)) }
}

fn has(set: &StatefulSet, revision: &str) -> bool {
    set.annotations().get(labels::REVISION).is_some_and(|has| has == revision)
}

fn updating_since(set: &StatefulSet) -> Option<Timestamp> {
    set.annotations().get(labels::REVISION_SINCE)?.parse().ok()
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
    const NOW_TAKEN: Decision = Decision::Take { since: Some(NOW) };

    fn set(name: &str, revision: &str, ready: bool, since: Option<Timestamp>) -> Arc<StatefulSet> {
        let mut annotations = json!({labels::REVISION: revision});
        if let Some(since) = since {
            annotations[labels::REVISION_SINCE] = json!(since.to_string());
        }
        let replicas = i32::from(ready);
        let value = json!({
            "metadata": {"name": format!("{name}-relay"), "namespace": "acme", "generation": 2,
                         "labels": {labels::CONNECTION: name}, "annotations": annotations},
            "spec": {"selector": {}, "template": {}},
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
        waves.decide_among(all, this, broken, "2", &rollout(max), NOW)
    }

    #[test]
    fn a_wave_holds_no_more_than_its_size_even_before_the_stores_show_it() {
        let all: Vec<_> = ["a", "b", "c"].map(|name| set(name, "1", true, None)).into();
        let waves = Waves::default();
        let taken = ["a", "b", "c"].map(|name| ask(&waves, name, &all, 2));
        assert_eq!(taken, [NOW_TAKEN, NOW_TAKEN, Decision::Wait { halted_by: None }]);
    }

    #[test]
    fn a_relay_that_worked_and_fails_on_the_new_image_halts_the_others_and_is_named() {
        let broken = set("a", "2", false, Some(NOW - SignedDuration::from_secs(301)));
        let all = [broken, set("b", "1", true, None)];
        let decision = ask(&Waves::default(), "b", &all, 5);
        assert_eq!(decision, Decision::Wait { halted_by: Some("acme/a".to_owned()) });
    }

    #[test]
    fn new_and_broken_relays_take_the_new_image_and_halt_nobody() {
        let broken = set("a", "1", false, None);
        let always_broken = set("c", "2", false, None);
        let all = [broken, set("b", "1", true, None), always_broken];
        let waves = Waves::default();
        assert_eq!(ask(&waves, "a", &all, 1), Decision::Take { since: None });
        assert_eq!(ask(&waves, "new", &all, 1), Decision::Take { since: None });
        assert_eq!(ask(&waves, "b", &all, 1), NOW_TAKEN);
    }

    #[test]
    fn an_updated_relay_that_is_ready_leaves_its_place() {
        let all = [set("a", "2", true, Some(NOW)), set("b", "1", true, None)];
        assert_eq!(ask(&Waves::default(), "a", &all, 1), Decision::Take { since: None });
        assert_eq!(ask(&Waves::default(), "b", &all, 1), NOW_TAKEN);
    }

    #[test]
    fn what_relays_have_from_the_configuration_is_a_revision_and_what_they_have_not_is_none() {
        let read = |rest: &str| {
            let text = format!("relay: {{image: 'relay:1'}}\n{rest}");
            revision(&OperatorConfig::parse(&text).expect("a configuration"))
        };
        assert_eq!(read(""), read("controller: {concurrency: 3}"));
        assert_ne!(read(""), read("egress: {allowedNetworks: [10.0.0.0/8]}"));
    }
}
