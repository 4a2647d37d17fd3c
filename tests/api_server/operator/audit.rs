//! What the operator asked the API server for, as that wrote it down.

use std::{collections::BTreeSet, fs};

use serde::Deserialize;

use super::ACCOUNT;
use crate::support::{PLANE, Space};

/// A request that was answered, or a watch that began.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    pub verb: String,
    stage: String,
    user: User,
    #[serde(default)]
    pub object_ref: Object,
    #[serde(default)]
    response_status: Response,
}

#[derive(Clone, Debug, Deserialize)]
struct User {
    username: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Object {
    pub api_group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Response {
    code: Option<u16>,
}

impl Request {
    /// Of an object; the election's aside, which goes on and on.
    pub fn is_write(&self) -> bool {
        ["create", "update", "patch", "delete", "deletecollection"].contains(&self.verb.as_str())
            && self.object_ref.resource != "leases"
    }

    pub fn made_something(&self) -> bool {
        self.response_status.code == Some(201)
    }

    /// API group, resource and verb, as a rule names them.
    pub fn right(&self) -> (String, String, String) {
        let Object { api_group, resource, subresource, .. } = &self.object_ref;
        let resource = match subresource.as_str() {
            "" => resource.clone(),
            subresource => format!("{resource}/{subresource}"),
        };
        (api_group.clone(), resource, self.verb.clone())
    }
}

/// All requests of the operator that lives in a namespace, oldest first.
pub fn requests(home: &Space) -> Vec<Request> {
    let user = format!("system:serviceaccount:{}:{ACCOUNT}", home.name);
    let text = fs::read_to_string(&PLANE.audit_log).expect("the audit log");
    let ours = text.lines().filter(|line| line.contains(&user));
    let requests = ours.filter_map(|line| serde_json::from_str::<Request>(line).ok());
    let counts = |request: &Request| {
        request.user.username == user && (request.stage == "ResponseComplete" || request.verb == "watch")
    };
    requests.filter(counts).collect()
}

/// The writes among them.
pub fn writes(home: &Space) -> Vec<String> {
    let requests = requests(home);
    let shown = |request: &Request| {
        let (group, resource, verb) = request.right();
        format!("{verb} {resource}.{group} {}", request.object_ref.name)
    };
    requests.iter().filter(|request| request.is_write()).map(shown).collect()
}

/// How often it asked why a relay has no pod: once in each reconcile of a connection whose children exist.
pub fn looks(home: &Space) -> usize {
    let asks = |request: &&Request| request.verb == "list" && request.object_ref.resource == "events";
    requests(home).iter().filter(asks).count()
}

/// What was used, as rules name it.
pub fn used(requests: &[Request]) -> BTreeSet<(String, String, String)> {
    let made = requests.iter().filter(|request| request.made_something()).map(|request| {
        let (group, resource, _) = request.right();
        (group, resource, "create".to_owned())
    });
    requests.iter().map(Request::right).chain(made).collect()
}
