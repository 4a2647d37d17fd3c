//! Server-side apply by several managers, strictness, and null.

use kube::{
    ResourceExt,
    api::{Patch, PatchParams, ValidationDirective},
};
use serde_json::json;

use crate::{
    samples::{Differences, Kind, create, set_status, with, yaml},
    support::{Space, text, with_namespace},
};

const CONNECTION: &str =
    "{apiVersion: marketrelay.dev/v1alpha1, kind: MarketplaceConnection, metadata: {name: sample}}";

async fn apply(space: &Space, manager: &str, part: &str, status: bool) -> kube::api::DynamicObject {
    let mut object = yaml(CONNECTION);
    let fields = yaml(part);
    for (name, value) in fields.as_object().expect("fields") {
        object[name] = value.clone();
    }
    let (api, params, patch) =
        (Kind::Connection.api(space), PatchParams::apply(manager), Patch::Apply(object));
    let applied = if status {
        api.patch_status("sample", &params, &patch).await
    } else {
        api.patch("sample", &params, &patch).await
    };
    applied.unwrap_or_else(|error| panic!("{part}: {error}"))
}

#[tokio::test]
async fn two_managers_conditions_stand_side_by_side() {
    with_namespace(|space| async move {
        create(&space, Kind::Connection, "{}").await;
        let condition = |kind: &str, message: &str| {
            format!(
                "status: {{conditions: [{{type: {kind}, status: 'True', reason: Good, message: {message}, \
                 lastTransitionTime: 2026-01-01T00:00:00Z}}]}}"
            )
        };
        apply(&space, "operator", &condition("Ready", "one"), true).await;
        apply(&space, "observer", &condition("Audited", "two"), true).await;
        let last = apply(&space, "operator", &condition("Ready", "three"), true).await;
        let conditions = last.data["status"]["conditions"].as_array().expect("conditions");
        let seen: Vec<_> = conditions.iter().map(|c| (c["type"].as_str(), c["message"].as_str())).collect();
        assert_eq!(seen, [(Some("Ready"), Some("three")), (Some("Audited"), Some("two"))]);
    })
    .await;
}

#[tokio::test]
async fn two_managers_sites_are_one_set() {
    with_namespace(|space| async move {
        create(
            &space,
            Kind::Connection,
            "spec: {bol: null, amazon: {region: eu, marketplaceIds: [A1805IZSGTT6HS]}}",
        )
        .await;
        apply(&space, "germany", "spec: {amazon: {marketplaceIds: [A1PA6795UKMFR9]}}", false).await;
        apply(&space, "both", "spec: {amazon: {marketplaceIds: [A1PA6795UKMFR9, A13V1IB3VIYZZH]}}", false)
            .await;
        let last = apply(&space, "germany", "spec: {amazon: {marketplaceIds: []}}", false).await;
        let ids = &last.data["spec"]["amazon"]["marketplaceIds"];
        let mut ids: Vec<_> = ids.as_array().expect("ids").iter().filter_map(|id| id.as_str()).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["A13V1IB3VIYZZH", "A1805IZSGTT6HS", "A1PA6795UKMFR9"]);
    })
    .await;
}

#[tokio::test]
async fn applying_the_spec_again_leaves_the_status_alone() {
    with_namespace(|space| async move {
        let spec = Kind::Connection.shortest()["spec"].clone();
        let made = apply(&space, "engineer", &json!({"spec": spec}).to_string(), false).await;
        let status = "{connectionId: 3f6c, marketplace: bol, relay: {orders: 7, withPii: 3, backlog: 0}}";
        set_status(&space, Kind::Connection, &made, status).await.expect("a status");
        let again = apply(
            &space,
            "engineer",
            &json!({"spec": spec, "status": {"connectionId": "forged"}}).to_string(),
            false,
        )
        .await;
        assert_eq!(again.data["status"], yaml(status));
        assert_eq!(again.metadata.generation, made.metadata.generation);
    })
    .await;
}

#[tokio::test]
async fn unknown_fields_are_refused_by_name() {
    with_namespace(|space| async move {
        let strict = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            dry_run: true,
            ..PatchParams::apply("engineer")
        };
        let mut differences = Differences::default();
        for (kind, change, part) in [
            (
                Kind::Connection,
                "spec: {pollIntervall: 1m}",
                "spec.pollIntervall: field not declared in schema",
            ),
            (
                Kind::Connection,
                "spec: {storage: {class: fast}}",
                "spec.storage.class: field not declared in schema",
            ),
            (
                Kind::Policy,
                "spec: {backupsRetention: 30d}",
                "spec.backupsRetention: field not declared in schema",
            ),
        ] {
            let object = with(kind, change);
            let answer = kind.api(&space).patch(&object.name_any(), &strict, &Patch::Apply(&object)).await;
            differences.note(change, Some(part), answer);
        }
        differences.none();
        // An object without fields says nothing to a server-side apply, so this is about the usual one.
        let file = std::env::temp_dir().join(format!("{}.json", space.name));
        for field in ["pollIntervall", "bol.region", "destination.webhook.urll"] {
            let nested = field.rsplit('.').fold("x".to_owned(), |value, name| format!("{{{name}: {value}}}"));
            let object = with(Kind::Connection, &format!("spec: {nested}"));
            std::fs::write(&file, serde_json::to_vec(&object).expect("JSON")).expect("a file");
            let answer = text(&space.kubectl(&["apply", "--filename", &file.to_string_lossy()]));
            assert!(answer.contains(&format!(r#"unknown field "spec.{field}""#)), "{answer}");
        }
        std::fs::remove_file(&file).expect("the file is there");
    })
    .await;
}

#[tokio::test]
async fn null_means_absent() {
    with_namespace(|space| async move {
        let mut object = with(Kind::Connection, "{}");
        for field in ["amazon", "ebay", "retentionPolicyRef", "storage", "pollInterval", "suspend"] {
            object.data["spec"][field] = serde_json::Value::Null;
        }
        object.data["spec"]["destination"]["webhook"]["batch"] = serde_json::Value::Null;
        let made = Kind::Connection.api(&space).create(&kube::api::PostParams::default(), &object).await;
        let made = made.expect("nulls are dropped");
        let spec = made.data["spec"].as_object().expect("a spec");
        assert!(
            !["amazon", "ebay", "retentionPolicyRef"].iter().any(|field| spec.contains_key(*field)),
            "{spec:?}"
        );
        assert_eq!((&spec["storage"], &spec["pollInterval"]), (&yaml("{size: 1Gi}"), &json!("1m")));
    })
    .await;
}
