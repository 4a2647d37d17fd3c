//! What others made under the name of a child stays theirs.

use kube::{
    ResourceExt,
    api::{DynamicObject, PostParams},
};
use serde_json::{Value, json};

use super::{CONFIG, Operator, children::api, connect, delete, furnish, reason};
use crate::support::{Space, with_namespace};

/// Each as harmless as it gets: nothing in it contradicts what the operator would apply.
pub fn foreign(space: &Space) -> [(&'static str, &'static str, &'static str, Value); 9] {
    let labels = json!({"app": "theirs"});
    let pod = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    [
        ("ServiceAccount", "v1", "-relay", json!({})),
        ("ConfigMap", "v1", "-relay", json!({"data": {"theirs": "1"}})),
        (
            "Secret",
            "v1",
            "-relay-tls",
            json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": "", "tls.key": ""}}),
        ),
        ("Secret", "v1", "-keyring", json!({"stringData": {"theirs": "1"}})),
        ("Secret", "v1", "-database-key", json!({"stringData": {"theirs": "1"}})),
        (
            "PersistentVolumeClaim",
            "v1",
            "-data",
            json!({"spec": {"accessModes": ["ReadWriteOncePod"], "storageClassName": space.name,
                            "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
        ("Service", "v1", "-relay", json!({"spec": {"clusterIP": "None", "ports": [{"port": 1}]}})),
        ("NetworkPolicy", "networking.k8s.io/v1", "-relay", json!({"spec": {"podSelector": {}}})),
        (
            "StatefulSet",
            "apps/v1",
            "-relay",
            json!({"spec": {"serviceName": "s", "selector": {"matchLabels": labels}, "template": pod}}),
        ),
    ]
}

#[tokio::test]
async fn an_object_of_somebody_else_is_named_and_left_alone() {
    with_namespace(|space| async move {
        furnish(&space).await;
        let mut made = Vec::new();
        for (number, (kind, version, suffix, mut object)) in foreign(&space).into_iter().enumerate() {
            let connection = format!("c{number}");
            object["metadata"] = json!({"name": format!("{connection}{suffix}"), "labels": {"team": "blue"}});
            let object: DynamicObject = serde_json::from_value(object).expect("an object");
            let api = api(&space, kind, version);
            let object = api.create(&PostParams::default(), &object).await.expect(kind);
            made.push((connection, kind, api, object));
        }
        let _operator = Operator::start(&space, CONFIG).await;
        for (connection, ..) in &made {
            connect(&space, connection).await;
        }
        for (connection, kind, api, before) in made {
            let message = reason(&space, &connection, "NameConflict").await;
            assert!(message.contains(&before.name_any()) && message.contains(kind), "{message}");
            let after = api.get(&before.name_any()).await.expect("it is still there");
            assert_eq!(after, before);
        }
        delete::<k8s_openapi::api::core::v1::ConfigMap>(&space, "c1-relay").await;
        reason(&space, "c1", "RelayStarting").await;
    })
    .await;
}
