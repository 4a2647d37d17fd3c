//! A new relay image reaches twenty connections in waves, and halts where it fails.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

use super::{Operator, audit, connect, furnish, reason};
use crate::support::{Space, wait_for, with_namespace};

const CONNECTIONS: usize = 20;
const WAVE: usize = 4;
const HALT: u32 = 4;

fn config(version: u32) -> String {
    format!(
        "{{relay: {{image: 'registry.example/relay:{version}'}}, controller: {{statusIntervalSeconds: 5}},
          rollout: {{maxUpdating: {WAVE}, haltAfterSeconds: {HALT}}}}}"
    )
}

async fn sets(space: &Space) -> Vec<StatefulSet> {
    space.api().list(&ListParams::default()).await.expect("StatefulSets").items
}

/// As the controller does when the newest pod is ready.
async fn become_ready(space: &Space, set: &StatefulSet) {
    let status = json!({"status": {"observedGeneration": set.metadata.generation, "replicas": 1,
        "readyReplicas": 1, "updatedReplicas": 1}});
    let api = space.api::<StatefulSet>();
    let patched = api.patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(status)).await;
    patched.expect("a status");
}

fn has_new_image(set: &StatefulSet) -> bool {
    let pod = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).expect("a pod");
    pod.containers[0].image.as_deref() == Some("registry.example/relay:2")
}

/// Those that have the new image and aren't ready with it: never more than a wave.
async fn updating(space: &Space) -> Vec<StatefulSet> {
    let is_ready = |set: &StatefulSet| {
        let observed = set.status.as_ref().and_then(|status| status.observed_generation);
        observed == set.metadata.generation
    };
    let all = sets(space).await;
    let updating: Vec<_> = all.into_iter().filter(|set| has_new_image(set) && !is_ready(set)).collect();
    assert!(updating.len() <= WAVE, "{} at once", updating.len());
    updating
}

#[tokio::test]
async fn an_image_rolls_in_waves_halts_at_a_relay_that_fails_and_goes_on_once_that_is_mended() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let operator = Operator::start(&space, &config(1)).await;
        let names: Vec<_> = (0..CONNECTIONS).map(|number| format!("c{number}")).collect();
        for name in &names {
            connect(&space, name).await;
        }
        for name in &names {
            reason(&space, name, "RelayStarting").await;
        }
        for set in sets(&space).await {
            become_ready(&space, &set).await;
        }
        operator.stop().await;

        let _operator = Operator::start(&space, &config(2)).await;
        let first = wait_for(&space, "a full wave", async || {
            Some(updating(&space).await).filter(|updating| updating.len() == WAVE)
        })
        .await;
        let began = Instant::now();
        let limit = Duration::from_secs(u64::from(HALT) + 1);
        wait_for(&space, "it takes too long", async || (began.elapsed() > limit).then_some(())).await;
        for set in &first[1..] {
            become_ready(&space, set).await;
        }
        let looks = audit::looks(&space);
        wait_for(&space, "two looks at each", async || {
            let still: BTreeSet<_> = updating(&space).await.iter().map(ResourceExt::name_any).collect();
            assert_eq!(still, [first[0].name_any()].into(), "it halts");
            (audit::looks(&space) >= looks + 2 * CONNECTIONS).then_some(())
        })
        .await;
        let new = sets(&space).await.iter().filter(|set| has_new_image(set)).count();
        assert_eq!(new, WAVE, "it halts");

        become_ready(&space, &first[0]).await;
        wait_for(&space, "the end of the roll-out", async || {
            for set in updating(&space).await {
                become_ready(&space, &set).await;
            }
            let all = sets(&space).await;
            (all.len() == CONNECTIONS && all.iter().all(has_new_image)).then_some(())
        })
        .await;
    })
    .await;
}
