//! The resources that the tests vary, and how they are sent.

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use marketrelay_api::{ConnectionRecord, ErasureRequest, MarketplaceConnection, RetentionPolicy};
use serde_json::{Value, json};

use crate::support::Space;

/// Which kind a test is about.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Connection,
    Policy,
    Erasure,
    Record,
}

impl Kind {
    pub fn api(self, space: &Space) -> Api<DynamicObject> {
        Api::namespaced_with(space.client.clone(), &space.name, &self.resource())
    }

    fn resource(self) -> ApiResource {
        match self {
            Self::Connection => ApiResource::erase::<MarketplaceConnection>(&()),
            Self::Policy => ApiResource::erase::<RetentionPolicy>(&()),
            Self::Erasure => ApiResource::erase::<ErasureRequest>(&()),
            Self::Record => ApiResource::erase::<ConnectionRecord>(&()),
        }
    }

    /// The shortest that is accepted.
    pub fn shortest(self) -> Value {
        let resource = self.resource();
        let spec = match self {
            Self::Connection => json!({
                "bol": {},
                "credentialsSecretRef": {"name": "bol-credentials"},
                "destination": {"webhook": {
                    "url": "https://erp.acme.example/orders", "signingSecretRef": {"name": "erp-signing"},
                }},
            }),
            Self::Policy => json!({}),
            Self::Erasure => json!({"subject": {"secretRef": {"name": "case-4711"}}}),
            Self::Record => {
                json!({"namespace": "acme", "connection": "bol", "marketplace": "bol", "volume": "bol-data"})
            }
        };
        json!({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "sample"}, "spec": spec})
    }
}

/// A change in YAML, as a merge patch of the whole object: null removes.
pub fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The shortest resource of a kind with a change.
pub fn with(kind: Kind, change: &str) -> DynamicObject {
    let mut object = kind.shortest();
    merge(&mut object, yaml(change));
    serde_json::from_value(object).expect("an object")
}

fn merge(target: &mut Value, change: Value) {
    let Value::Object(changes) = change else {
        *target = change;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(fields) = target else { return };
    for (name, value) in changes {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// What the API server answers to a creation that isn't kept.
pub async fn try_create(space: &Space, kind: Kind, change: &str) -> Result<DynamicObject, kube::Error> {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    kind.api(space).create(&dry, &with(kind, change)).await
}

/// What the API server answers to a change that isn't kept.
pub async fn try_change(
    space: &Space,
    kind: Kind,
    name: &str,
    change: &str,
) -> Result<DynamicObject, kube::Error> {
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    kind.api(space).patch(name, &dry, &Patch::Merge(yaml(change))).await
}

/// Makes the shortest resource of a kind with a change.
pub async fn create(space: &Space, kind: Kind, change: &str) -> DynamicObject {
    let made = kind.api(space).create(&PostParams::default(), &with(kind, change)).await;
    made.unwrap_or_else(|error| panic!("{change}: {error}"))
}

/// Sets a status as the operator does.
pub async fn set_status(
    space: &Space,
    kind: Kind,
    of: &DynamicObject,
    status: &str,
) -> Result<DynamicObject, kube::Error> {
    let patch = Patch::Merge(json!({"status": yaml(status)}));
    kind.api(space).patch_status(&of.name_any(), &PatchParams::default(), &patch).await
}

/// A rule's refusal shows the type of the value, which helps nobody and differs between versions of Kubernetes.
fn without_types(message: &str) -> String {
    let types = ["object", "string", "array", "integer"].map(|name| format!("Invalid value: \"{name}\": "));
    types.iter().fold(message.to_owned(), |message, part| message.replace(part, "Invalid value: "))
}

/// Compares answers with the telling part of each refusal; `None` is to be accepted. All differences at once.
#[derive(Default)]
pub struct Differences(Vec<String>);

impl Differences {
    pub fn note(
        &mut self,
        promise: &str,
        expected: Option<&str>,
        answer: Result<DynamicObject, kube::Error>,
    ) {
        let refusal = answer.err().map(|error| match error {
            kube::Error::Api(status) => without_types(&status.message),
            other => panic!("{promise}: {other}"),
        });
        let as_expected = match (expected, &refusal) {
            (Some(part), Some(message)) => message.contains(part),
            (expected, refusal) => expected.is_none() && refusal.is_none(),
        };
        if !as_expected {
            let answered = refusal.as_deref().unwrap_or("accepted");
            self.0.push(format!(
                "{promise}\n  expected: {}\n  answered: {answered}",
                expected.unwrap_or("accepted")
            ));
        }
    }

    pub fn none(self) {
        assert!(self.0.is_empty(), "{} differ:\n{}", self.0.len(), self.0.join("\n"));
    }
}
