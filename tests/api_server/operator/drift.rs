//! What others change in children is put right; what they add stays.

use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};

use super::{
    CONFIG, Operator,
    children::{APPLIED, api, child},
    connected, furnish, grant, rights,
};
use crate::{
    samples::yaml,
    support::{PLANE, configuration, wait_for, with_namespace},
};

#[tokio::test]
async fn drift_is_repaired_and_what_others_add_stays() {
    with_namespace(|space| async move {
        furnish(&space).await;
        // Where the enforcement of owner references is on, only who may delete an object can give it its owner back.
        let mut more = rights();
        let delete = r#"{"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["delete"]}"#;
        more.cluster_role.push(serde_json::from_str(delete).expect("a rule"));
        grant(&space, &space, &more).await;
        let access = configuration(&PLANE).await;
        let _operator = Operator::replica(access, &space, &space, CONFIG, "operator-0").await;
        connected(&space, "bol").await;
        let cases = [
            (APPLIED[1], "{data: {relay.yaml: theirs, extra: theirs}}", "/data/extra"),
            (APPLIED[4], "{spec: {selector: {app.kubernetes.io/instance: other}}, metadata: {annotations: {extra: theirs}}}",
             "/metadata/annotations/extra"),
            (APPLIED[0], "{automountServiceAccountToken: true, metadata: {labels: {extra: theirs}}}", "/metadata/labels/extra"),
            (APPLIED[5], "{metadata: {labels: {app.kubernetes.io/managed-by: null, extra: theirs}}}", "/metadata/labels/extra"),
            (APPLIED[3], "{metadata: {labels: {app.kubernetes.io/managed-by: Helm, extra: theirs}}}", "/metadata/labels/extra"),
            (APPLIED[6], "{metadata: {ownerReferences: null, labels: {extra: theirs}}, spec: {replicas: 0}}", "/metadata/labels/extra"),
        ];
        for (kind, drift, extra) in cases {
            let before = child(&space, "bol", kind).await;
            let drifted = api(&space, kind.0, kind.1)
                .patch(&before.name_any(), &PatchParams::default(), &Patch::Merge(yaml(drift)))
                .await
                .unwrap_or_else(|error| panic!("{kind:?} {drift}: {error}"));
            let comparable = |object: &kube::api::DynamicObject| {
                let mut value = serde_json::to_value(object).expect("a value");
                let added = value.pointer_mut(extra).map(serde_json::Value::take);
                let metadata = &mut value["metadata"];
                for field in ["managedFields", "resourceVersion", "generation"] {
                    metadata[field].take();
                }
                for field in ["labels", "annotations"] {
                    if let Some(map) = metadata[field].as_object_mut() {
                        map.remove("extra");
                    }
                    if metadata[field].as_object().is_some_and(serde_json::Map::is_empty) {
                        metadata[field].take();
                    }
                }
                if let Some(data) = value["data"].as_object_mut() {
                    data.remove("extra");
                }
                (value, added)
            };
            assert_ne!(comparable(&drifted).0, comparable(&before).0, "{drift}");
            let after = wait_for(&space, drift, async || {
                let after = comparable(&child(&space, "bol", kind).await);
                (after.0 == comparable(&before).0).then_some(after)
            })
            .await;
            assert_eq!(after.1.expect("what was added"), "theirs", "{drift}");
        }
    })
    .await;
}
