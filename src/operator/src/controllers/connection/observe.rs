//! What keeps a relay from running, as its pod and volume claim show it.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, PersistentVolumeClaim, Pod};
use kube::{Api, Client, ResourceExt, api::ListParams};
use marketrelay_api::Reason;

use super::children::Children;
use crate::{names::Names, problem::Problem};

/// A claim that waits this long for its volume says so; a provisioner needs some seconds.
const PROVISIONING: SignedDuration = SignedDuration::from_secs(15);
/// A StatefulSet without a pod is asked for the reason after this time; its controller needs a moment.
const POD_CREATION: SignedDuration = SignedDuration::from_secs(3);
/// The longest part of a relay's last words that is shown.
const LAST_WORDS: usize = 400;

/// The first problem; `None` if the relay's pod is ready. `refusal`: why the pod could not be created.
pub fn problem(
    children: &Children,
    refusal: Option<&str>,
    connection: &str,
    now: Timestamp,
) -> Option<Problem> {
    let names = Names(connection);
    let Some(pod) = children.pod.as_deref() else {
        return Some(match refusal {
            Some(refusal) => refused(refusal),
            None => starting(&format!("pod {} isn't created yet", names.pod())),
        });
    };
    if pod.metadata.deletion_timestamp.is_some() {
        return Some(starting(&format!("pod {} is being replaced", names.pod())));
    }
    let claim = children.claim.as_deref().and_then(|claim| pending(claim, now));
    // A claim may wait for a node that the scheduler doesn't find for other reasons.
    let blames_volume = |problem: &Problem| problem.message.to_lowercase().contains("volume");
    match (unscheduled(pod), claim) {
        (Some(problem), Some(claim)) if blames_volume(&problem) => Some(claim),
        (Some(problem), _) | (None, Some(problem)) => Some(problem),
        (None, None) => container(pod),
    }
}

/// The newest reason why the StatefulSet's controller could not create the pod, if there is still no pod.
pub async fn refusal(client: &Client, children: &Children, now: Timestamp) -> kube::Result<Option<String>> {
    let (Some(set), None) = (&children.stateful_set, &children.pod) else { return Ok(None) };
    let age = set.creation_timestamp().map(|created| now.duration_since(created.0));
    if age.is_none_or(|age| age < POD_CREATION) {
        return Ok(None);
    }
    let (namespace, name) = (set.namespace().unwrap_or_default(), set.name_any());
    let fields = format!("involvedObject.kind=StatefulSet,involvedObject.name={name}");
    let events = Api::<Event>::namespaced(client.clone(), &namespace);
    let list = events.list(&ListParams::default().fields(&fields)).await?;
    let newest = list.items.into_iter().max_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    // An older refusal may be mended already: what came after it tells.
    let refused = newest.filter(|event| event.reason.as_deref() == Some("FailedCreate"));
    Ok(refused.and_then(|event| event.message))
}

fn refused(message: &str) -> Problem {
    let reason = if message.contains("exceeded quota") { Reason::QuotaExceeded } else { Reason::Forbidden };
    let mend = "raise the namespace's ResourceQuota or change the admission policy that refuses it";
    Problem::new(reason, format!("{message}: {mend}"))
}

fn starting(message: &str) -> Problem {
    Problem::new(Reason::RelayStarting, message)
}

fn pending(claim: &PersistentVolumeClaim, now: Timestamp) -> Option<Problem> {
    let phase = claim.status.as_ref()?.phase.as_deref()?;
    let age = now.duration_since(claim.creation_timestamp()?.0);
    (phase == "Pending" && age > PROVISIONING).then(|| {
        let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
        let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default();
        Problem::new(
            Reason::VolumePending,
            format!(
                "volume claim {name} gets no volume from StorageClass {class}: its provisioner says why (kubectl -n \
                 {namespace} describe persistentvolumeclaim {name})"
            ),
        )
    })
}

fn unscheduled(pod: &Pod) -> Option<Problem> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    (scheduled.status == "False").then(|| {
        let why = scheduled.message.as_deref().unwrap_or("the scheduler doesn't say why");
        Problem::new(Reason::Unschedulable, format!("pod {} can't be scheduled: {why}", pod.name_any()))
    })
}

fn container(pod: &Pod) -> Option<Problem> {
    let name = pod.name_any();
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let Some(container) = statuses.and_then(|statuses| statuses.iter().find(|status| status.name == "relay"))
    else {
        return Some(starting(&format!("pod {name} is starting")));
    };
    if container.ready {
        return None;
    }
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    let message = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
    match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "ErrImageNeverPull"
        | "InvalidImageName"
        | "ImageInspectError"
        | "RegistryUnavailable" => Some(Problem::new(
            Reason::ImageNotPullable,
            format!(
                "pod {name} can't pull image {}: {reason} {message}: correct relay.image or relay.imagePullSecrets in the \
                 operator's values",
                container.image
            ),
        )),
        "CrashLoopBackOff" => Some(crashing(pod, container)),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => Some(Problem::new(
            Reason::CrashLooping,
            format!("pod {name} can't start its container: {reason} {message}"),
        )),
        // Between two crashes the container runs for a moment; that is no news.
        _ if container.restart_count > 1 => Some(crashing(pod, container)),
        _ if container.restart_count > 0 => {
            let words = last_words(container);
            Some(starting(&format!("pod {name} was restarted{words}")))
        }
        _ => Some(starting(&format!("pod {name} is starting"))),
    }
}

fn crashing(pod: &Pod, container: &ContainerStatus) -> Problem {
    let (namespace, pod) = (pod.namespace().unwrap_or_default(), pod.name_any());
    Problem::new(
        Reason::CrashLooping,
        format!(
            "pod {pod} ends again and again{} (kubectl -n {namespace} logs {pod} --previous)",
            last_words(container)
        ),
    )
}

/// Why the last container ended: the relay's last line of log, without its wrapping.
fn last_words(container: &ContainerStatus) -> String {
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    let ended = states.into_iter().flatten().find_map(|state| state.terminated.as_ref());
    let Some(ended) = ended else { return String::new() };
    if ended.reason.as_deref() == Some("OOMKilled") {
        return ": it needs more memory than relay.resources.limits in the operator's values allows"
            .to_owned();
    }
    let line = ended.message.as_deref().unwrap_or_default().lines().rfind(|line| !line.trim().is_empty());
    let Some(line) = line else { return format!(": exit code {}", ended.exit_code) };
    let record: Option<serde_json::Value> = serde_json::from_str(line).ok();
    let error = record.as_ref().and_then(|record| record["fields"]["error"].as_str()).unwrap_or(line);
    let shown: String = error.chars().take(LAST_WORDS).collect();
    format!(": {shown}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::{super::children::backup, *};

    fn with(pod: Value, claim: Value) -> Children {
        let parse = |pod: Value| serde_json::from_value::<Pod>(pod).map(Arc::new).expect("a pod");
        Children {
            service_account: None,
            config_map: None,
            tls: None,
            claim: serde_json::from_value::<PersistentVolumeClaim>(claim).map(Arc::new).ok(),
            service: None,
            network_policy: None,
            stateful_set: None,
            pod: (!pod.is_null()).then(|| parse(pod)),
            backup: backup::Existing::default(),
        }
    }

    fn waiting(reason: &str, last: &Value) -> Value {
        json!({"metadata": {"name": "bol-relay-0"}, "status": {"containerStatuses": [{
            "name": "relay", "image": "relay:2", "imageID": "", "ready": false, "restartCount": 1,
            "state": {"waiting": {"reason": reason, "message": "as told"}}, "lastState": last}]}})
    }

    #[test]
    fn every_way_not_to_run_has_its_reason_and_says_what_to_do() {
        let claim = json!({"metadata": {"name": "bol-data", "namespace": "acme", "creationTimestamp": "2020-01-01T00:00:00Z"},
                           "spec": {"storageClassName": "fast"}, "status": {"phase": "Pending"}});
        let unscheduled = json!({"metadata": {"name": "bol-relay-0"}, "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: unbound PersistentVolumeClaims"}]}});
        let line = r#"{"level":"ERROR","fields":{"message":"ended","error":"the volume is full"}}"#;
        let ended = |message: &str, reason: &str| json!({"terminated": {"exitCode": 1, "message": message, "reason": reason}});
        let oom = ended("", "OOMKilled");
        let cases = [
            (Value::Null, Value::Null, Reason::RelayStarting, "isn't created yet"),
            (unscheduled.clone(), Value::Null, Reason::Unschedulable, "0/1 nodes are available"),
            (
                unscheduled,
                claim,
                Reason::VolumePending,
                "kubectl -n acme describe persistentvolumeclaim bol-data",
            ),
            (waiting("ImagePullBackOff", &Value::Null), Value::Null, Reason::ImageNotPullable, "relay.image"),
            (
                waiting("CrashLoopBackOff", &ended(line, "Error")),
                Value::Null,
                Reason::CrashLooping,
                ": the volume is full (",
            ),
            (waiting("CrashLoopBackOff", &oom), Value::Null, Reason::CrashLooping, "relay.resources.limits"),
            (waiting("ContainerCreating", &Value::Null), Value::Null, Reason::RelayStarting, "was restarted"),
        ];
        for (pod, claim, reason, part) in cases {
            let found = problem(&with(pod, claim), None, "bol", Timestamp::now()).expect(part);
            assert_eq!(found.reason, reason, "{found:?}");
            assert!(found.message.contains(part), "{found:?}");
        }
    }

    #[test]
    fn a_pod_that_may_not_be_created_says_why() {
        let refusal = Some("create Pod bol-relay-0 failed: exceeded quota: few");
        let found = problem(&with(Value::Null, Value::Null), refusal, "bol", Timestamp::now());
        assert_eq!(found.map(|problem| problem.reason), Some(Reason::QuotaExceeded));
    }

    #[test]
    fn a_ready_relay_has_no_problem() {
        let pod = json!({"metadata": {"name": "bol-relay-0"}, "status": {"containerStatuses": [{
            "name": "relay", "image": "relay:2", "imageID": "", "ready": true, "restartCount": 3}]}});
        assert_eq!(problem(&with(pod, Value::Null), None, "bol", Timestamp::now()), None);
    }
}
